"""Export of one graph, verified in onnxruntime against torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pti.common.errors import DataError
from pti.export.onnx_graph import Generators, Graph

TOLERANCE = 1e-3
"""Largest difference between onnxruntime and torch, as a fraction of the range of torch's values.

Rounding alone gives 1e-6 to 1e-5; a thousandth is less than noise and texture of any image.
"""

_TRACED, _CHECKED = 2, 3
"""Batch sizes; a graph that had memorised the first one would fail with the second."""


@dataclass(frozen=True)
class ExportedGraph:
    """A verified graph.

    Attributes:
        content: Of the ONNX file.
        difference: Largest difference from torch, as a fraction of the range of torch's values.
        shapes: Shape of each input and output, without the batch.
    """

    content: bytes
    difference: float
    shapes: dict[str, tuple[int, ...]]


@torch.no_grad()
def export_graph(graph: Graph) -> ExportedGraph:
    """Export a graph with a dynamic batch and compare it with torch, on other inputs and another batch size.

    Args:
        graph: The graph.

    Raises:
        DataError: It can't be exported, or differs from torch by more than `TOLERANCE`.
    """
    graph.eval()
    content = _trace(graph)
    values = graph.example(_generators(_CHECKED))
    expected = graph.expected(values, _generators(_CHECKED))
    computed = _run(content, {name: value.numpy() for name, value in values.items()})
    difference = max(
        _difference(own, other.float().numpy(), graph.share)
        for own, other in zip(computed, expected, strict=True)
    )
    if not difference <= TOLERANCE:
        raise DataError(
            f"{graph.name}.onnx differs from torch by {difference:.1e} of the range of its values, more than "
            f"{TOLERANCE:g}: nothing was written. Use format=safetensors."
        )
    outputs = dict(zip(graph.outputs, computed, strict=True))
    return ExportedGraph(
        content, difference, {name: tuple(value.shape[1:]) for name, value in (values | outputs).items()}
    )


def _generators(batch: int) -> Generators:
    return [torch.Generator().manual_seed(1000 * batch + number) for number in range(batch)]


def _trace(graph: Graph) -> bytes:
    values = graph.example(_generators(_TRACED))
    batch = torch.export.Dim("batch")
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                graph,
                tuple(values[name] for name in graph.inputs),
                dynamo=True,
                verbose=False,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=(tuple({0: batch} for _ in graph.inputs),),
                custom_translation_table=_translations(),
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise DataError(
                f"{graph.name}: this model has an operation that can't be exported to ONNX ({reason}). "
                "Use format=safetensors."
            ) from error
        return program.model_proto.SerializeToString()


def _run(content: bytes, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, values)  # pyright: ignore[reportReturnType]


def _difference(computed: np.ndarray, expected: np.ndarray, share: float) -> float:
    """Return the largest difference of the closest ``share`` of the values, relative to their range."""
    if not np.isfinite(computed).all() or computed.shape != expected.shape:
        return float("inf")
    largest = float(np.quantile(np.abs(computed - expected), share))
    return largest / (float(np.ptp(expected)) or 1.0)


def _translations() -> dict[Any, Any]:
    """Return ONNX translations of the operations that torch's exporter lacks."""
    from onnxscript import opset18

    op: Any = opset18  # in a traced function, its operators take symbols instead of arrays

    def nextafter(self: Any, other: Any) -> Any:
        """Return the next float32 of numbers in [-1, -0.5), towards larger ones; others don't occur."""
        del other
        return op.Add(self, op.CastLike(op.Constant(value_float=2.0**-24), self))

    def bucketize(self: Any, boundaries: Any, out_int32: bool = False, right: bool = False) -> Any:
        """Count the boundaries below each number, or not above it."""
        column = op.Unsqueeze(self, op.Constant(value_ints=[-1]))
        below = op.GreaterOrEqual(column, boundaries) if right else op.Greater(column, boundaries)
        number = op.Cast(below, to=6 if out_int32 else 7)
        return op.ReduceSum(number, op.Constant(value_ints=[-1]), keepdims=0)

    return {torch.ops.aten.nextafter.default: nextafter, torch.ops.aten.bucketize.Tensor: bucketize}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says about packages and its own future."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
