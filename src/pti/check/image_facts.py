"""Facts about the pixels of a pair for the checks of the whole set; small enough to keep for every pair."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pti.check.near_duplicates import Portrait, make_portrait
from pti.check.pair_alignment import GRID, Alignment, align, reduce_image, shrink_map, structure_map
from pti.check.thresholds import THRESHOLDS
from pti.data.checks.findings import Finding, file_finding, relative_name
from pti.data.layouts import Pair
from pti.data.tif import TifError, read

QUANTILES = (2, 10, 25, 50, 75, 90, 98)  # percent of the tissue's pixels


@dataclass(frozen=True)
class ImageFacts:
    """Facts about one image.

    Attributes:
        file: name of the file in findings.
        digest: hash of shape and pixels; None for an image without tissue.
        tissue: fraction of the pixels that are not 0.
        quantiles: QUANTILES of the tissue in raw units; None for an image without tissue.
        border: fraction of the outermost rows and columns that is tissue.
        top: first row with tissue / height; 1 for an image without tissue.
        background: value of most of the border if it is not 0; None if it is 0 or varies.
        faint: whether the border holds values that are neither 0 nor as strong as tissue.
        structure: (SMALL_GRID, SMALL_GRID) uint8, edge strength × 255.
        portrait: portrait for the search for copies; None for an image without tissue.
    """

    file: str
    digest: bytes | None
    tissue: float
    quantiles: np.ndarray | None
    border: float
    top: float
    background: float | None
    faint: bool
    structure: np.ndarray
    portrait: Portrait | None


@dataclass(frozen=True)
class PairFacts:
    """Facts about a pair; an image that could not be read is None and has a finding."""

    pair: Pair
    condition: ImageFacts | None
    target: ImageFacts | None
    alignment: Alignment | None
    pixel_mm: float | None
    findings: tuple[Finding, ...]

    @property
    def both(self) -> tuple[ImageFacts | None, ImageFacts | None]:
        """Facts about condition and target."""
        return self.condition, self.target

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that could be read."""
        return tuple(facts.file for facts in self.both if facts is not None)


def patient_quantiles(facts: Iterable[PairFacts], role: str) -> dict[str, np.ndarray]:
    """Compute the median QUANTILES of each patient's ``condition`` or ``target`` images with tissue."""
    groups: dict[str, list[np.ndarray]] = defaultdict(list)
    for pair in facts:
        image = getattr(pair, role)
        if image is not None and image.quantiles is not None:
            groups[pair.pair.patient].append(image.quantiles)
    return {patient: np.median(group, 0) for patient, group in groups.items()}


def collect_pair_facts(job: tuple[Pair, Path, float | None]) -> PairFacts:
    """Read both images of a pair and collect the facts that the checks of the whole set need.

    Args:
        job: the pair, without images that are known to be unusable; the data root; the pixel size in mm of
            files without a resolution tag.
    """
    pair, root, pixel_mm = job
    findings: list[Finding] = []
    facts: list[ImageFacts | None] = []
    maps: list[tuple[np.ndarray, tuple[int, ...]]] = []
    for path in (pair.condition, pair.target):
        image_facts = None
        if path is not None:
            try:
                image = read(path)
            except TifError as error:
                findings.append(file_finding(error, root))
            else:
                pixel_mm = image.pixel_mm or pixel_mm
                image_facts, structure = _collect_image_facts(relative_name(path, root), image.pixels)
                maps.append((structure, image.pixels.shape))
        facts.append(image_facts)
    alignment = None
    if len(maps) == 2 and maps[0][1] == maps[1][1]:
        alignment = align(maps[0][0], maps[1][0], max(maps[0][1]) / GRID)
    return PairFacts(pair, facts[0], facts[1], alignment, pixel_mm, tuple(findings))


def _collect_image_facts(file: str, pixels: np.ndarray) -> tuple[ImageFacts, np.ndarray]:
    """Return the facts about an image and its full structure map."""
    scaled, covered = reduce_image(pixels)
    structure = structure_map(scaled, covered)
    small = np.round(shrink_map(structure) * 255).astype(np.uint8)
    tissue = pixels != 0
    count = int(np.count_nonzero(tissue))
    if count == 0:
        return ImageFacts(file, None, 0.0, None, 0.0, 1.0, None, False, small, None), structure
    # A few thousand pixels suffice for quantiles; sorting all of them would dominate the running time.
    quantiles = np.percentile(pixels[tissue][:: max(1, count // 4096)], QUANTILES)
    border = np.concatenate((pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]))
    background, faint = _inspect_border(border, float(quantiles[-1] - quantiles[0]))
    facts = ImageFacts(
        file=file,
        digest=hashlib.blake2b(pixels.tobytes(), digest_size=16, key=str(pixels.shape).encode()).digest(),
        tissue=count / pixels.size,
        quantiles=quantiles,
        border=float(np.mean(border != 0)),
        top=float(tissue.any(1).argmax() / pixels.shape[0]),
        background=background,
        faint=faint,
        structure=small,
        portrait=make_portrait(scaled, covered),
    )
    return facts, structure


def _inspect_border(border: np.ndarray, tissue_range: float) -> tuple[float | None, bool]:
    """Return the value of most of the border if it is not 0, and whether the border holds faint noise."""
    values, counts = np.unique(border, return_counts=True)
    most_frequent = int(counts.argmax())
    if counts[most_frequent] > border.size / 2:
        value = float(values[most_frequent])
        return (value if value != 0 else None), False
    low, middle, high = np.percentile(border, (25, 50, 75))
    limit = THRESHOLDS.background_noise * tissue_range
    return None, bool(abs(middle) < limit and high - low < limit)
