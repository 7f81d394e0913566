"""Everything that one look at the pixels of a pair tells; small enough to keep for the whole set."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pti.check.near_duplicates import Portrait, portrait
from pti.check.pair_alignment import GRID, Alignment, align, reduce_image, shrink_map, structure_map
from pti.data.checks.findings import Finding, shown
from pti.data.layouts import Pair
from pti.data.tif import TifError, read

QUANTILES = (2, 10, 25, 50, 75, 90, 98)  # of the tissue, in percent
FAINT = (
    0.02  # border values below this part of the tissue's range are background that is not clean, not tissue
)


@dataclass(frozen=True)
class ImageFacts:
    """What is kept of one image.

    Attributes:
        file: as findings name it.
        digest: of shape and pixels; None for an image without tissue.
        tissue: part of the pixels that is not 0.
        quantiles: the tissue's QUANTILES, raw units; None for an image without tissue.
        border: part of the outermost rows and columns that is tissue.
        top: first row with tissue / height; 1 without.
        background: the value that most of the border has in place of 0; None where that is 0 or no single
            value.
        faint: whether the border holds values that are neither 0 nor as strong as tissue.
        structure: (MAP, MAP) uint8, edge strength × 255.
        portrait: for the search for copies; None for an image without tissue.
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
    """What is kept of a pair; the images that could not be read are None and have a finding."""

    pair: Pair
    condition: ImageFacts | None
    target: ImageFacts | None
    alignment: Alignment | None
    pixel_mm: float | None
    findings: tuple[Finding, ...]

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the images that could be read."""
        return tuple(facts.file for facts in (self.condition, self.target) if facts is not None)


def examine(job: tuple[Pair, Path, float | None]) -> PairFacts:
    """Read both images of a pair and take down what the judgement of the whole set needs.

    Args:
        job: the pair, without the images that are known to be unusable; the data root; the edge of a pixel
            in mm for files that don't say.
    """
    pair, root, pixel_mm = job
    findings: list[Finding] = []
    facts: list[ImageFacts | None] = []
    maps: list[tuple[np.ndarray, tuple[int, ...]]] = []
    for path in (pair.condition, pair.target):
        found = None
        if path is not None:
            try:
                image = read(path)
            except TifError as error:
                findings.append(file_finding(error, root))
            else:
                pixels, pixel_mm = image.pixels, image.pixel_mm or pixel_mm
                scaled, covered = reduce_image(pixels)
                structure = structure_map(scaled, covered)
                maps.append((structure, pixels.shape))
                found = _image_facts(shown(path, root), pixels, structure, portrait(scaled, covered))
        facts.append(found)
    alignment = None
    if len(maps) == 2 and maps[0][1] == maps[1][1]:
        alignment = align(maps[0][0], maps[1][0], max(maps[0][1]) / GRID)
    return PairFacts(pair, facts[0], facts[1], alignment, pixel_mm, tuple(findings))


def file_finding(error: TifError, root: Path) -> Finding:
    """The finding that a file can't be read."""
    return Finding("error", shown(error.path, root), error.fault, error.what, error.fix)


def _image_facts(
    file: str, pixels: np.ndarray, structure: np.ndarray, likeness: Portrait | None
) -> ImageFacts:
    tissue = pixels != 0
    count = int(np.count_nonzero(tissue))
    small = np.round(shrink_map(structure) * 255).astype(np.uint8)
    if count == 0:
        return ImageFacts(file, None, 0.0, None, 0.0, 1.0, None, False, small, None)
    # A few thousand pixels tell the quantiles; sorting all of them would take longer than everything else.
    values = pixels[tissue]
    quantiles = np.percentile(values[:: max(1, count // 4096)], QUANTILES)
    ring = np.concatenate((pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]))
    background, faint = _background(ring, float(quantiles[-1] - quantiles[0]))
    return ImageFacts(
        file=file,
        digest=hashlib.blake2b(pixels.tobytes(), digest_size=16, key=str(pixels.shape).encode()).digest(),
        tissue=count / pixels.size,
        quantiles=quantiles,
        border=float(np.mean(ring != 0)),
        top=float(tissue.any(1).argmax() / pixels.shape[0]),
        background=background,
        faint=faint,
        structure=small,
        portrait=likeness,
    )


def _background(ring: np.ndarray, tissue_range: float) -> tuple[float | None, bool]:
    """The single value, other than 0, of most of the border; else whether most of it is faint noise."""
    values, counts = np.unique(ring, return_counts=True)
    common = int(counts.argmax())
    if counts[common] > ring.size / 2:
        return (float(values[common]) if values[common] != 0 else None), False
    middle, spread = np.median(ring), np.percentile(ring, 75) - np.percentile(ring, 25)
    return None, bool(abs(middle) < FAINT * tissue_range and spread < FAINT * tissue_range)
