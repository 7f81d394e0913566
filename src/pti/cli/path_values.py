"""Values of path keys, taken as they are typed: brackets, ``#``, ``=``, ``true``, ``123`` need no quotes."""

import re
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from pti.common.nested import flatten
from pti.common.path_settings import expand_home, is_path_key, quoted

OmegaConf.register_new_resolver("expand_home", expand_home, replace=True)  # for conf/hydra/default.yaml

LIST_KEYS = ("ckpt", "config", "prediction_dir")
"""Keys that take one path or a list of them, ``[A,B]``."""

_QUOTED = r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
_LIST = rf"\[(?:{_QUOTED}|[^\]])*\]"
_INTERPOLATION = r"\$\{[^}]*\}"
_ELEMENT = re.compile(rf"\s*({_QUOTED}|{_LIST}|(?:{_INTERPOLATION}|[^,])*?)\s*(?:,|\Z)", re.DOTALL)
_SWEEP = re.compile(r"(choice|glob|interval|range|shuffle|sort|tag)\(.*\)", re.DOTALL)


def quote_paths(overrides: Sequence[str], sweep: bool) -> list[str]:
    """Quote the values of path keys that Hydra would not read as they are typed, and expand ``~``.

    Quoted values, lists (of `LIST_KEYS`), interpolations and null keep their meaning.

    Args:
        overrides: Overrides, ``key=value``, with the prefixes ``+`` and ``++``.
        sweep: Commas separate the values of a sweep (``-m``), and ``choice(…)`` is one.
    """
    return [_quote_override(text, sweep) for text in overrides]


def expand_paths(config: DictConfig) -> DictConfig:
    """Expand ``~`` in the values of path keys, wherever they come from; change the configuration."""
    for key in filter(is_path_key, flatten(OmegaConf.to_container(config))):  # type: ignore[arg-type]
        value = OmegaConf.select(config, key, throw_on_resolution_failure=False)
        items = value if isinstance(value, ListConfig) else [value]
        if any(isinstance(item, str) and item.startswith("~") for item in items):
            expanded = [expand_home(item) if isinstance(item, str) else item for item in items]
            OmegaConf.update(config, key, expanded if isinstance(value, ListConfig) else expanded[0])
    return config


def _quote_override(text: str, sweep: bool) -> str:
    key, _, value = text.partition("=")
    name = key.lstrip("+")
    if not value or not is_path_key(name) or name.startswith("~") or (sweep and _SWEEP.fullmatch(value)):
        return text
    quote = _quote_list if name in LIST_KEYS else _quote_value
    return f"{key}={','.join(map(quote, _split(value) if sweep else [value]))}"


def _split(values: str) -> Iterator[str]:
    """Split at commas outside of quotes, lists and interpolations."""
    ended = 0
    for match in _ELEMENT.finditer(values):
        if match.end() > ended or not values or values[-1] == ",":
            yield match[1]
        ended = match.end()


def _quote_list(value: str) -> str:
    if re.fullmatch(_LIST, value.strip(), re.DOTALL):
        return f"[{','.join(map(_quote_value, _split(value.strip()[1:-1])))}]"
    return _quote_value(value)


def _quote_value(value: str) -> str:
    plain = value.strip()
    if not plain or plain.lower() == "null" or re.fullmatch(_QUOTED, plain, re.DOTALL):
        return value
    path = expand_home(value)
    return path if _reads_as_typed(path) else quoted(path)


def _reads_as_typed(value: str) -> bool:
    try:
        return OverridesParser.create().parse_override(f"path={value}").value() == value
    except HydraException:
        return False
