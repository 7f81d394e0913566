"""Render self-contained HTML pages from the package's templates."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder that template paths are relative to."""


def render(template: str, **values: Any) -> str:
    """Fill a template; escape every value that is not already ``Markup``.

    Args:
        template: Path of the template inside the package, such as ``check/templates/check.html``.
        values: Values of the template's variables; a missing one is an error.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(PACKAGE),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
