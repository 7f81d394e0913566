"""Whether a value on the command line is of the type that the configuration's default has."""

from typing import Any

from omegaconf import DictConfig, ListConfig

_ANY_TEXT = ("auto", "???")  # defaults that stand for values of other types too


def raw_value(config: DictConfig, key: str) -> Any:
    """The value as it stands, without resolving interpolations; None when it is absent or missing."""
    node: Any = config
    for part in key.split("."):
        if (
            not isinstance(node, DictConfig)
            or node._is_none()
            or node._is_missing()
            or node._is_interpolation()
        ):
            return None
        node = node._get_node(part)
    if isinstance(node, (DictConfig, ListConfig)):
        return None if node._is_none() or node._is_missing() or node._is_interpolation() else node
    return None if node is None else node._value()


def expected_type(old: Any, new: Any) -> str | None:
    """What was expected, if ``new`` can't stand where ``old`` stood; None if it can."""
    if old is None or new is None or (isinstance(new, str) and new.startswith("${")):
        return None
    if isinstance(old, str):
        free = old in _ANY_TEXT or old.startswith("${")
        return "text" if not free and isinstance(new, (DictConfig, ListConfig)) else None
    if isinstance(old, bool):
        return None if isinstance(new, bool) else "true or false"
    if isinstance(old, int):
        return None if isinstance(new, int) and not isinstance(new, bool) else "a whole number"
    if isinstance(old, float):
        return None if isinstance(new, (int, float)) and not isinstance(new, bool) else "a number"
    if isinstance(old, ListConfig):
        return None if isinstance(new, ListConfig) else "a list, [a,b,c]"
    if isinstance(old, DictConfig):
        return None if isinstance(new, DictConfig) else "a group of keys"
    return None
