"""The format ``monai_bundle``: a folder that ``monai.bundle`` runs, with `pti` installed beside it."""

from __future__ import annotations

import io
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pti.common.files import write_bytes_atomically, write_json_atomically
from pti.export.for_inference import content_for_inference
from pti.export.written import Written
from pti.inference.monai_bundle import require_images
from pti.modules.protocols import Translator
from pti.runs.checkpoint import Checkpoint, open_checkpoint

METADATA, INFERENCE, WEIGHTS = "configs/metadata.json", "configs/inference.json", "models/model.pt"
FILES = (METADATA, INFERENCE, WEIGHTS)

_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
_VERSION = "1.0.0"


def write_monai_bundle(checkpoint: Checkpoint, module: nn.Module, output_dir: Path) -> Written:
    """Write weights, metadata and the configuration of the inference, and verify that the weights open.

    Args:
        checkpoint: The checkpoint.
        module: Its module.
        output_dir: The folder.

    Raises:
        UsageError: The model makes no images.
    """
    require_images(module, str(checkpoint.path))
    content = io.BytesIO()
    torch.save(content_for_inference(checkpoint, module), content)
    write_bytes_atomically(output_dir / WEIGHTS, content.getvalue())
    open_checkpoint(output_dir / WEIGHTS).load_module()
    translates = isinstance(module, Translator)
    size = int(checkpoint.config["data"]["image_size"])
    write_json_atomically(output_dir / METADATA, _metadata(checkpoint, translates, size))
    write_json_atomically(output_dir / INFERENCE, _inference())
    judges = checkpoint.content.get("trust") is not None
    figures = {
        "megabytes": round(len(content.getvalue()) / 1e6, 2),
        "reference for trust": "included" if judges else "none",
    }
    artefacts = {
        "weights": output_dir / WEIGHTS,
        "metadata": output_dir / METADATA,
        "configuration": output_dir / INFERENCE,
    }
    return Written(figures, artefacts, {"translates": translates, "size": size})


def _inference() -> dict[str, Any]:
    """Return ``inference.json``, with the names that MONAI expects of an inference workflow."""
    return {
        "imports": ["$import torch", "$from pathlib import Path"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/input'",
        "output_dir": "$@bundle_root + '/output'",
        "samples": 1,
        "seed": 0,
        "batch_size": 8,
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": "pti.inference.monai_bundle.BundleNetwork",
            "ckpt": f"$@bundle_root + '/{WEIGHTS}'",
            "seed": "@seed",
        },
        "network": "$@network_def.to(@device)",
        "dataset": {
            "_target_": "pti.data.input_images.find_images",
            "folder": "$Path(@dataset_dir)",
            "skip": "$Path(@output_dir)",
        },
        "inferer": {"_target_": "monai.inferers.SimpleInferer"},
        "evaluator": {
            "_target_": "pti.inference.monai_bundle.FolderEvaluator",
            "dataset": "@dataset",
            "network": "@network",
            "inferer": "@inferer",
            "output_dir": "@output_dir",
            "samples": "@samples",
            "batch_size": "@batch_size",
        },
        "run": ["$@evaluator.run()"],
    }


def _metadata(checkpoint: Checkpoint, translates: bool, size: int) -> dict[str, Any]:
    """Return ``metadata.json`` by MONAI's bundle specification."""
    task = (
        "Predict the edentulous jaw bone from a cross-section that still shows the tooth"
        if translates
        else "Encode jaw-bone cross-sections as latents and reconstruct them"
    )
    inputs, outputs = ("dente", "edente") if translates else ("image", "reconstruction")
    return {
        "schema": _SCHEMA,
        "version": _VERSION,
        "changelog": {_VERSION: f"Exported by pti from the checkpoint with SHA-256 {checkpoint.sha256}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {"pti": _version("pti"), "tifffile": _version("tifffile")},
        "task": task,
        "description": f"{task}. Images are single-channel TIFs; docs/README.md is the model card.",
        "authors": "n/a",
        "copyright": "n/a",
        "intended_use": "Research. This is not a medical device.",
        "network_data_format": {
            "inputs": {"image": _tensor(inputs, size)},
            "outputs": {"pred": _tensor(outputs, size)},
        },
    }


def _tensor(content: str, size: int) -> dict[str, Any]:
    return {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": 1,
        "spatial_shape": [size, size],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {"0": f"{content}, raw values, background exactly 0"},
    }


def _version(package: str) -> str:
    """Return an installed version, without the name of a build such as ``+cpu``."""
    return metadata.version(package).split("+")[0]
