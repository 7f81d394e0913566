"""Raw images as arguments and results of `pti.inference.api.Model`: one array, a stack, or a sequence."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

Images = np.ndarray | Sequence[np.ndarray]
"""Raw images: one (H, W), several (N, H, W), or a sequence of (H, W) of any sizes; background exactly 0."""


def image_list(images: Images) -> list[np.ndarray]:
    """Return a list of (H, W) float32 arrays.

    Raises:
        ValueError: An array has another shape, or values that are not finite.
    """
    single = isinstance(images, np.ndarray) and images.ndim == 2
    listed = [np.asarray(image, np.float32) for image in ([images] if single else images)]
    if not listed or any(image.ndim != 2 for image in listed):
        raise ValueError(
            f"expected raw images (H, W) or (N, H, W), found {[image.shape for image in listed]}"
        )
    if not all(np.isfinite(image).all() for image in listed):
        raise ValueError("expected raw images with finite values, found NaN or infinity")
    return listed


def shaped_like(results: list[np.ndarray], images: Images) -> np.ndarray | list[np.ndarray]:
    """Return one result for each image in the form of ``images``: an array, a stack or a list."""
    if not isinstance(images, np.ndarray):
        return results
    return results[0] if images.ndim == 2 else np.stack(results)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Return a tensor of any device as float32."""
    return tensor.float().cpu().numpy()
