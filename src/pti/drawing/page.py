"""Self-contained HTML pages from the package's templates."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

PACKAGE = Path(__file__).resolve().parents[1]


def render(template: str, **values: Any) -> str:
    """Fill a template; escape every value that is not already ``Markup``.

    Args:
        template: path of the template inside the package, such as ``check/templates/check.html``.
        values: values of the template's variables; a missing one is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(PACKAGE),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
