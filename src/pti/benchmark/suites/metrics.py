"""Suite ``metrics``: the metrics that `evaluate` computes for a predicted image, on one thread."""

from itertools import cycle, islice

from pti.benchmark.comparison import Comparison
from pti.benchmark.training import SuiteSettings

_MAX_PAIRS = 40  # of different patients
_MIN_SIZE = 64  # of a phantom, pixels


def metrics_suite(settings: SuiteSettings) -> list[Comparison]:
    """Compare metrics on phantoms; predictions are dente images and other patients' edente images in turn."""
    import numpy as np
    import torch

    from pti.data.phantom.pairs import draw_pairs
    from pti.metrics.bone_agreement import compare_images, find_bone
    from pti.metrics.image import mae, ms_ssim, psnr, ssim
    from pti.metrics.morphometry import dice, hausdorff95, iou

    size, count = max(_MIN_SIZE, settings.image_size), min(_MAX_PAIRS, settings.images)
    pairs = [next(iter(draw_pairs(0, patient, 1, size, 0.15))) for patient in range(count)]
    edge = 0.15 * 256 / size
    truths = [find_bone(pair.edente, edge) for pair in pairs]
    data_range = float(max(pair.edente.max() for pair in pairs))
    predictions = [
        pairs[(index + 1) % count].edente if index % 2 else pair.dente for index, pair in enumerate(pairs)
    ]
    cases = list(islice(cycle(zip(truths, predictions, strict=True)), settings.images))

    def one_by_one() -> None:
        for true, prediction in cases:
            predicted = find_bone(prediction, edge)
            image, target, mask = (
                torch.from_numpy(np.ascontiguousarray(array))[None, None]
                for array in (prediction, true.raw, true.mask)
            )
            for inside in (None, mask):
                mae(image, target, inside)
                for metric in (psnr, ssim, ms_ssim):
                    metric(image, target, data_range, inside)
            for agreement in (dice, iou, hausdorff95):
                agreement(true.mask, predicted.mask)

    all_metrics = {
        "one metric after the other": one_by_one,
        "pti.metrics.bone_agreement.compare_images": lambda: [
            compare_images(true, prediction, data_range) for true, prediction in cases
        ],
    }
    morphometry = {
        "pti.metrics.bone_agreement.find_bone": lambda: [
            find_bone(prediction, edge) for _, prediction in cases
        ]
    }
    return [
        Comparison("all metrics of an image", "images/s", len(cases), all_metrics, one_thread=True),
        Comparison("morphometry alone", "images/s", len(cases), morphometry, one_thread=True),
    ]
