"""Frozen parts keep their bits, get no gradients and no optimizer; everything else is trained."""

import copy
import re
from typing import Any

import pytest
import torch

from helpers.tiny_vae import equal, fit, tiny_vae, weights
from pti.common.errors import UsageError
from pti.modules.freezing import freeze


@pytest.mark.parametrize("name", ["encoder", "autoencoder.encoder", "encoder.blocks.0", "discriminator.0"])
def test_a_frozen_part_keeps_its_bits(name):
    module = tiny_vae(ema_decay=0.9)
    before = copy.deepcopy(module)
    (full,) = freeze(module, [name])
    trainer = fit(module, max_epochs=2)
    part, old = module.get_submodule(full), before.get_submodule(full)
    assert equal(weights(part), weights(old))
    assert all(parameter.grad is None for parameter in part.parameters())
    optimized = {id(p) for o in trainer.optimizers for group in o.param_groups for p in group["params"]}
    assert not optimized & {id(parameter) for parameter in part.parameters()}
    assert not equal(weights(module.autoencoder.decoder), weights(before.autoencoder.decoder))
    if full.startswith("autoencoder"):
        assert module.ema is not None
        averaged = module.ema.model.get_submodule(full.removeprefix("autoencoder."))
        assert equal(weights(averaged), weights(old))


def test_running_statistics_of_frozen_parts_stay():
    module = tiny_vae()
    norm = torch.nn.BatchNorm2d(1)
    blocks: Any = module.autoencoder.encoder.blocks
    blocks.insert(0, norm)
    freeze(module, ["encoder"])
    fit(module)
    assert norm.num_batches_tracked == 0
    assert module.train().autoencoder.decoder.training
    assert not norm.training


def test_unknown_parts_are_refused_with_the_possible_ones():
    with pytest.raises(UsageError, match=r"freeze=\[encodr\]: no such part.*autoencoder\.encoder, .*discrim"):
        freeze(tiny_vae(), ["encodr"])


@pytest.mark.parametrize("names", [["discriminator"], ["autoencoder"]])
def test_a_whole_network_is_refused(names):
    with pytest.raises(UsageError, match=f"nothing of {names[0]}"):
        freeze(tiny_vae(), names)


def test_the_parts_of_a_whole_network_are_refused():
    module = tiny_vae()
    parts = [f"discriminator.{name}" for name, _ in module.discriminator.named_children()]
    with pytest.raises(UsageError, match="nothing of discriminator"):
        freeze(module, parts)


def test_nothing_is_frozen_by_default():
    module = tiny_vae()
    assert freeze(module, None) == []
    assert all(p.requires_grad for network in module.trained_networks for p in network.parameters())


def test_an_adaptive_weight_needs_the_decoders_last_layer():
    module = tiny_vae(adaptive_adv_weight=True)
    freeze(module, ["decoder"])
    with pytest.raises(UsageError, match=re.escape("model.adaptive_adv_weight=false")):
        fit(module)
    module.adaptive_adv_weight = False
    fit(module)
