"""Find the images that a command works on: a folder, or a split of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pti.common.errors import UsageError
from pti.data.input_images import InputImage, find_images
from pti.data.layouts import PATIENT_PATTERN, SPLITS
from pti.data.other_formats import SUFFIXES
from pti.inference.converted import convert
from pti.inference.held_out import images_of_split, pairs_of_split


@dataclass(frozen=True)
class Inputs:
    """The images that a command works on.

    Attributes:
        images: The images, sorted by name.
        origin: Where they come from, as text for tables and pages.
        splits: Name -> split; empty for the images of a folder.
        targets: Name -> file of the edente image, where it is known.
        training: (condition, target) files of the training split; empty where it isn't known.
    """

    images: Sequence[InputImage]
    origin: str
    splits: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, Path] = field(default_factory=dict)
    training: Sequence[tuple[Path, Path]] = ()


def find_inputs(
    trained: Mapping[str, Any],
    split: str,
    source: str,
    *,
    input_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    num_samples: int | None = None,
    skip: Path | None = None,
    with_targets: bool = False,
    converted_dir: Path | None = None,
    pixel_mm: float | None = None,
) -> Inputs:
    """Find the images of ``input_dir``, or else of one split of the data set.

    Args:
        trained: ``data`` of the checkpoint's configuration: the values that ``overrides`` leaves open.
        split: ``train``, ``val``, ``test``, or ``all`` (every split that has patients).
        source: Where ``trained`` comes from, for messages.
        input_dir: A folder of images, subfolders included; None = use the data set.
        overrides: The user's values for keys of ``trained``; None values are ignored.
        num_samples: Return only the first images by name; None = all.
        skip: A folder below ``input_dir`` to leave out, usually the output folder.
        with_targets: Take the dente images only, and find their targets and the training pairs as well.
        converted_dir: Folder for PNG, JPEG and DICOM images of ``input_dir``, as TIF; None = accept none.
        pixel_mm: Edge of a pixel in mm of those that state none; None = left open.

    Raises:
        DataError: The data set can't be used, or there are no images.
        UsageError: ``pixel_mm`` is given for TIF images.
    """
    if input_dir is not None:
        folder = Path(input_dir).absolute()
        pattern = trained.get("layout", {}).get("patient_pattern", PATIENT_PATTERN)
        others = () if converted_dir is None else SUFFIXES
        images = find_images(folder, pattern, skip, others)[:num_samples]
        if converted_dir is not None and images[0].path.suffix.lower() in SUFFIXES:
            return Inputs(convert(images, converted_dir, pixel_mm), str(folder))
        _refuse_pixel_size(pixel_mm)
        return Inputs(images, str(folder))
    _refuse_pixel_size(pixel_mm)
    data = {**trained, **{key: value for key, value in (overrides or {}).items() if value is not None}}
    if with_targets:
        data["sources"] = "condition"
    names = _populated_splits(data) if split == "all" else [split]
    splits = {image: name for name in names for image in images_of_split(data, name, source)}
    images = sorted(splits, key=lambda image: image.name)[:num_samples]
    targets, training = {}, []
    if with_targets:
        pairs = [pair for name in names for pair in pairs_of_split(data, name, source)]
        targets = {pair.name: pair.target for pair in pairs if pair.target}
        training = [
            (pair.condition, pair.target)
            for pair in pairs_of_split(data, "train", source)
            if pair.condition and pair.target
        ]
    origin = f"{split} of {Path(data['root']).absolute()}"
    return Inputs(images, origin, {image.name: splits[image] for image in images}, targets, training)


def _refuse_pixel_size(pixel_mm: float | None) -> None:
    if pixel_mm is not None:
        raise UsageError(
            f"pixel_mm={pixel_mm:g}: this key is for PNG, JPEG and DICOM images in input_dir, found TIFs. "
            "State the pixel size in their resolution tag, and omit pixel_mm."
        )


def _populated_splits(data: Mapping[str, Any]) -> list[str]:
    if data.get("folds"):
        return list(SPLITS)
    fractions = dict(zip(SPLITS, data["fractions"], strict=True))
    return [name for name in SPLITS if fractions[name] > 0 or data.get(f"{name}_root")]
