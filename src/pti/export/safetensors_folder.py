"""The format ``safetensors``: a folder that every command of `pti` takes in place of a checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from torch import nn

from pti.common.files import write_bytes_atomically, write_json_atomically
from pti.export.for_inference import content_for_inference
from pti.export.written import Written
from pti.runs.checkpoint import Checkpoint, open_checkpoint
from pti.runs.exported import CONFIG, WEIGHTS, to_files
from pti.runs.summary import package_versions


def write_safetensors(checkpoint: Checkpoint, module: nn.Module, output_dir: Path) -> Written:
    """Write ``model.safetensors`` and ``config.json``, and verify that they open.

    ``config.json`` is written last: it holds the hash of the weights, so that an interrupted export is
    refused.

    Args:
        checkpoint: The checkpoint.
        module: Its module.
        output_dir: The folder.
    """
    from safetensors.torch import save

    config, tensors = to_files(content_for_inference(checkpoint, module))
    data = save(tensors, metadata={"format": "pt"})
    write_bytes_atomically(output_dir / WEIGHTS, data)
    config["weights_sha256"] = hashlib.sha256(data).hexdigest()
    config["exported"] = {"from_sha256": checkpoint.sha256, "versions": package_versions()}
    write_json_atomically(output_dir / CONFIG, config)
    open_checkpoint(output_dir).load_module()
    parameters = sum(parameter.numel() for parameter in module.parameters())
    stored = sum(value.numel() for value in tensors.values())
    figures: dict[str, Any] = {
        "parameters of the checkpoint": parameters,
        "numbers exported": stored,
        "megabytes": round(len(data) / 1e6, 2),
        "reference for trust": "included" if "trust" in config else "none",
    }
    return Written(figures, {"weights": output_dir / WEIGHTS, "configuration": output_dir / CONFIG})
