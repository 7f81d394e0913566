"""The format ``onnx``: graphs of the networks, the numbers around them, and a program that runs them."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.errors import DataError, UsageError
from pti.common.files import write_json_atomically, write_text_atomically
from pti.data.normalization import RangeNormalization
from pti.diffusion.samplers import Sampler, first_step
from pti.export.onnx_graphs import Graph, graphs_of
from pti.export.sampling_table import NO_PASS, ONE_PASS, sampling_table
from pti.export.written import Written
from pti.modules.adversarial_vae import AdversarialVAE
from pti.modules.latent_diffusion import LatentDiffusion
from pti.runs.checkpoint import Checkpoint

NUMBERS, PROGRAM = "model.json", "translate_onnx.py"
FILES = (
    NUMBERS,
    PROGRAM,
    *(f"{name}.onnx" for name in ("encoder", "decoder", "network", "detail", "texture")),
)

BOUND = 1e-4
"""Largest difference of onnxruntime from torch that is accepted, relative to the largest value, or to 1."""

OPSET = 18

_BATCHES = (1, 3)  # sizes to compare; graphs are traced with 2
_MAX_BYTES = 2**31 - 2**24  # of a protobuf file


def write_onnx(
    checkpoint: Checkpoint,
    module: nn.Module,
    output_dir: Path,
    sampler: Sampler | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
) -> Written:
    """Write a graph for each network, compare it with torch, and write the numbers and the program.

    Args:
        checkpoint: The checkpoint.
        module: Its module, on the CPU.
        output_dir: The folder.
        sampler: Of the program; None = the module's own.
        steps: Of the sampler; None = the module's own.
        guidance_scale: 1 = no guidance; None = the module's own.

    Raises:
        UsageError: The model makes no images, or does not support a setting.
        DataError: A graph computes something else than torch.
    """
    table = _sampling(module, sampler, steps, guidance_scale)
    uses_texture = table.pop("texture")
    size = int(checkpoint.config["data"]["image_size"])
    graphs = graphs_of(module, size)
    if not uses_texture:
        graphs.pop("texture", None)
    figures: dict[str, Any] = {"opset": OPSET}
    for name, graph in graphs.items():
        path = output_dir / f"{name}.onnx"
        _export(graph, path)
        figures[f"difference of {name}"] = _difference(graph, path)
    figures["bound of the differences"] = BOUND
    numbers = {
        "image_size": size,
        "pixel_mm": checkpoint.config["data"]["pixel_mm"],
        "graphs": list(graphs),
        "normalization": _normalization(module),
        **table,
    }
    if "texture" in graphs:
        texture: Any = graphs["texture"].module.texture
        columns = ("intensities", "deviations")
        numbers["texture"] = {name: getattr(texture, name).tolist() for name in columns}
    write_json_atomically(output_dir / NUMBERS, numbers)
    program = Path(__file__).parent / "templates" / PROGRAM
    write_text_atomically(output_dir / PROGRAM, program.read_text(encoding="utf-8"))
    names = {f"{name}.onnx": output_dir / f"{name}.onnx" for name in graphs}
    return Written(figures, {**names, "numbers": output_dir / NUMBERS, "program": output_dir / PROGRAM})


def _sampling(
    module: nn.Module, sampler: Sampler | None, steps: int | None, guidance_scale: float | None
) -> dict[str, Any]:
    """Return the table of the sampling, ``guidance_scale``, and whether samples get a ``texture``."""
    given = {"sampler": sampler, "steps": steps, "guidance_scale": guidance_scale}
    if isinstance(module, LatentDiffusion):
        settings = module.resolve_sampling(sampler, steps, guidance_scale)
        table = sampling_table(module.path, settings["sampler"], settings["steps"])
        is_mean = getattr(settings["sampler"], "func", settings["sampler"]) is first_step
        return {**table, "guidance_scale": settings["guidance_scale"], "texture": not is_mean}
    if names := [name for name, value in given.items() if value is not None]:
        raise UsageError(
            f"{', '.join(names)}: {type(module).__name__} has no sampler. Omit {' and '.join(names)}."
        )
    table = NO_PASS if isinstance(module, AdversarialVAE) else ONE_PASS
    return {**table, "guidance_scale": 1.0, "texture": False}


def _export(graph: Graph, path: Path) -> None:
    """Write one graph with a free batch size."""
    weights = sum(value.nbytes for value in graph.module.state_dict().values())
    if weights > _MAX_BYTES:
        raise UsageError(f"{path}: {weights} bytes of weights are too many for one ONNX file (2 GiB).")
    batch = torch.export.Dim("batch", min=1)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            graph.module,
            tuple(graph.inputs.values()),
            temporary,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=tuple({0: batch} for _ in graph.inputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
        )
    os.replace(temporary, path)


def _difference(graph: Graph, path: Path) -> float:
    """Run a graph in onnxruntime; return its largest difference from torch, relative as `BOUND`.

    Raises:
        DataError: It exceeds the bound.
    """
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    accepted = [node.name for node in session.get_inputs()]
    largest = 0.0
    for count in _BATCHES:
        inputs = {name: _repeated(value, count) for name, value in graph.inputs.items()}
        with torch.no_grad():
            expected = graph.module(*inputs.values())
        feed = {name: value.numpy() for name, value in inputs.items() if name in accepted}
        found = session.run(None, feed)
        outputs = (expected,) if isinstance(expected, Tensor) else expected
        for own, other in zip(outputs, found, strict=True):
            scale = max(1.0, float(own.abs().max()))
            largest = max(largest, float(np.abs(own.numpy() - other).max()) / scale)
    if not largest <= BOUND:
        raise DataError(
            f"{path}: onnxruntime {onnxruntime.__version__} differs from torch {torch.__version__} by "
            f"{largest:.2g} of the largest value, expected at most {BOUND:g}. Try other versions of onnx, "
            "onnxscript and onnxruntime."
        )
    return largest


def _repeated(value: Tensor, count: int) -> Tensor:
    return value.repeat(count, *(1,) * (value.dim() - 1))[:count].contiguous()


def _normalization(module: Any) -> dict[str, Any]:
    """Return the numbers of a normalisation as the program takes them."""
    normalization = module.normalization
    if not isinstance(normalization, RangeNormalization):
        return {"kind": type(normalization).__name__}
    return {"kind": "RangeNormalization", **normalization.numbers()}
