"""Checks of image sizes, pixel sizes and types, from the file headers alone."""

from pathlib import Path
from statistics import mode

from pti.data.checks.findings import WHOLE_SET, Finding, merge_widespread, relative_name
from pti.data.layouts import Pair
from pti.data.tif import TifHeader
from pti.data.tif.checks import PIXEL_TOLERANCE

DEFAULT_PIXEL_MM = 0.15  # data.pixel_mm where nobody sets it; other sizes in the files don't contradict it


def check_headers(
    pairs: list[Pair], headers: dict[Path, TifHeader], root: Path, pixel_mm: float | None
) -> list[Finding]:
    """Compare the headers within each pair, with each other and with the configuration.

    Args:
        pairs: the pairs of the data set, without their unusable files.
        headers: headers of the usable files.
        root: folder that the findings name files relative to.
        pixel_mm: expected pixel size in millimetres; None expects nothing.
    """
    return [
        *_check_pairs(pairs, headers, root),
        *_check_pixel_sizes(headers, root, pixel_mm),
        *_check_types(headers, root),
    ]


def _check_pairs(pairs: list[Pair], headers: dict[Path, TifHeader], root: Path) -> list[Finding]:
    """Report pairs whose two images differ in size or pixel size."""
    findings = []
    for pair in pairs:
        if len(pair.files) < 2:
            continue
        condition, target = (headers[path] for path in pair.files.values())
        names = tuple(relative_name(path, root) for path in pair.files.values())
        if condition.shape != target.shape:
            what = "has {} × {} pixels, its target {} × {}".format(*condition.shape, *target.shape)
            fix = "Export both images on the same grid: their relative position is unknown."
            findings.append(Finding("error", names[0], "size", what, fix, names))
        elif _differ(condition.pixel_mm, target.pixel_mm):
            what = f"has {condition.pixel_mm:.4g} mm pixels, its target {target.pixel_mm:.4g} mm"
            fix = "Correct the resolution tag, or resample one of the two images."
            findings.append(Finding("error", names[0], "pixel_size", what, fix, names))
    return findings


def _check_pixel_sizes(headers: dict[Path, TifHeader], root: Path, pixel_mm: float | None) -> list[Finding]:
    """Report sizes that contradict data.pixel_mm or the rest of the set, and files that state none."""
    tagged = {path: header.pixel_mm for path, header in headers.items() if header.pixel_mm is not None}
    findings = []
    if pixel_mm and len(tagged) < len(headers):
        count = f"{len(headers) - len(tagged)} of {len(headers)}"
        what = f"{count} files state no pixel size: data.pixel_mm={pixel_mm:.4g} is assumed"
        fix = "Set data.pixel_mm to the edge of a pixel in mm, or store it in the files."
        findings.append(Finding("warning", WHOLE_SET, "no_pixel_size", what, fix))
    if not tagged:
        return findings
    usual = mode(round(size, 4) for size in tagged.values())
    used = len(tagged) < len(headers) or pixel_mm != DEFAULT_PIXEL_MM  # for some of the files, or set by hand
    if used and _differ(usual, pixel_mm):
        what = f"the files have {usual:.4g} mm pixels, but data.pixel_mm={pixel_mm:.4g}"
        fix = f"Lengths in mm use the value in the files; if it is right, set data.pixel_mm={usual:.4g}."
        findings.append(Finding("warning", WHOLE_SET, "pixel_size", what, fix))
    fix = "Correct the resolution tag, or resample the image."
    odd = []
    for path, size in tagged.items():
        if _differ(size, usual):
            what = f"has {size:.4g} mm pixels, most others {usual:.4g} mm"
            odd.append(Finding("warning", relative_name(path, root), "pixel_size", what, fix))
    return findings + merge_widespread(odd, len(tagged), "Resample all images to one pixel size.")


def _check_types(headers: dict[Path, TifHeader], root: Path) -> list[Finding]:
    """Report files stored in a different type than the rest, which often means different units."""
    types = {path: header.dtype.name for path, header in headers.items()}
    usual = mode(types.values()) if types else ""
    fix = "Export all images in the same units and type."
    odd = []
    for path, name in types.items():
        if name != usual:
            what = f"is stored as {name}, most others as {usual}"
            odd.append(Finding("warning", relative_name(path, root), "mixed_types", what, fix))
    return merge_widespread(odd, len(types))


def _differ(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one / other - 1) > PIXEL_TOLERANCE
