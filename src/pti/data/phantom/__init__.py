"""The phantom: a data set of drawn mandible cross-sections whose bone is known exactly.

`anatomy` draws the parameters of a patient and defines the loss of height, `shapes` computes the outlines,
`texture` the trabeculae, `section` draws an image pair from them, `pairs` draws the pairs of a patient with
their true sizes, and `faults` breaks files on request.
"""

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from pti.common.errors import UsageError
from pti.data.phantom.folder import MARKER, RECIPE, all_settings, check_settings, holds_phantom, inventory
from pti.data.phantom.style import Style


def make_phantom(
    output_dir: str | Path,
    patients: int = 500,
    slices: int = 1,
    image_size: int = 256,
    pixel_mm: float = 0.15,
    seed: int = 0,
    broken: bool = False,
    style: Style | None = None,
) -> bool:
    """Write the phantom: ``dente/``, ``edente/``, ``truth.csv``, ``phantom.json`` (and ``broken.csv``).

    Everything is drawn in a folder beside ``output_dir`` and renamed into place: the data set appears
    complete or not at all, even if the process is killed or two processes make it at once. Equal settings
    give equal bytes.

    Args:
        output_dir: new or empty folder; hidden entries don't count.
        patients: number of patients; a patient looks the same however many there are.
        slices: neighbouring slices of each patient, 0.5 mm apart.
        image_size: rows and columns, 64 to 512, a multiple of 8; the anatomy is the same at any size.
        pixel_mm: pixel size at 256 rows in mm; an image of S rows has pixels of ``pixel_mm · 256 / S``.
        seed: seed of all random numbers.
        broken: add patients with deliberately broken files, and ``broken.csv``, which lists them.
        style: the scanner, and the kind of jaws; None for the default.

    Returns:
        False if ``output_dir`` already held exactly this phantom.

    Raises:
        UsageError: a setting is out of range, or ``output_dir`` holds something else.
    """
    settings = {"patients": patients, "slices": slices, "image_size": image_size}
    settings |= {"pixel_mm": pixel_mm, "seed": seed, "broken": broken}
    settings = all_settings(settings, style)
    folder = Path(output_dir).resolve()
    check_settings(settings)
    if holds_phantom(folder, settings):
        return False
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.part")
    beside.mkdir(parents=True)
    try:
        _write(beside, settings)
        return _move_into_place(beside, folder, settings)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write(folder: Path, settings: Mapping[str, Any]) -> None:
    # Imported here, so that the command line can check settings and folder without numpy.
    from pti.common.progress import track
    from pti.common.tables import write_csv
    from pti.data.phantom.faults import write_broken
    from pti.data.phantom.pairs import draw_pairs, write_pair

    for name in ("dente", "edente"):
        (folder / name).mkdir()
    patients, slices, seed = settings["patients"], settings["slices"], settings["seed"]
    scale = (settings["image_size"], settings["pixel_mm"], Style(**settings.get("style", {})))
    rows = []
    for patient in track(range(patients), "Drawing the phantom"):
        for pair in draw_pairs(seed, patient, slices, *scale):
            write_pair(folder, pair)
            cells = pair.truth.items()
            rows.append({key: f"{cell:.6g}" if isinstance(cell, float) else cell for key, cell in cells})
    write_csv(folder / "truth.csv", None, rows)
    if settings["broken"]:
        healthy = (next(draw_pairs(seed, patient, 1, *scale)) for patient in count(patients))
        write_csv(folder / "broken.csv", None, write_broken(folder, rows[0]["name"], healthy))
    marker = {"settings": {"recipe": RECIPE, **settings}, "inventory": inventory(folder)}
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def _move_into_place(beside: Path, folder: Path, settings: Mapping[str, Any]) -> bool:
    """Move the phantom to ``folder`` and keep hidden entries there; return False if it held one already."""
    entries = folder.iterdir() if folder.is_dir() else ()
    hidden = [path.name for path in entries if path.name.startswith(".")]
    try:
        for name in hidden:
            os.rename(folder / name, beside / name)
        os.replace(beside, folder)
    except OSError as error:
        for name in hidden:
            if (beside / name).exists():
                os.rename(beside / name, folder / name)
        # Another process finished first, or the folder was filled in the meantime.
        if holds_phantom(folder, settings):
            return False
        raise UsageError(f"{folder}: the phantom can't be moved there ({error.strerror}).") from error
    return True
