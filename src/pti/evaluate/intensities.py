"""Notes on images that can't be compared by their raw values: blank ones, and predictions in another unit."""

from collections.abc import Sequence
from pathlib import Path

from pti.common.errors import DataError
from pti.data.input_images import InputImage
from pti.evaluate.scores import Case
from pti.inference.survey import SCALE_FACTOR, Survey, is_same_unit, survey


def survey_targets(targets: Sequence[InputImage]) -> Survey:
    """Read the true images.

    Raises:
        DataError: All of them are blank, or some can't be used.
    """
    surveyed = survey(targets)
    if len(surveyed.empty) == len(targets):
        folder = Path(targets[0].path).parent
        raise DataError(
            f"{folder}: all {len(targets)} true images are blank (every pixel is 0), expected bone in "
            "them. Set target_dir or data.root to the folder of the true images, or export them again."
        )
    return surveyed


def intensity_notes(targets: Survey, cases: Sequence[Case]) -> list[str]:
    """Compare the first sample of each method's slices with the true images; return notes for the reader.

    Args:
        targets: From `survey_targets`.
        cases: The slices.

    Raises:
        DataError: Some predictions can't be used.
    """
    notes = [f"true images: {warning}" for warning in targets.warnings(None)]
    for method in cases[0].predictions:
        images = [InputImage(case.name, case.predictions[method][0], case.patient) for case in cases]
        predicted = survey(images)
        notes += [f"{method}: {warning}" for warning in predicted.warnings(None)]
        top, expected = predicted.usual_top, targets.usual_top
        if len(predicted.empty) < len(images) and not is_same_unit(top, expected):
            notes.append(
                f"{method}: the tissue reaches {top:.4g} (median), that of the true images {expected:.4g}; "
                f"expected less than a factor of {SCALE_FACTOR:g} in between. PSNR, SSIM, MAE and KID "
                "compare raw values: write the predictions in the unit of the true images"
            )
    return [note.rstrip(".") for note in notes]
