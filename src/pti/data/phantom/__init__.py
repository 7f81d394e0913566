"""The phantom: a data set of drawn mandible cross-sections whose bone is known exactly.

The parts: `phantom_anatomy` draws the parameters and holds the law of the loss of height, `phantom_shapes`
the outlines, `phantom_texture` the trabeculae, `phantom_section` paints a pair, `phantom_faults` breaks files
on request.
"""

import csv
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pti.common.errors import UsageError
from pti.common.progress import track
from pti.data import tif
from pti.data.phantom import shapes
from pti.data.phantom.anatomy import CHANCE, Section, draw_patient
from pti.data.phantom.faults import write_broken
from pti.data.phantom.folder import MARKER, RECIPE, check_settings, holds_phantom, inventory
from pti.data.phantom.section import draw_section
from pti.data.phantom.texture import textures
from pti.metrics.morphometry import FRACTIONS, HEIGHTS_MM

SITES = ("HA", "MB", "RV")


@dataclass(frozen=True)
class PhantomPair:
    """One drawn pair: raw float32 (H, W) = (HU + 2000) · gain, background 0; and its row of truth.csv."""

    name: str
    dente: np.ndarray
    edente: np.ndarray
    truth: dict[str, Any]


def make_phantom(
    output_dir: str | Path,
    patients: int = 500,
    slices: int = 1,
    image_size: int = 256,
    pixel_mm: float = 0.15,
    seed: int = 0,
    broken: bool = False,
) -> bool:
    """Write the phantom: ``dente/``, ``edente/``, ``truth.csv``, ``phantom.json`` (and ``broken.csv``).

    Everything is drawn in a folder beside ``output_dir`` and renamed into place: the data set is there whole
    or not at all, also when the process is killed or two make it at once. Equal settings give equal bytes.

    Args:
        output_dir: new or empty (hidden entries don't count).
        patients: number of patients; a patient looks the same however many there are.
        slices: neighbouring slices of each patient, 0.5 mm apart.
        image_size: rows and columns, 64 to 512, a multiple of 8; the same anatomy at any size.
        pixel_mm: edge of a pixel at 256 rows, mm; an image of S rows has pixels of ``pixel_mm · 256 / S``.
        seed: seed of everything.
        broken: add patients whose files are deliberately broken, and ``broken.csv``, which lists them.

    Returns:
        False when ``output_dir`` already held exactly this phantom.

    Raises:
        UsageError: a setting is out of range, or ``output_dir`` holds something else.
    """
    settings = {
        "recipe": RECIPE,
        "patients": patients,
        "slices": slices,
        "image_size": image_size,
        "pixel_mm": pixel_mm,
        "seed": seed,
        "broken": broken,
    }
    folder = Path(output_dir).resolve()
    check_settings(patients, slices, image_size, pixel_mm, seed)
    if holds_phantom(folder, settings):
        return False
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.part")
    beside.mkdir(parents=True)
    try:
        _write(beside, settings)
        return _move_into_place(beside, folder, settings)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def draw_pairs(
    seed: int, patient: int, slices: int, image_size: int, pixel_mm: float
) -> Iterator[PhantomPair]:
    """Draw the pairs of one patient.

    The patient's scanner has a gain within ±1.5 %; each of the images has acquisition noise of its own (14
    HU); else the undisturbed bone of a pair is the same to the bit of the drawing.

    Args:
        seed: seed of the data set.
        patient: number of the patient, from 0.
        slices: how many.
        image_size: rows and columns.
        pixel_mm: edge of a pixel at 256 rows, mm.
    """
    edge = pixel_mm * 256 / image_size
    sections = draw_patient(seed, patient, slices)
    rng = np.random.default_rng([seed, patient, 1])
    gain = np.float32(1 + 0.015 * rng.uniform(-1, 1))
    acquired = f"{SITES[rng.integers(len(SITES))]}_{rng.integers(2018, 2026)}_{rng.integers(1, 13):02d}"
    fields = textures(rng, slices, image_size, pixel_mm, sections[0]["strut_mm"], sections[0]["strut_angle"])
    for index, (section, texture) in enumerate(zip(sections, fields, strict=True)):
        name = f"{1000 + index}_{acquired}_{patient + 1:03d}"
        dente, edente = draw_section(section, texture, image_size, edge)
        truth = {"name": name, "patient": f"{patient + 1:03d}", "pixel_mm": edge, **true_sizes(section, edge)}
        parameters = {"tooth": section.tooth, "gain": float(gain), **section.parameters}
        yield PhantomPair(name, gain * dente, gain * edente, truth | parameters)


def true_sizes(section: Section, pixel_mm: float) -> dict[str, float]:
    """The sizes that `pti.metrics.morphometry` should find, by its names; NaN for a width above the crest.

    ``height_mean_mm`` and ``height_std_mm`` describe the normal distribution of the edente height given the
    dente image. ``dente_height`` reaches to the tip of the crown, ``dente_crest_height`` to the lingual crest
    of the bone.
    """
    height = section.healed_height
    lengths = {"height": height}
    lengths |= {
        f"width_{name}": shapes.jaw_width(section, share * height) for name, share in FRACTIONS.items()
    }
    lengths |= {f"width_at_{mm}mm": shapes.jaw_width(section, mm) or np.nan for mm in HEIGHTS_MM}
    lengths["dente_height"] = shapes.crown_tip(section)
    lengths["dente_crest_height"] = section["crest_height"]
    both = {}
    for name, length in lengths.items():
        both[f"{name}_px"], both[f"{name}_mm"] = length / pixel_mm, length
    expected = section.expected_loss
    return both | {
        "loss_mm": section["crest_height"] - height,
        "height_mean_mm": section["crest_height"] - expected,
        "height_std_mm": CHANCE * expected,
    }


def _write(folder: Path, settings: Mapping[str, Any]) -> None:
    for name in ("dente", "edente"):
        (folder / name).mkdir()
    drawing = (settings["slices"], settings["image_size"], settings["pixel_mm"])
    rows = []
    for patient in track(range(settings["patients"]), "Drawing the phantom"):
        for pair in draw_pairs(settings["seed"], patient, *drawing):
            for name, image in (("dente", pair.dente), ("edente", pair.edente)):
                tif.write(folder / name / f"{pair.name}.tif", image, pair.truth["pixel_mm"])
            rows.append(pair.truth)
    _write_csv(folder / "truth.csv", rows)
    if settings["broken"]:
        healthy = (
            next(draw_pairs(settings["seed"], patient, 1, *drawing[1:]))
            for patient in range(settings["patients"], 10**9)
        )
        _write_csv(folder / "broken.csv", write_broken(folder, rows[0]["name"], healthy))
    marker = {"settings": dict(settings), "inventory": inventory(folder)}
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _text(value) for key, value in row.items()} for row in rows)


def _text(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _move_into_place(beside: Path, folder: Path, settings: Mapping[str, Any]) -> bool:
    inside = folder.iterdir() if folder.is_dir() else ()
    hidden = [path.name for path in inside if path.name.startswith(".")]
    try:
        for name in hidden:
            os.rename(folder / name, beside / name)
        os.replace(beside, folder)
    except OSError as error:
        for name in hidden:
            if (beside / name).exists():
                os.rename(beside / name, folder / name)
        # Somebody else was faster, or put something there in the meantime.
        if holds_phantom(folder, settings):
            return False
        raise UsageError(f"{folder}: the finished phantom can't be put there ({error.strerror})") from error
    return True
