"""The format ``onnx``: graphs for onnxruntime, and a NumPy program that runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from pti.common.files import write_bytes_atomically, write_json_atomically, write_text_atomically
from pti.common.progress import track
from pti.drawing.page import PACKAGE
from pti.export.onnx_check import TOLERANCE, ExportedGraph, export_graph
from pti.export.onnx_graph import Graph
from pti.export.onnx_graphs import graphs_of
from pti.export.sampling_table import sampling_table
from pti.export.written import Written
from pti.modules.latent_diffusion import LatentDiffusion
from pti.runs.checkpoint import Checkpoint

SAMPLING = "sampling.json"
PROGRAMS = {"translate.py": "translate.py", "apply.py": "one_pass.py"}
"""Program in the folder -> its template: for sampling, and for everything else."""

FILES = (
    *("encoder.onnx", "denoiser.onnx", "decoder.onnx", "translator.onnx"),
    *(SAMPLING, *PROGRAMS),
)
"""Files of the folder; a model has some of them."""


def write_onnx(checkpoint: Checkpoint, module: nn.Module, output_dir: Path) -> Written:
    """Export the model's graphs, verify them in onnxruntime, and write them with a program.

    Nothing is written unless all graphs agree with torch.

    Args:
        checkpoint: The checkpoint.
        module: Its module.
        output_dir: The folder.

    Raises:
        UsageError: The model, or its sampler, has no description as graphs and numbers.
        DataError: A graph can't be exported, or differs from torch.
    """
    size = int(checkpoint.config["data"]["image_size"])
    graphs, table = graphs_of(module, size), None
    if isinstance(module, LatentDiffusion):
        table = _sampling(module, size)
    exported = {graph.name: export_graph(graph) for graph in track(graphs, "Exporting")}
    artefacts = {}
    for name, graph in exported.items():
        artefacts[name] = output_dir / f"{name}.onnx"
        write_bytes_atomically(artefacts[name], graph.content)
    if table is not None:
        artefacts["sampling"] = output_dir / SAMPLING
        write_json_atomically(artefacts["sampling"], table)
    program = "apply.py" if table is None else "translate.py"
    artefacts["program"] = output_dir / program
    template = PACKAGE / "export" / "templates" / PROGRAMS[program]
    write_text_atomically(artefacts["program"], template.read_text(encoding="utf-8"))
    return Written(_figures(exported), artefacts, _for_the_card(graphs, exported, program, size, module))


def _sampling(module: LatentDiffusion, size: int) -> dict[str, Any]:
    measures = () if module.size_condition is None else module.size_condition.measures
    return {
        "image_size": size,
        "sizes": len(measures),
        "guidance_scale": module.guidance_scale,
        **sampling_table(module.path, module.sampler, module.sampling_steps),
    }


def _figures(exported: dict[str, ExportedGraph]) -> dict[str, Any]:
    differences = {
        f"{name}, largest difference": f"{graph.difference:.1e} of its range"
        for name, graph in exported.items()
    }
    megabytes = round(sum(len(graph.content) for graph in exported.values()) / 1e6, 2)
    return {**differences, "megabytes": megabytes}


def _for_the_card(
    graphs: list[Graph], exported: dict[str, ExportedGraph], program: str, size: int, module: nn.Module
) -> dict[str, Any]:
    """Return the values of ``templates/use_onnx.md``."""
    measures = getattr(getattr(module, "size_condition", None), "measures", ())
    return {
        "graphs": [
            {
                "name": graph.name,
                "inputs": ", ".join(
                    f"`{name}` {_shape(exported[graph.name].shapes[name])}" for name in graph.inputs
                ),
                "outputs": ", ".join(
                    f"`{name}` {_shape(exported[graph.name].shapes[name])}" for name in graph.outputs
                ),
                "difference": f"{exported[graph.name].difference:.1e}",
            }
            for graph in graphs
        ],
        "program": program,
        "size": size,
        "tolerance": f"{TOLERANCE:g}",
        "share": min(graph.share for graph in graphs),
        "measures": list(measures),
        "textured": any("texture_noise" in graph.inputs for graph in graphs),
    }


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(['B', *map(str, shape)])})"
