"""Facts about the pixels of a pair for the checks of the whole set; small enough to keep for every pair."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pti.check.near_duplicates import Portrait, make_portrait
from pti.check.orientation_map import GRID, orientation_map, pack_map, reduce_image, shrink_map
from pti.check.pair_alignment import Alignment, align
from pti.data.background import background_value
from pti.data.checks.findings import Finding, file_finding, relative_name
from pti.data.layouts import Pair
from pti.data.tif import TifError, read

QUANTILES = (2, 10, 25, 50, 75, 90, 98)  # percent of the tissue's pixels


@dataclass(frozen=True)
class ImageFacts:
    """Facts about one image; the defaults are those of an image without tissue.

    Attributes:
        file: name of the file in findings.
        edges: packed orientation map, (SMALL_GRID, SMALL_GRID, 2) int8.
        digest: hash of shape and pixels.
        tissue: fraction of the pixels that are not 0.
        quantiles: QUANTILES of the tissue in raw units.
        border: fraction of the outermost rows and columns that is tissue.
        top: first row with tissue / height.
        background: value of most of the border; NaN if the border holds faint noise, 0 if it varies.
        portrait: portrait for the search for copies; None as well if there is hardly any tissue.
    """

    file: str
    edges: np.ndarray
    digest: bytes | None = None
    tissue: float = 0.0
    quantiles: np.ndarray | None = None
    border: float = 0.0
    top: float = 1.0
    background: float = 0.0
    portrait: Portrait | None = None


@dataclass(frozen=True, eq=False)
class PairFacts:
    """Facts about a pair.

    Attributes:
        pair: the pair.
        images: role -> facts, for the images that could be read.
        alignment: displacement of the target, if both images could be read and have one size.
        pixel_mm: pixel size in mm, if known.
        findings: a finding for each image that could not be read.
    """

    pair: Pair
    images: dict[str, ImageFacts]
    alignment: Alignment | None
    pixel_mm: float | None
    findings: tuple[Finding, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the images that could be read."""
        return tuple(image.file for image in self.images.values())


def patient_quantiles(facts: Iterable[PairFacts], role: str) -> dict[str, np.ndarray]:
    """Compute the median QUANTILES of each patient's ``condition`` or ``target`` images with tissue."""
    groups: dict[str, list[np.ndarray]] = defaultdict(list)
    for pair in facts:
        image = pair.images.get(role)
        if image is not None and image.quantiles is not None:
            groups[pair.pair.patient].append(image.quantiles)
    return {patient: np.median(group, 0) for patient, group in groups.items()}


def collect_pair_facts(job: tuple[Pair, Path, float | None]) -> PairFacts:
    """Read both images of a pair and collect the facts that the checks of the whole set need.

    Args:
        job: the pair, without images that are known to be unusable; the data root; the pixel size in mm of
            files that state none.
    """
    pair, root, pixel_mm = job
    findings: list[Finding] = []
    images: dict[str, ImageFacts] = {}
    maps, shapes = [], []
    for role, path in pair.files.items():
        try:
            image = read(path)
        except TifError as error:
            findings.append(file_finding(error, root))
            continue
        pixel_mm = image.pixel_mm or pixel_mm
        images[role], orientations = _collect_image_facts(relative_name(path, root), image.pixels)
        maps.append(orientations)
        shapes.append(image.pixels.shape)
    comparable = len(maps) == 2 and shapes[0] == shapes[1]
    alignment = align(maps[0], maps[1], max(shapes[0]) / GRID) if comparable else None
    return PairFacts(pair, images, alignment, pixel_mm, tuple(findings))


def _collect_image_facts(file: str, pixels: np.ndarray) -> tuple[ImageFacts, np.ndarray]:
    """Return the facts about an image and its full orientation map."""
    scaled, covered = reduce_image(pixels)
    orientations = orientation_map(scaled, covered)
    small = pack_map(shrink_map(orientations))
    tissue = pixels != 0
    count = int(np.count_nonzero(tissue))
    if count == 0:
        return ImageFacts(file, small), orientations
    # A few thousand pixels suffice for quantiles; sorting all of them would dominate the running time.
    quantiles = np.percentile(pixels[tissue][:: max(1, count // 4096)], QUANTILES)
    border = np.concatenate((pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]))
    facts = ImageFacts(
        file=file,
        edges=small,
        digest=hashlib.blake2b(pixels.tobytes(), digest_size=16, key=str(pixels.shape).encode()).digest(),
        tissue=count / pixels.size,
        quantiles=quantiles,
        border=float(np.mean(border != 0)),
        top=float(tissue.any(1).argmax() / pixels.shape[0]),
        background=background_value(pixels, float(quantiles[-1] - quantiles[0])),
        portrait=make_portrait(scaled, covered),
    )
    return facts, orientations
