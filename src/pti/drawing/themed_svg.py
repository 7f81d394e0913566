"""Render matplotlib figures as inline SVG in the page's colours, so that one picture suits light and dark."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from markupsafe import Markup
from matplotlib import style
from matplotlib.figure import Figure

TEXT, LINE = "#010101", "#020202"
SERIES = ("#030303", "#040404", "#050505", "#060606", "#070707", "#080808")
"""Placeholders, replaced by the page's text colour, ``--line`` and ``--series-1`` … ``--series-6``."""

_PAGE_COLORS = {TEXT: "currentColor", LINE: "var(--line)"}
_PAGE_COLORS |= {color: f"var(--series-{number})" for number, color in enumerate(SERIES, start=1)}
_STYLE = Path(__file__).with_name("templates") / "page.mplstyle"


class Drawing:
    """A matplotlib figure, and its SVG once the `drawing` block has ended."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), layout="constrained")
        self.svg = Markup("")


@contextmanager
def drawing(width: float, height: float, label: str) -> Iterator[Drawing]:
    """Provide a figure to draw on; render it to ``svg`` when the block ends.

    Args:
        width: Inches; text is 10 points high.
        height: Inches.
        label: Accessible description of the figure.
    """
    with style.context(_STYLE):
        canvas = Drawing(width, height)
        yield canvas
        buffer = io.StringIO()
        canvas.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    canvas.svg = Markup(_inline(buffer.getvalue(), label, round(118 * width)))


def _inline(svg: str, label: str, max_width: int) -> str:
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # Remove matplotlib's font family, so that the text takes the page's font.
    svg = re.sub(r"font: ([\d.]+)px '[^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font: (bold|700) ([\d.]+)px '[^;\"]*", r"font-weight: 600; font-size: \2px", svg)
    for placeholder, color in _PAGE_COLORS.items():
        svg = svg.replace(placeholder, color)
    attributes = f'role="img" aria-label="{label}" class="plot" style="max-width: {max_width}px"'
    return svg.replace("<svg ", f"<svg {attributes} ", 1)
