"""Paths as settings on a command line: which keys hold them, and what to type for a path."""

import os
import re
import shlex

_PATH_KEY = re.compile(
    r"(^|[._])(root|dir|folder|ckpt)$|(^|\.)(ckpt_path|init_from|calibration|table)$|^(config|weights)$"
)
_SPECIAL = re.compile(r"""[,'"\[\]]|\$\{|^\s|\s$|^null$""", re.IGNORECASE)
"""Characters in a path that has to be quoted although commands take paths as they are typed."""


def is_path_key(key: str) -> bool:
    """Tell whether the values of a dotted key are paths: ``data.root``, ``output_dir``, ``ckpt``, …."""
    return _PATH_KEY.search(key) is not None


def expand_home(path: str) -> str:
    """Replace a leading ``~`` or ``~user`` by the home folder; leave it if there is no such user."""
    return os.path.expanduser(path)


def quoted(text: str, quote: str = "'") -> str:
    """Quote a value so that Hydra reads it as this text; interpolations (``${…}``) remain."""
    escaped = re.sub(rf"(\\*)({quote}|\Z)", lambda match: 2 * match[1] + (match[2] and f"\\{quote}"), text)
    return f"{quote}{escaped}{quote}"


def literal(path: object, quote: str = "'") -> str:
    """Quote a path so that Hydra reads exactly this path."""
    return quoted(str(path).replace("${", r"\${"), quote)


def as_value(path: object) -> str:
    """Return what to type behind the ``=`` of a path's key."""
    text = str(path)
    text = f"./{text}" if text.startswith("~") else text
    return literal(text, '"') if _SPECIAL.search(text) else text


def setting(key: str, path: object) -> str:
    """Return ``key=path`` as it can be pasted into a shell."""
    return f"{key}={shlex.quote(as_value(path))}"
