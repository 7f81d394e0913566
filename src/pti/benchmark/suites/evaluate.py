"""Suite ``evaluate``: the metrics of predicted images, by the functions of `evaluate` and by a plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pti.benchmark.comparison import Comparison, Side, Work
from pti.benchmark.experiments import draw_pairs
from pti.benchmark.settings import SuiteSettings
from pti.common.processes import map_in_processes
from pti.data import tif
from pti.metrics.bone_agreement import compare_images, find_bone
from pti.metrics.morphometry import bone_mask, measure

PAIRS = 1000
MIN_SIZE = 64  # of a phantom, pixels
DATA_RANGE = 3000.0  # raw units

Pair = tuple[Path, Path]
"""Files of a predicted image and of the true one."""


def evaluate_suite(settings: SuiteSettings) -> list[Comparison]:
    """Compare the metrics of pairs of files; dente images of the phantom stand for predictions."""
    count, size = settings.number_of_images(PAIRS), max(MIN_SIZE, settings.image_size)
    root = draw_pairs(settings.scratch / f"evaluated_{size}_{count}", size, count)
    pairs = [(path, root / "edente" / path.name) for path in sorted((root / "dente").iterdir())]
    pixel_mm = 0.15 * 256 / size
    plain = Side("plain: one image after the other", lambda: Work(partial(plain_rows, pairs, pixel_mm)))
    ours = Side("pti: worker processes", lambda: Work(partial(our_rows, pairs, pixel_mm)))
    work = f"metrics of predictions, {size} × {size} pixels"
    return [Comparison("evaluate", work, count, [ours], plain)]


@dataclass(frozen=True)
class MeasurePair:
    """Measure a pair with the functions of `evaluate`; picklable for worker processes."""

    pixel_mm: float

    def __call__(self, pair: Pair) -> dict[str, float]:
        """Return the metrics of a pair, and the bone's height in mm."""
        predicted, true = (tif.read(path).pixels for path in pair)
        metrics, lengths = compare_images(find_bone(true, self.pixel_mm), predicted, DATA_RANGE)
        return metrics | {"height": lengths["height"]}


def our_rows(pairs: Sequence[Pair], pixel_mm: float) -> list[dict[str, float]]:
    """Measure all pairs in one process for each core."""
    return list(map_in_processes(MeasurePair(pixel_mm), pairs, "Measuring"))


def plain_rows(pairs: Sequence[Pair], pixel_mm: float) -> list[dict[str, float]]:
    """Measure one pair after the other with tifffile, torchmetrics and MONAI.

    Metrics within the bone leave out MS-SSIM, which torchmetrics does not restrict to a mask. The bone is
    found by the same rule as ours.
    """
    import tifffile
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.meaniou import compute_iou
    from torchmetrics.functional import mean_absolute_error, peak_signal_noise_ratio
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as ms_ssim,
    )
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    rows = []
    for pair in pairs:
        arrays = [tifffile.imread(path) for path in pair]
        image, target = (torch.from_numpy(array)[None, None] for array in arrays)
        masks = [bone_mask(array) for array in arrays]
        bone, true = (torch.from_numpy(mask)[None, None] for mask in masks)
        whole_ssim, similarity = ssim(image, target, data_range=DATA_RANGE, return_full_image=True)
        row = {
            "mae": mean_absolute_error(image, target),
            "psnr": peak_signal_noise_ratio(image, target, data_range=DATA_RANGE),
            "ssim": whole_ssim,
            "bone_mae": mean_absolute_error(image[true], target[true]),
            "bone_psnr": peak_signal_noise_ratio(image[true], target[true], data_range=DATA_RANGE),
            "bone_ssim": similarity[true].mean(),
            "dice": compute_dice(bone, true),
            "iou": compute_iou(bone, true),
            "hausdorff95_mm": pixel_mm * compute_hausdorff_distance(bone, true, percentile=95),
        }
        if min(image.shape[-2:]) > 160:  # torchmetrics' five scales need more
            row["ms_ssim"] = ms_ssim(image, target, data_range=DATA_RANGE)
        lengths = {"height": measure(masks[0], pixel_mm).height * pixel_mm}
        rows.append({name: float(np.asarray(value).squeeze()) for name, value in row.items()} | lengths)
    return rows
