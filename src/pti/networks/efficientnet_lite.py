"""EfficientNet-Lite0, the feature extractor of the default perceptual loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval
from typing_extensions import override

# Kernel size, stride, expansion, output channels, repeats (Tan & Le 2019, table 1, width and depth 1).
_STAGES = [
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
]
_BATCH_NORM_EPS = 1e-3
# The attribute of each convolution, and of its batch normalisation.
_NORMALISED = [
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
]


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding, whose extra pixel is at the right and bottom."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        padding = []
        for axis in (1, 0):
            size, kernel, stride = input.shape[-2 + axis], self.kernel_size[axis], self.stride[axis]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        left, right, above, below = padding
        if left == right and above == below:  # the convolution pads by itself, without a copy
            even = (above, left)
            return F.conv2d(input, self.weight, self.bias, self.stride, even, self.dilation, self.groups)
        return super().forward(F.pad(input, padding))


@dataclass(frozen=True)
class _BlockShape:
    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


class _InvertedResidual(nn.Module):
    """Expand, depthwise, project (Sandler et al. 2018). Attributes are named as in the published weights."""

    def __init__(self, shape: _BlockShape) -> None:
        super().__init__()
        hidden = shape.inputs * shape.expansion
        if shape.expansion > 1:
            self._expand_conv = nn.Conv2d(shape.inputs, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=_BATCH_NORM_EPS)
        self._depthwise_conv = SamePadConv2d(
            hidden, hidden, shape.kernel, shape.stride, groups=hidden, bias=False
        )
        self._bn1 = nn.BatchNorm2d(hidden, eps=_BATCH_NORM_EPS)
        self._project_conv = nn.Conv2d(hidden, shape.outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(shape.outputs, eps=_BATCH_NORM_EPS)
        self._expands = shape.expansion > 1
        self._residual = shape.stride == 1 and shape.inputs == shape.outputs

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self._residual else h


class EfficientNetLite0(nn.Module):
    """The 1000-class ImageNet network: B0 without squeeze-and-excitation, with ReLU6 (4.7 M parameters).

    The input is (B, 3, H, W), RGB, (value − 127) / 128 for values 0…255; H and W are at least 32.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SamePadConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=_BATCH_NORM_EPS)
        blocks: list[nn.Module] = []
        inputs = 32
        for kernel, stride, expansion, outputs, repeats in _STAGES:
            for repeat in range(repeats):
                shape = _BlockShape(kernel, stride if repeat == 0 else 1, expansion, inputs, outputs)
                blocks.append(_InvertedResidual(shape))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=_BATCH_NORM_EPS)
        self._fc = nn.Linear(1280, 1000)

    def fuse(self) -> EfficientNetLite0:
        """Fold each batch normalisation into the convolution before it, in place, in evaluation mode.

        The function is the same up to rounding, and faster; the network can no longer be trained or loaded.
        """
        for module in list(self.modules()):
            for convolution, norm in _NORMALISED:
                if hasattr(module, convolution):
                    fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
                    setattr(module, convolution, fused)
                    setattr(module, norm, nn.Identity())
        return self

    def features(self, x: Tensor, after: tuple[int, ...]) -> list[Tensor]:
        """Return the outputs of the blocks of ascending indices ``after``; later blocks are not computed."""
        taps = []
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for index, block in enumerate(self._blocks[: max(after) + 1]):
            x = block(x)
            if index in after:
                taps.append(x)
        return taps

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return class logits (B, 1000)."""
        (x,) = self.features(x, (len(self._blocks) - 1,))
        x = F.relu6(self._bn1(self._conv_head(x)))
        return self._fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
