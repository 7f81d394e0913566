"""The weights that a new run starts from (``init_from``): what fits is copied, and what doesn't is listed."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.modules.freezing import freeze
from pti.modules.manual_optimization import ManualOptimization
from pti.runs.constructors import shortened
from pti.runs.first_stage import FIRST_STAGE, warnings_about_other_split
from pti.runs.weights import Match, Weights, match, require_finite

_MAX_LISTED = 8  # modules
_AVERAGE = "ema.model."


@dataclass(frozen=True)
class Copied:
    """What was copied into a new module.

    Attributes:
        summary: One line: how many weights of each network come from which file.
        skipped: One line for each module with weights that didn't fit.
        warnings: Sentences on differences that may matter.
    """

    summary: str
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]


def prepare_weights(
    module: ManualOptimization, weights: Weights | None, config: Mapping[str, Any], leading: bool = True
) -> dict[str, str]:
    """Give a module the weights of ``init_from``, and freeze the parts in ``freeze``.

    A resumed run ignores ``init_from``: its checkpoint holds what has become of these weights, and the same
    command line with ``ckpt_path=last`` must continue the run.

    Args:
        module: The new module.
        weights: The opened file ``init_from``; None = none, or the run is resumed.
        config: ``conf/train.yaml``, composed, plain.
        leading: Whether this process prints warnings.

    Returns:
        Lines for the printed plan: ``weights`` and ``frozen``, where they apply.

    Raises:
        UsageError, DataError: See `start_from` and `freeze`.
    """
    plan = {}
    if weights is not None:
        copied = start_from(module, weights, config, bool(config.get("init_strict")))
        plan["weights"] = "\n".join([copied.summary, *(f"skipped: {line}" for line in copied.skipped)])
        for warning in copied.warnings if leading else ():
            print(f"Warning: {warning}", file=sys.stderr)
    elif config.get("init_from") is not None:
        plan["weights"] = "those of the resumed run; init_from has no effect on it"
    if frozen := freeze(module, config.get("freeze")):
        plan["frozen"] = ", ".join(frozen)
    return plan


def start_from(
    module: ManualOptimization, weights: Weights, config: Mapping[str, Any], strict: bool = False
) -> Copied:
    """Copy weights into the networks that are trained, and into the average.

    Nothing else is copied: neither optimizers and counters, nor the statistics of the normalisation and of
    the latents, which are measured on the run's own data. Of our own checkpoints with an average, the
    averaged weights are taken, which is what its validation measured.

    Args:
        module: The new module; its first stage keeps its weights.
        weights: The opened file.
        config: ``conf/train.yaml``, composed, plain.
        strict: Refuse weights that don't fit instead of skipping them.

    Raises:
        UsageError: Nothing fits, or something doesn't and ``strict`` is set.
        DataError: A weight isn't finite.
    """
    networks = _networks(module)
    matches = {}
    for number, (name, network) in enumerate(networks.items()):
        ours = [_AVERAGE] * (number == 0) + [f"{name}."]
        expected = ours if weights.checkpoint is not None else [f"{name}.", ""]
        matches[name] = match(weights.tensors, network.state_dict(), expected)
    found = {name: matched for name, matched in matches.items() if matched.fitting}
    if not found:
        raise UsageError(_nothing_fits(weights, networks))
    skipped = tuple(_abbreviated([line for name in found for line in _misfits(name, found[name])]))
    if strict and skipped:
        raise UsageError(
            f"{setting('init_from', weights.path)}: init_strict=true, but not all weights fit:"
            f"{''.join(f'{chr(10)}  {line}' for line in skipped)}\n"
            "Change the model's settings to those of the file, or leave out init_strict."
        )
    for name, matched in found.items():
        require_finite(matched.fitting, weights.path)
        _copy(matched, networks[name])
    first = next(iter(networks.values()))
    if module.ema is not None:
        module.ema.model.load_state_dict(first.state_dict())
    counts = [_count(name, matches[name], networks[name]) for name in networks]
    return Copied(
        f"{'; '.join(counts)}; from {weights.path}", skipped, tuple(_warnings(module, weights, config))
    )


def _networks(module: ManualOptimization) -> dict[str, nn.Module]:
    trained = {id(network) for network in module.trained_networks}
    return {name: child for name, child in module.named_children() if id(child) in trained}


def _copy(matched: Match, network: nn.Module) -> None:
    own = network.state_dict()  # shares its memory with the network
    with torch.no_grad():
        for name, value in matched.fitting.items():
            own[name].copy_(value)


def _count(name: str, matched: Match, network: nn.Module) -> str:
    if not matched.fitting:
        return f"{name}: new"
    total = len(network.state_dict())
    return f"{name}: {len(matched.fitting)} of {total} weights"


def _misfits(name: str, matched: Match) -> list[str]:
    """List what doesn't fit, one line for each module and reason."""
    lines, groups = [], defaultdict(list)
    for weight, (there, here) in matched.other_shape.items():
        groups[_module_of(weight)].append((there, here))
    for part, shapes in groups.items():
        there, here = shapes[0]
        lines.append(
            f"{name}.{part}: {_weights(len(shapes))} of another shape ({list(there)} in the file, here "
            f"{list(here)})"
        )
    for names, reason in ((matched.missing, "not in the file"), (matched.unused, "only in the file")):
        counts: dict[str, int] = defaultdict(int)
        for weight in names:
            counts[_module_of(weight)] += 1
        lines += [f"{name}.{part}: {_weights(count)} {reason}" for part, count in counts.items()]
    return lines


def _module_of(weight: str) -> str:
    """Return the first parts of a weight's name: ``encoder.blocks.3``."""
    return ".".join(weight.split(".")[:-1][:3]) or weight


def _weights(count: int) -> str:
    return f"{count} weight{'' if count == 1 else 's'}"


def _abbreviated(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _MAX_LISTED
    return [*lines[:_MAX_LISTED], *([f"and {more} more modules"] if more > 0 else [])]


def _nothing_fits(weights: Weights, networks: Mapping[str, nn.Module]) -> str:
    there = ", ".join(dict.fromkeys(_module_of(shortened(name)) for name in list(weights.tensors)[:400]))
    here = ", ".join(
        f"{name}.{child}" for name, network in networks.items() for child, _ in network.named_children()
    )
    hint = "the file and the experiment must describe the same kind of network"
    if weights.checkpoint is not None:
        kind = str(weights.checkpoint.config["model"].get("_target_", "")).rpartition(".")[2]
        hint = f"the file is a checkpoint of {shortened(kind)}"
        if kind == "AdversarialVAE":
            hint += "; a trained autoencoder belongs in autoencoder_ckpt"
    return (
        f"{setting('init_from', weights.path)}: none of its {len(weights.tensors)} weights fits; {hint}.\n"
        f"  in the file: {shortened(there)}\n  here: {shortened(here)}"
    )


def _warnings(module: ManualOptimization, weights: Weights, config: Mapping[str, Any]) -> list[str]:
    checkpoint = weights.checkpoint
    if checkpoint is None:
        return []
    warnings = []
    here, there = (_normalization(model) for model in (config["model"], checkpoint.config["model"]))
    if here != there:
        warnings.append(
            f"init_from was trained with the normalisation {there}, and this run has {here}: its images look "
            "different to the network."
        )
    if _other_autoencoder(module, weights):
        warnings.append(
            "init_from was trained on the latents of another autoencoder, which mean something else to the "
            "network. Leave out autoencoder_ckpt to train with the autoencoder in init_from."
        )
    data, trained = config["data"], checkpoint.config.get("data") or {}
    if data.get("root") == trained.get("root"):
        warnings += warnings_about_other_split(data, trained, f"the weights in {weights.path}")
    return warnings


def _normalization(model: Mapping[str, Any]) -> str:
    own = model.get("normalization") or (model.get("first_stage") or {}).get("normalization") or {}
    return str(own.get("_target_", "none")).rpartition(".")[2]


def _other_autoencoder(module: nn.Module, weights: Weights) -> bool:
    """Return whether both have a frozen autoencoder, and not the same one."""
    own = {name: value for name, value in module.state_dict().items() if name.startswith(FIRST_STAGE)}
    there = {name: value for name, value in weights.tensors.items() if name.startswith(FIRST_STAGE)}
    if not own or not there:
        return False
    return own.keys() != there.keys() or any(not torch.equal(own[name], there[name]) for name in own)
