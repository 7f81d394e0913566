"""Find the places where a program waits for its device, without having one.

Tensors on torch's ``meta`` device have shapes but no values. Whatever needs a value there would wait for a
GPU: ``item()``, ``bool(tensor)``, ``nonzero()``, a copy to the CPU. `no_waiting` raises at each, and at each
blocking copy from the CPU, which waits for a GPU as well.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.accelerators.cpu import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pti.modules import manual_optimization

_aten = torch.ops.aten
_may_wait: ContextVar[bool] = ContextVar("_may_wait", default=False)


class Waited(Exception):  # noqa: N818  (what happened, not an error of the program)
    """A program waited for its device."""


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Raise `Waited` wherever a program waits for the meta device, except inside `may_wait`.

    There, values are made up: random floats, True and 1.
    """
    with _Functions(), _Operations():
        yield


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        _report(func, _describe_wait(func, args, kwargs))
        if func is _aten._local_scalar_dense.default and args[0].is_meta:
            return _made_up(args[0]).item()
        if func is _aten._to_copy.default and args[0].is_meta and _target(args, kwargs).type == "cpu":
            return _made_up(args[0], kwargs.get("dtype"))
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    """Functions that copy lists and numbers to the device, which the meta device leaves out."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if (
            func in (torch.tensor, torch.as_tensor)
            and torch.device(kwargs.get("device") or "cpu").type == "meta"
        ):
            _report(func, "copies numbers from the CPU")
        if func is Tensor.__getitem__ and args[0].is_meta:
            indices = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(index, (list, np.ndarray)) for index in indices):
                _report(func, "copies indices from the CPU")
        return func(*args, **kwargs)


def _report(func: Any, wait: str | None) -> None:
    if wait and not _may_wait.get():
        raise Waited(f"{func}: {wait}")


def _describe_wait(func: Any, args: Any, kwargs: Any) -> str | None:
    if func is _aten._local_scalar_dense.default and args[0].is_meta:
        return "reads a value"
    if func is _aten._to_copy.default and not kwargs.get("non_blocking"):
        source, target = args[0].device.type, _target(args, kwargs).type
        return f"copies from {source} to {target}" if source != target else None
    if func is _aten.copy_.default and not (len(args) > 2 and args[2]) and not kwargs.get("non_blocking"):
        target, source = args[0].device.type, args[1].device.type
        return f"copies from {source} to {target}" if source != target and args[1].dim() else None
    if func in (_aten.index.Tensor, _aten.index_put_.default) and args[0].is_meta:
        indices = [index for index in args[1] if index is not None]
        return "copies indices from the CPU" if any(not index.is_meta for index in indices) else None
    return None


def _target(args: Any, kwargs: Any) -> torch.device:
    return kwargs.get("device") or args[0].device


def _made_up(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    dtype = dtype or tensor.dtype
    return (torch.rand if dtype.is_floating_point else torch.ones)(tensor.shape, dtype=dtype)


@contextlib.contextmanager
def allowed(names: Mapping[str, str], around: Callable[[], Any]) -> Iterator[None]:
    """Let these functions wait, and whatever they call.

    Args:
        names: ``module:qualified.name`` -> how often it waits, and why.
        around: makes the context in which each of them runs.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            module, _, path = name.partition(":")
            *owners, attribute = path.split(".")
            owner = functools.reduce(getattr, owners, importlib.import_module(module))
            patch.setattr(owner, attribute, _inside(getattr(owner, attribute), around))
        yield


def _inside(function: Callable[..., Any], around: Callable[[], Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with around():
            return function(*args, **kwargs)

    return wrapped


@contextlib.contextmanager
def may_wait() -> Iterator[None]:
    """Let the program wait inside."""
    token = _may_wait.set(True)
    try:
        yield
    finally:
        _may_wait.reset(token)


class _MetaAccelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """Accept any device."""


@contextlib.contextmanager
def meta_device() -> Iterator[dict[str, Any]]:
    """Yield the arguments of a Trainer on the meta device, which lacks generators and autocast."""
    autocast, generator = torch.autocast, manual_optimization.keyed_generator

    def substitute(device: Any) -> Any:
        return "cpu" if str(device) == "meta" else device

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "autocast", lambda kind, *a, **k: autocast(substitute(kind), *a, **k))
        patch.setattr(manual_optimization, "keyed_generator", lambda d, *key: generator(substitute(d), *key))
        strategy = SingleDeviceStrategy(torch.device("meta"))
        yield {"accelerator": _MetaAccelerator(), "strategy": strategy}


@contextlib.contextmanager
def cheap_weights() -> Iterator[None]:
    """Leave new networks uninitialised: on the meta device no weight has a value anyway."""
    names = [name for name in dir(torch.nn.init) if name.endswith("_") and not name.startswith("_")]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)
        yield


def trainer_of(settings: Mapping[str, Any], **more: Any) -> lightning.Trainer:
    """A Trainer without files."""
    return lightning.Trainer(
        **{
            "max_epochs": 1,
            "limit_train_batches": 1,
            "limit_val_batches": 1,
            "num_sanity_val_steps": 0,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            **settings,
            **more,
        }
    )
