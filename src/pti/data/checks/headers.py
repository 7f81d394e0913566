"""What the headers say of sizes, pixel sizes and types, against each other and against the configuration."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pti.data.checks.findings import WHOLE_SET, Finding, once_for_all, shown
from pti.data.layouts import Pair
from pti.data.tif import TifHeader

PIXEL_TOLERANCE = 0.01  # a tag stores pixels per centimetre as a fraction: 0.1 % is lost in rounding


def check_sizes(
    pairs: list[Pair], headers: dict[Path, TifHeader], root: Path, pixel_mm: float | None
) -> list[Finding]:
    """Findings on the headers.

    Args:
        headers: of the usable files.
        root: what the findings name files relative to.
        pixel_mm: expected edge of a pixel in millimetres; None expects nothing.
    """
    return [*_pairs(pairs, headers, root), *_pixel_sizes(headers, root, pixel_mm), *_types(headers, root)]


def _pairs(pairs: list[Pair], headers: dict[Path, TifHeader], root: Path) -> list[Finding]:
    """Pairs of unequal size or pixel size."""
    findings = []
    for pair in pairs:
        if pair.condition not in headers or pair.target not in headers:
            continue
        condition, target = headers[pair.condition], headers[pair.target]
        name, other = shown(condition.path, root), shown(target.path, root)
        if condition.shape != target.shape:
            what = f"measures {_by(condition.shape)}, its target {_by(target.shape)} pixels"
            fix = "Export both on the same grid: nothing tells how one lies on the other."
            findings.append(Finding("error", name, "size", what, fix, (name, other)))
        elif _differ(condition.pixel_mm, target.pixel_mm):
            what = f"says {condition.pixel_mm:.4g} mm a pixel, its target {target.pixel_mm:.4g} mm"
            fix = "Correct the resolution tag, or resample one of the two."
            findings.append(Finding("error", name, "pixel_size", what, fix, (name, other)))
    return findings


def _pixel_sizes(headers: dict[Path, TifHeader], root: Path, pixel_mm: float | None) -> list[Finding]:
    """Resolution tags that contradict data.pixel_mm or the rest of the set."""
    tagged = {path: header.pixel_mm for path, header in headers.items() if header.pixel_mm is not None}
    if not tagged:
        return []
    usual = Counter(round(size, 4) for size in tagged.values()).most_common(1)[0][0]
    findings = []
    if _differ(usual, pixel_mm):
        what = f"the files say {usual:.4g} mm a pixel, data.pixel_mm={pixel_mm:.4g}"
        fix = f"Measures in mm use the files' own; if that is right, set data.pixel_mm={usual:.4g}."
        findings.append(Finding("warning", WHOLE_SET, "pixel_size", what, fix))
    odd = [
        Finding(
            "warning",
            shown(path, root),
            "pixel_size",
            f"says {size:.4g} mm a pixel, most others {usual:.4g} mm",
            "Correct the resolution tag, or resample the image.",
        )
        for path, size in tagged.items()
        if _differ(size, usual)
    ]
    return findings + once_for_all(odd, len(tagged), "Resample all images to one pixel size.")


def _types(headers: dict[Path, TifHeader], root: Path) -> list[Finding]:
    """A few files stored in another type than the rest: probably in other units."""
    types = Counter(header.dtype.name for header in headers.values())
    if len(types) < 2:
        return []
    usual = types.most_common(1)[0][0]
    odd = [
        Finding(
            "warning",
            shown(path, root),
            "mixed_types",
            f"is stored as {header.dtype.name}, most others as {usual}",
            "Export all images in the same units and type.",
        )
        for path, header in headers.items()
        if header.dtype.name != usual
    ]
    return once_for_all(odd, len(headers))


def _by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _differ(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one / other - 1) > PIXEL_TOLERANCE
