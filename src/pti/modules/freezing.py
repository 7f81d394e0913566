"""Parts of networks that a training keeps as they are (``freeze``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from pti.common.errors import UsageError

if TYPE_CHECKING:
    from pti.modules.manual_optimization import ManualOptimization


def freeze(module: ManualOptimization, names: Sequence[str] | str | None) -> list[str]:
    """Freeze parts of the trained networks, before the optimizers are built.

    Their weights get no gradients and no optimizer, and they stay in evaluation mode, so that no running
    statistic changes either.

    Args:
        module: The module that will be trained.
        names: Dotted names of parts, within the module or within one of its networks: ``encoder``,
            ``autoencoder.encoder.blocks.0``; None = nothing.

    Returns:
        The full names of the parts.

    Raises:
        UsageError: There is no such part, or nothing of a network is left to train.
    """
    names = [names] if isinstance(names, str) else list(names or ())
    trained = {id(network) for network in module.trained_networks}
    networks = {name: child for name, child in module.named_children() if id(child) in trained}
    parts = {
        f"{owner}.{inner}": part
        for owner, network in networks.items()
        for inner, part in network.named_modules()
        if inner and any(True for _ in part.parameters())
    }
    chosen = {full: parts[full] for name in names for full in [_full_name(name, parts, networks)]}
    for part in chosen.values():
        part.requires_grad_(False)
    for owner, network in networks.items():
        if chosen and not any(weight.requires_grad for weight in network.parameters()):
            raise UsageError(
                f"freeze={_shown(names)}: nothing of {owner} is left to train. Freeze less of it."
            )
    module.keep_frozen(list(chosen.values()))
    return list(chosen)


def _full_name(name: str, parts: dict[str, nn.Module], networks: dict[str, nn.Module]) -> str:
    for full in (name, *(f"{owner}.{name}" for owner in networks)):
        if full in parts:
            return full
    if name in networks:
        raise UsageError(
            f"freeze={_shown([name])}: nothing of {name} would be left to train. Freeze a part of it."
        )
    example = max(parts, key=lambda full: (full.count(".") == 3, -len(full)))
    owners = {owner: [full for full in parts if full.rpartition(".")[0] == owner] for owner in networks}
    possible = ", ".join(full for fulls in owners.values() for full in fulls)
    raise UsageError(
        f"freeze={_shown([name])}: no such part. Expected one of {possible}, or a part of these, such as "
        f"{example}; the network's name may be left out."
    )


def _shown(names: Sequence[str]) -> str:
    return f"[{','.join(map(str, names))}]"
