"""Folder of a phantom: checks of the settings and of what the folder holds, without importing numpy."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pti.common.errors import UsageError
from pti.common.nested import flatten
from pti.data.phantom.style import DEFAULT, Style

MARKER = "phantom.json"
RECIPE = 1
"""Version of the drawing, raised whenever the same settings would give different images."""

PIXEL_SIZES_MM = (38.4 / 256, 80.0 / 256)
"""Pixel sizes at 256 rows for which the jaw fits into the image and stays large enough."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings out of range.

    Raises:
        UsageError: a number is out of range; the message names it.
    """
    limits = {"patients": (1, 10_000), "slices": (1, 100), "image_size": (64, 512), "seed": (0, 2**63 - 1)}
    for name, (low, high) in limits.items():
        if not low <= settings[name] <= high:
            raise UsageError(f"{name}={settings[name]}: expected a whole number from {low} to {high}.")
    image_size, pixel_mm = settings["image_size"], settings["pixel_mm"]
    if image_size % 8:
        raise UsageError(f"image_size={image_size}: expected a multiple of 8. Use {image_size // 8 * 8}.")
    low, high = PIXEL_SIZES_MM
    if not low - 1e-9 <= pixel_mm <= high:
        raise UsageError(f"pixel_mm={pixel_mm}: expected {low:g} to {high:g} mm, so that the jaw fits.")
    field = settings.get("style", {}).get("field", 1.0)
    if pixel_mm * field > high:
        fix = f"Set style.field={int(100 * high / pixel_mm) / 100:g}."
        raise UsageError(f"style.field={field:g} with pixel_mm={pixel_mm}: the jaw would be too small. {fix}")


def all_settings(settings: Mapping[str, Any], style: Style | None) -> dict[str, Any]:
    """Add a style, unless it is the default: as it was before styles existed."""
    return {**settings} | ({} if style in (None, DEFAULT) else {"style": asdict(style)})


def holds_phantom(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Return True if the folder holds exactly this phantom, False if it is free to receive it.

    A folder is free if it doesn't exist or holds only hidden entries. An existing phantom is recognised by
    its settings and by the number and total size of its images.

    Raises:
        UsageError: the folder holds something else.
    """
    fix = "Set output_dir to a folder that doesn't exist yet, or delete this one first."
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, expected a folder. {fix}")
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        return False
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        held, held_files = dict(marker["settings"]), marker["inventory"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder} is not empty and holds no complete phantom. {fix}") from None
    held, expected = flatten(held), flatten({"recipe": RECIPE, **settings})
    keys = [key for key in expected | held if held.get(key) != expected.get(key) and key != "style"]
    differing = [f"{key}={held.get(key)}" for key in keys]
    if differing:
        raise UsageError(f"{folder} holds another phantom ({', '.join(differing[:3])}). {fix}")
    if held_files != inventory(folder):
        raise UsageError(f"{folder} holds this phantom, but files were added, changed or deleted. {fix}")
    return True


def inventory(folder: Path) -> dict[str, list[int]]:
    """Count the entries of ``dente`` and ``edente`` and sum their bytes; links are not followed."""
    counts = {}
    for name in ("dente", "edente"):
        entries = list((folder / name).iterdir()) if (folder / name).is_dir() else []
        counts[name] = [len(entries), sum(path.lstat().st_size for path in entries if not path.is_dir())]
    return counts
