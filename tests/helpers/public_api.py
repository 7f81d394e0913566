"""What the page on the Python API lists: names in the code, with their signatures."""

import importlib
import inspect
import re
from typing import Any

from helpers.readme_text import REPOSITORY, blocks

PAGE = (REPOSITORY / "src" / "pti" / "inference" / "README.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
EXAMPLES = blocks(PAGE, "python")

CALLS = re.findall(r"`(pti(?:\.\w+)+)\(([^`]*)\)`", PROSE)
"""(dotted name, arguments) of each listed function."""

DOTTED = {name for name, _ in CALLS} | set(re.findall(r"`(pti(?:\.\w+)+)`", PROSE))
"""Functions, classes, constants and modules on the page, with their modules."""

MODULES = DOTTED | {name.rpartition(".")[0] for name in DOTTED}

NAMES = set(re.findall(r"`([A-Za-z_]\w*)`", PROSE)) | {name.split(".")[-1] for name in MODULES}
"""Every name on the page, without its module."""


def find(name: str) -> Any:
    """Import the object with a dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def signature_text(function: Any) -> str:
    """Return the arguments of a function as the page writes them, without types and ``self``."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    return str(inspect.Signature(parameters))[1:-1]


def untyped(function: Any) -> list[str]:
    """List the arguments without a type, and ``return`` if the result has none."""
    signature = inspect.signature(function)
    missing = [
        name
        for name, parameter in signature.parameters.items()
        if name not in ("self", "cls") and parameter.annotation is inspect.Parameter.empty
    ]
    return missing + ["return"] * (signature.return_annotation is inspect.Signature.empty)
