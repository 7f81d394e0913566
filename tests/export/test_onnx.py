"""ONNX: the graphs and the NumPy program compute what `pti` computes, given the same noise."""

import runpy
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor

import pti
from helpers.in_process import run_command
from helpers.tiny_checkpoints import AUTOENCODER, OPTIMIZER, SIZE, TRANSLATOR, VAE, save, save_sizes
from pti.common.errors import DataError, UsageError
from pti.common.files import write_json_atomically
from pti.common.randomness import sample_generator, sample_rank
from pti.diffusion import paths, samplers
from pti.export.__main__ import PACKAGES, main
from pti.export.formats import FORMATS
from pti.export.onnx_check import export_graph
from pti.export.onnx_graph import Graph
from pti.export.onnx_graphs import graphs_of
from pti.export.sampling_table import sampling_table
from pti.runs.constructors import build

run = partial(run_command, main)

TEMPLATES = Path(pti.__file__).parent / "export" / "templates"
MEASURES = ["height", "width_half"]
EVERYTHING = {
    **TRANSLATOR,
    "network": {
        **TRANSLATOR["network"],
        "condition_maps": len(MEASURES),
        "conditioning": "both",
        "cross_attention_dim": 8,
        "attention_levels": [False, True],
        "patch_size": 2,
    },
    "path": {
        "_target_": "pti.diffusion.paths.RectifiedFlow",
        "start": "condition",
        "prediction_type": "change",
        "noise_std": 0.5,
    },
    "sampler": {"_target_": "pti.diffusion.samplers.heun", "_partial_": True},
    "detail_transfer": {"_target_": "pti.networks.detail_transfer.DetailTransfer", "by_region": True},
    "texture": {"_target_": "pti.networks.texture_synthesis.TextureSynthesis"},
    "size_condition": {
        "_target_": "pti.networks.size_condition.SizeCondition",
        "measures": MEASURES,
        "grid": 4,
        "alignment": {"_target_": "pti.networks.alignment.Alignment"},
    },
    "condition_dropout": 0.1,
    "guidance_scale": 1.5,
}
"""A second stage with everything that a translation may consist of."""

FIRST_STAGE = TRANSLATOR["first_stage"]
LATENT_REGRESSION = {
    "_target_": "pti.modules.regression.LatentRegression",
    "first_stage": FIRST_STAGE,
    "network": TRANSLATOR["network"],
    "optimizer": OPTIMIZER,
}
REGRESSION = {
    "_target_": "pti.modules.regression.Regression",
    "network": {**TRANSLATOR["network"], "latent_channels": 1, "conditioning": "none"},
    "normalization": {"_target_": "pti.data.normalization.RangeNormalization"},
    "optimizer": OPTIMIZER,
}


class TorchNoise:
    """The noise of a sample as `pti` draws it, for a program that takes a NumPy generator."""

    def __init__(self, generator: torch.Generator, rank: float | None = None) -> None:
        self.generator = generator
        self.rank = rank

    def standard_normal(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        noise = torch.randn(shape[1:], generator=self.generator)[None]
        if self.rank is not None and noise.numel():
            noise[0, 0] = torch.special.ndtri(torch.tensor(self.rank, dtype=torch.float64))
        self.rank = None
        return noise.numpy().astype(dtype)


class TorchSession:
    """Stands for ``onnxruntime.InferenceSession``: computes a graph with torch."""

    graphs: ClassVar[dict[str, Graph]] = {}

    def __init__(self, path: Path) -> None:
        self.graph = self.graphs[path.stem]

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in self.graph.inputs]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in self.graph.outputs]

    @torch.no_grad()
    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [output.numpy() for output in self.graph(*map(torch.from_numpy, inputs.values()))]


def blocks() -> Tensor:
    """Normalised images (3, 1, SIZE, SIZE) of grainy rectangles of different sizes."""
    images = torch.full((3, 1, SIZE, SIZE), -1.0)
    for index, image in enumerate(images):
        tissue = image[0, 4 + index : SIZE - 4, 8 : SIZE - 8 - index]
        tissue.copy_(2 * torch.rand(tissue.shape, generator=torch.Generator().manual_seed(index)) - 0.8)
    return images


def with_random_weights(config: dict[str, Any]) -> Any:
    """Build a module; new networks output 0, so every weight is changed."""
    torch.manual_seed(0)
    module = build(config, "the test").eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    space = getattr(module, "latent_space", None)
    normalization = module.normalization
    normalization.bounds.copy_(torch.tensor([200.0, 1800.0, 0.0, 0.3]))
    normalization.is_fitted.fill_(True)
    if space is not None:
        space.scaling.shift.normal_()
        space.scaling.scale.uniform_(0.5, 2)
        space.first_stage.autoencoder.decoder.blocks[-1].conv.bias.fill_(0.5)
    if space is not None and space.texture is not None:
        space.texture.intensities.copy_(torch.linspace(-0.8, 0.9, 8))
        space.texture.deviations.uniform_(0.1, 0.3)
        space.texture.kernel.normal_(std=0.1)
    if getattr(module, "size_condition", None) is not None:
        module.size_condition.inputs.fit(blocks(), -1.0)
        module.size_condition.weights.normal_(std=0.1)
        module.size_condition.factor.copy_(torch.tensor([[0.8, 0.0], [0.3, 0.5]]))
    return module


@pytest.fixture(scope="module")
def data(phantom: Path) -> Path:
    return phantom


@pytest.fixture(scope="module")
def dente(data) -> np.ndarray:
    """A raw image (32, 32)."""
    pixels = tifffile.imread(next((data / "dente").glob("*.tif")))
    return np.ascontiguousarray(pixels[::2, ::2])


@pytest.fixture(scope="module")
def translator() -> Any:
    return with_random_weights(EVERYTHING)


def program(module: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Load the program of a second stage whose graphs are computed by torch."""
    graphs = {graph.name: graph for graph in graphs_of(module, SIZE)}
    table = sampling_table(module.path, module.sampler, module.sampling_steps)
    sizes = 0 if module.size_condition is None else len(module.size_condition.measures)
    own = {"image_size": SIZE, "sizes": sizes, "guidance_scale": module.guidance_scale}
    write_json_atomically(folder / "sampling.json", own | table)
    for name in graphs:
        (folder / f"{name}.onnx").touch()
    shutil.copy(TEMPLATES / "translate.py", folder)
    monkeypatch.setattr(TorchSession, "graphs", graphs)
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=TorchSession))
    return runpy.run_path(str(folder / "translate.py"))


@torch.no_grad()
def translation_of(module: Any, image: np.ndarray, seed: int) -> np.ndarray:
    raw = torch.from_numpy(image)[None, None]
    return module.translate(raw, [torch.Generator().manual_seed(seed)])[0, 0].numpy()


PATHS = {
    "scaled_linear": paths.ScaledLinear(),
    "scaled_linear_v": paths.ScaledLinear("v", zero_terminal_snr=True),
    "cosine": paths.Cosine(),
    "rectified_flow": paths.RectifiedFlow(),
    "condition_flow": paths.RectifiedFlow(start="condition", noise_std=0.5),
    "condition_change": paths.RectifiedFlow("change", "condition", spacing="quadratic"),
    "bridge": paths.BrownianBridge(),
    "bridge_change": paths.BrownianBridge("change"),
}
SAMPLERS = {
    "ddim": samplers.ddim,
    "ddim_eta": partial(samplers.ddim, eta=0.5),
    "ddpm": partial(samplers.ddpm, clip=None),
    "dpm_solver": samplers.dpm_solver,
    "euler": samplers.euler,
    "first_step": samplers.first_step,
    "heun": samplers.heun,
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("path", PATHS)
def test_the_program_samples_as_pti_does(tmp_path, monkeypatch, dente, translator, path, sampler):
    monkeypatch.setattr(translator, "path", PATHS[path])
    monkeypatch.setattr(translator, "sampler", SAMPLERS[sampler])
    monkeypatch.setattr(translator, "sampling_steps", 4)
    expected = translation_of(translator, dente, seed=5)
    computed = program(translator, tmp_path, monkeypatch)["translate"](
        dente, TorchNoise(torch.Generator().manual_seed(5))
    )
    assert np.ptp(expected) > 100
    np.testing.assert_allclose(computed, expected, atol=1e-3 * np.ptp(expected))


def test_samplers_without_a_table_are_refused():
    def consistency(*arguments: Any, **options: Any) -> Tensor:
        raise NotImplementedError

    for sampler, name in ((consistency, "consistency"), (partial(samplers.ddpm, clip=1.0), "ddpm with clip")):
        with pytest.raises(UsageError, match=f"found the sampler {name}, expected ddim"):
            sampling_table(paths.ScaledLinear(), sampler, 4)


def test_a_plain_model_needs_no_more_than_its_latents(tmp_path, monkeypatch, dente):
    module = with_random_weights(TRANSLATOR)
    inputs = {graph.name: graph.inputs for graph in graphs_of(module, SIZE)}
    assert inputs == {"encoder": ("image",), "denoiser": ("x", "timestep", "latents"), "decoder": ("x0",)}
    loaded = program(module, tmp_path, monkeypatch)
    computed = loaded["translate"](dente, TorchNoise(torch.Generator().manual_seed(0)))
    expected = translation_of(module, dente, seed=0)
    np.testing.assert_allclose(computed, expected, atol=1e-3 * np.ptp(expected))


def test_a_mean_gets_no_texture(translator, monkeypatch):
    assert "texture_noise" in graphs_of(translator, SIZE)[2].inputs
    monkeypatch.setattr(translator, "sampler", samplers.first_step)
    assert "texture_noise" not in graphs_of(translator, SIZE)[2].inputs


@pytest.mark.parametrize("config", [VAE, TRANSLATOR, EVERYTHING, REGRESSION, LATENT_REGRESSION])
def test_graphs_compute_what_the_model_computes(config):
    module = with_random_weights(config)

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(number) for number in range(2)]

    for graph in graphs_of(module, SIZE):
        with torch.no_grad():
            values = graph.example(generators())
            computed, expected = graph(*values.values()), graph.expected(values, generators())
        assert tuple(values) == graph.inputs
        for own, other in zip(computed, expected, strict=True):
            assert other.std() > 0
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_images_normalised_on_their_own_are_inputs_of_the_decoder():
    own = {"_target_": "pti.data.normalization.MaskedZScore"}
    encoder, decoder = graphs_of(build({**VAE, "normalization": own}, "the test"), SIZE)
    assert decoder.inputs == ("latents", "image")
    first_stage = {**FIRST_STAGE, "normalization": own, "autoencoder": AUTOENCODER}
    *_, decoder = graphs_of(build({**TRANSLATOR, "first_stage": first_stage}, "the test"), SIZE)
    assert decoder.inputs == ("x0", "image")
    assert encoder.inputs == ("image",)


def exported(folder: Path, config: dict[str, Any], data: Path, ckpt: Path) -> None:
    save(ckpt, with_random_weights(config), config, data)
    done = run(folder, f"ckpt={ckpt}", "format=onnx", "output_dir=model")
    assert "largest difference" in done.stdout


@pytest.mark.slow
def test_a_translation_in_onnxruntime_is_that_of_pti(tmp_path, data, dente):
    ckpt = tmp_path / "a.ckpt"
    exported(tmp_path, EVERYTHING, data, ckpt)
    folder = tmp_path / "model"
    program = runpy.run_path(str(folder / "translate.py"))
    noise = TorchNoise(sample_generator(3, "a", 0), sample_rank(3, "a", 0))
    computed = program["translate"](dente, noise)
    expected = pti.load(ckpt, device="cpu").translate(dente, names=["a"], seed=3)[0]
    close = np.abs(computed - expected) < 1e-3 * np.ptp(expected)
    assert close.mean() > 0.99
    card = (folder / "README.md").read_text()
    assert "| `decoder.onnx` | `x0` (B, 2, 16, 16), `latents` (B, 2, 16, 16), `image` (B, 1, 32, 32)" in card
    assert "- onnx\n" in card
    assert "pti.load" not in card

    tifffile.imwrite(tmp_path / "in.tif", dente, resolution=(66.7, 66.7), resolutionunit="CENTIMETER")
    command = [sys.executable, folder / "translate.py", "in.tif", "out.tif", "7"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        page: Any = file.pages[0]
        assert page.shape == (SIZE, SIZE)
        assert page.resolution == pytest.approx((66.7, 66.7))
        np.testing.assert_array_equal(page.asarray(), program["translate"](dente, np.random.default_rng(7)))
    tifffile.imwrite(tmp_path / "in.tif", dente[:16])
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "found (16, 32) pixels, expected (32, 32)" in done.stderr
    done = subprocess.run(command[:2], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "python translate.py DENTE.tif EDENTE.tif [SEED]" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("config", [VAE, REGRESSION, LATENT_REGRESSION], ids=["vae", "pixels", "latents"])
def test_other_models_are_applied_in_one_pass(tmp_path, data, dente, config):
    ckpt = tmp_path / "a.ckpt"
    exported(tmp_path, config, data, ckpt)
    model = pti.load(ckpt, device="cpu")
    expected = model.reconstruct(dente) if config is VAE else model.translate(dente)[0]
    tifffile.imwrite(tmp_path / "in.tif", dente)
    subprocess.run([sys.executable, "model/apply.py", "in.tif", "out.tif"], cwd=tmp_path, check=True)
    close = np.abs(tifffile.imread(tmp_path / "out.tif") - expected) < 1e-3 * np.ptp(expected)
    assert close.mean() > 0.99


class Doubled(Graph):
    """A graph that computes 2·x and expects 2·x + ``error`` from torch."""

    name, inputs, outputs = "doubled", ("x",), ("y",)
    error = 0.0

    def compute(self, values) -> tuple[Tensor, ...]:
        return (2 * values["x"],)

    def example(self, generators) -> dict[str, Tensor]:
        return {"x": torch.stack([torch.rand(8, generator=generator) for generator in generators])}

    def expected(self, values, generators) -> tuple[Tensor, ...]:
        return (2 * values["x"] + self.error * (values["x"] > 0.5),)


@pytest.mark.slow
def test_a_graph_that_differs_from_torch_is_refused():
    graph = Doubled(torch.nn.Identity(), SIZE)
    assert export_graph(graph).difference < 1e-6
    graph.error = 0.05
    with pytest.raises(DataError, match=r"differs from torch by .*more than 0.001"):
        export_graph(graph)


def test_what_has_no_graphs_is_refused(tmp_path, data):
    save_sizes(tmp_path / "a.ckpt", data)
    done = run(tmp_path, "ckpt=a.ckpt", "format=onnx", "output_dir=out", code=2)
    assert "found a model of the class PixelSizes" in done.stderr
    run(tmp_path, "ckpt=a.ckpt", "format=safetensors", "output_dir=out")


def test_every_format_states_its_packages():
    assert PACKAGES.keys() == FORMATS.keys()


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    (tmp_path / "a.ckpt").touch()
    monkeypatch.setattr("pti.export.__main__.find_spec", lambda name: None)
    done = run(tmp_path, "ckpt=a.ckpt", "format=onnx", "output_dir=out", code=2)
    assert "pip install 'pti[onnx]'" in done.stderr
