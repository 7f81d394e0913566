"""Search space: the keys to search and their ranges or choices."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pti.common.errors import UsageError
from pti.common.nested import flatten
from pti.common.path_settings import is_path_key, quoted

if TYPE_CHECKING:
    from optuna import Trial

_FIELDS = ("low", "high", "log", "step", "choices")
_PLACES = ("output_dir", "ckpt_path", "resume", "forecast", "new_sweep")
_EXAMPLE = "{low: 1e-8, high: 1e-5, log: true} or a list of choices"


@dataclass(frozen=True)
class Parameter:
    """A key of the training's configuration, and the values to search.

    Attributes:
        key: Dotted key, or group (``model/path``) whose options are the choices.
        low: Lowest number.
        high: Highest number.
        log: Search powers evenly rather than values.
        step: Distance between the numbers; None = any number.
        whole: Whole numbers only.
        choices: Values to choose from; empty for a range.
    """

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def label(self) -> str:
        """Short name for tables and plots: the last part of the key."""
        return self.key.replace("/", ".").split(".")[-1]

    def suggest(self, trial: Trial) -> Any:
        """Return the value of the trial, drawn by its study's sampler unless the trial has one already."""
        if self.choices:
            texts = [typed(choice) for choice in self.choices]
            return self.choices[texts.index(trial.suggest_categorical(self.key, texts))]
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def value_of(self, stored: Any) -> Any:
        """Return the value that Optuna stored, which is a choice as it is typed, as the training gets it."""
        return next((choice for choice in self.choices if typed(choice) == stored), stored)

    def override(self, value: Any) -> str:
        """Return ``key=value`` for the command line of `train`."""
        return f"{self.key}={typed(value)}"

    def describe(self) -> str:
        """Describe the values to search: ``1e-08 to 1e-05, log``, or the choices."""
        if self.choices:
            return " or ".join(map(typed, self.choices))
        log, step = ", log" if self.log else "", "" if self.step is None else f", in steps of {self.step}"
        return f"{self.low} to {self.high}{log}{step}"


def typed(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, str):
        plain = value.replace("_", "").replace("-", "").isalnum() and value.lower() not in ("true", "false")
        return value if plain and not _is_number(value) and value != "null" else quoted(value)
    return repr(value)


def read_space(
    space: Mapping[str, Any], config: Mapping[str, Any], groups: Mapping[str, Any]
) -> list[Parameter]:
    """Read the search space from the command's configuration.

    Args:
        space: ``conf/space``, composed: nested keys, with a range or a list of choices at the end.
        config: Configuration of a training, resolved as far as possible; gives the keys their types.
        groups: Group (``model/path``) -> its options.

    Raises:
        UsageError: The space is empty, or the range or the choices of a key can't be used.
    """
    values = flatten(config)
    parameters = [_parameter(key, found, values, groups) for key, found in _leaves(space).items()]
    if not parameters:
        raise UsageError(
            f"space is not set: expected space=NAME, one of {', '.join(groups.get('space', ()))}, or the "
            "keys to search: '+space.model.kl_weight={low:1e-8,high:1e-5,log:true}'."
        )
    for parameter in parameters:
        if parameter.key.split(".")[0] in _PLACES or is_path_key(parameter.key):
            raise UsageError(
                f"space.{parameter.key}: this key says where a trial runs; it can't be searched."
            )
    return parameters


def _leaves(space: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted key -> range, list or whatever else is there."""
    found: dict[str, Any] = {}
    for name, value in space.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and not set(value) & {"low", "high", "choices"}:
            found |= _leaves(value, f"{key}.")
        else:
            found[key] = value
    return found


def _parameter(key: str, found: Any, values: Mapping[str, Any], groups: Mapping[str, Any]) -> Parameter:
    default, group = values.get(key), key.replace(".", "/")
    if isinstance(default, Mapping) and group in groups:
        key = group
    if isinstance(found, list):
        found = {"choices": found}
    if not isinstance(found, Mapping):
        raise UsageError(f"space.{key}: expected {_EXAMPLE}, found {found}.")
    for name in found:
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"space.{key}.{name}: there is no such key.{hint} Expected {', '.join(_FIELDS)}."
            )
    if "choices" in found:
        return _choices(key, found)
    if key in groups:
        raise UsageError(f"space.{key}: expected a list of options, such as [{', '.join(groups[key][:3])}].")
    if isinstance(default, Mapping):
        below = [known for known in values if known.startswith(f"{key}.")][:3]
        raise UsageError(f"space.{key}: this is a block of keys; expected one of them: {', '.join(below)}.")
    return _range(key, found, default)


def _choices(key: str, found: Mapping[str, Any]) -> Parameter:
    choices = found["choices"]
    texts = {typed(choice) for choice in choices} if isinstance(choices, list) else set()
    if len(found) > 1 or len(texts) < 2 or len(texts) < len(choices):
        raise UsageError(
            f"space.{key}: expected choices alone, two or more different ones, found {dict(found)}."
        )
    return Parameter(key, choices=tuple(choices))


def _range(key: str, found: Mapping[str, Any], default: Any) -> Parameter:
    low, high, step = (found.get(name) for name in ("low", "high", "step"))
    log = found.get("log", False)
    numbers = [number for number in (low, high, step) if number is not None]
    if low is None or high is None or not all(map(_is_real, numbers)) or not isinstance(log, bool):
        raise UsageError(f"space.{key}: expected {_EXAMPLE}, found {dict(found)}.")
    whole = all(isinstance(number, int) for number in numbers) and not isinstance(default, float)
    if isinstance(default, int) and not isinstance(default, bool) and not whole:
        raise UsageError(
            f"space.{key}: expected whole numbers, as its default {default}, found {dict(found)}."
        )
    problem = _problem(low, high, step, log, whole)
    if problem:
        raise UsageError(f"space.{key}: {problem}")
    kind = int if whole else float
    return Parameter(key, kind(low), kind(high), log, None if step is None else kind(step), whole)


def _problem(low: float, high: float, step: float | None, log: bool, whole: bool) -> str:
    if low >= high:
        return f"low is {low} and high is {high}; expected low < high."
    if log and low <= 0:
        return f"low is {low}; log: true needs a low above 0."
    if log and step is not None:
        return "log: true and step exclude each other; remove one of them."
    if step is not None and not 0 < step <= high - low:
        return f"step is {step}; expected more than 0, up to {high - low:g}."
    return ""


def _is_real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
