"""Pictures of fixed validation images, made by the modules during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from pti.drawing.figures import Comparison


def comparison(
    columns: Mapping[str, Tensor], names: Sequence[str], difference: tuple[str, str] | None = None
) -> Comparison:
    """Put raw images side by side.

    Args:
        columns: title -> raw images (B, 1, H, W).
        names: of the images.
        difference: titles of two columns whose difference is shown, too.
    """
    arrays = {title: images.float().squeeze(1).cpu().numpy() for title, images in columns.items()}
    return Comparison(arrays, names, difference=difference)
