"""Whether a folder may receive a phantom, or holds it already. Light: imports no numerics."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pti.common.errors import UsageError

MARKER = "phantom.json"
RECIPE = 1
"""Raised whenever the same settings would draw other images."""

IMAGE_SIZES = (64, 512)
FIELD_MM = (38.4, 80.0)


def check_settings(patients: int, slices: int, image_size: int, pixel_mm: float, seed: int) -> None:
    """Refuse settings that no phantom can be drawn with.

    Raises:
        UsageError: a number is out of its range; the message names it.
    """
    for name, value, low, high in (
        ("patients", patients, 1, 10_000),
        ("slices", slices, 1, 100),
        ("image_size", image_size, *IMAGE_SIZES),
        ("seed", seed, 0, 2**63 - 1),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name}={value}: expected a whole number from {low} to {high}")
    if image_size % 8:
        raise UsageError(f"image_size={image_size}: expected a multiple of 8; take {image_size // 8 * 8}")
    low, high = (side / 256 for side in FIELD_MM)
    if not low - 1e-9 <= pixel_mm <= high:
        raise UsageError(f"pixel_mm={pixel_mm}: expected {low:g} to {high:g} mm, so that the jaw fits in")


def holds_phantom(folder: Path, settings: Mapping[str, Any]) -> bool:
    """True when the folder holds exactly this phantom, False when it is free for it.

    A folder is free when it doesn't exist or holds nothing but hidden entries. The phantom that is there is
    compared by its settings and by the names and sizes of its images.

    Raises:
        UsageError: the folder holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not visible(folder)):
        return False
    fix = "Give an output_dir that doesn't exist yet, or delete this one first"
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, expected a folder. {fix}.")
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        there, files = dict(found["settings"]), found["inventory"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder} is not empty and holds no complete phantom. {fix}.") from None
    changed = [f"{key}={there.get(key)}" for key, value in settings.items() if there.get(key) != value]
    if changed:
        raise UsageError(f"{folder} holds another phantom ({', '.join(changed)}). {fix}.")
    if files != inventory(folder):
        raise UsageError(f"{folder} holds this phantom, but files were added, changed or deleted. {fix}.")
    return True


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, without hidden entries."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def inventory(folder: Path) -> dict[str, list[int]]:
    """For ``dente`` and ``edente``: number of entries and sum of their bytes (links are not followed)."""
    result = {}
    for name in ("dente", "edente"):
        entries = list((folder / name).iterdir()) if (folder / name).is_dir() else []
        result[name] = [len(entries), sum(path.lstat().st_size for path in entries if not path.is_dir())]
    return result
