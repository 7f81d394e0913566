"""EfficientNet-Lite0, the feature extractor of the default perceptual loss."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

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
_BatchNorm = partial(nn.BatchNorm2d, eps=1e-3)


class StridedConv2d(nn.Conv2d):
    """A convolution of stride 2 with TensorFlow's "SAME" padding: less before than after an even length."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        half = self.kernel_size[0] // 2
        height, width = input.shape[-2:]
        return super().forward(F.pad(input, (half - 1 + width % 2, half, half - 1 + height % 2, half)))


class _InvertedResidual(nn.Module):
    """Expand, depthwise, project (Sandler et al. 2018). Attributes are named as in the published weights."""

    def __init__(self, kernel: int, stride: int, expansion: int, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self._expands, self._residual = expansion > 1, stride == 1 and inputs == outputs
        if self._expands:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = _BatchNorm(hidden)
        options = {"groups": hidden, "bias": False}
        if stride == 1:
            self._depthwise_conv = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, **options)
        else:
            self._depthwise_conv = StridedConv2d(hidden, hidden, kernel, stride, **options)
        self._bn1 = _BatchNorm(hidden)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = _BatchNorm(outputs)

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
        self._conv_stem = StridedConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _BatchNorm(32)
        self._blocks, inputs = nn.ModuleList(), 32
        for kernel, stride, expansion, outputs, repeats in _STAGES:
            for repeat in range(repeats):
                self._blocks.append(
                    _InvertedResidual(kernel, stride if repeat == 0 else 1, expansion, inputs, outputs)
                )
                inputs = outputs
        self._conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self._bn1 = _BatchNorm(1280)
        self._fc = nn.Linear(1280, 1000)

    def fuse(self) -> EfficientNetLite0:
        """Fold each batch normalisation into the convolution before it, in place, in evaluation mode.

        The function is the same up to rounding, and faster; the network can no longer be trained or loaded.
        """
        for module in list(self.modules()):
            for (name, convolution), (norm_name, norm) in pairwise(list(module.named_children())):
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                    setattr(module, norm_name, nn.Identity())
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
