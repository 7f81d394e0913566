"""matplotlib figures as inline SVG in the colours of the page around them: one picture for light and dark."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

TEXT, LINE = "#010101", "#020202"
SERIES = ("#030303", "#040404", "#050505", "#060606", "#070707", "#080808")
"""Stand-ins, which the page's own colours replace: ``--series-1`` … ``--series-6``, ``--line``, text."""

_PAGE = {TEXT: "currentColor", LINE: "var(--line)"}
_PAGE |= {color: f"var(--series-{number})" for number, color in enumerate(SERIES, start=1)}


class Drawing:
    """A figure to draw on, and its SVG once it is done."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), layout="constrained")
        self.svg = Markup("")


@contextmanager
def drawing(width: float, height: float, label: str) -> Iterator[Drawing]:
    """A figure of ``width`` × ``height`` inches; its ``svg`` is there when the block ends.

    Args:
        width: inches; text is 10 points high.
        height: inches.
        label: what it shows, for those who can't see it.
    """
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "pti", "font.size": 10}
    style |= {"axes.titlesize": 10, "axes.titlelocation": "left", "axes.titleweight": "bold"}
    style |= dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor"), TEXT
    )
    style |= dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), LINE)
    style |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    style |= {"axes.grid": True, "axes.axisbelow": True, "grid.linewidth": 0.6, "grid.alpha": 0.6}
    with rc_context(style):
        canvas = Drawing(width, height)
        yield canvas
        buffer = io.StringIO()
        canvas.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    canvas.svg = Markup(_inline(buffer.getvalue(), label, round(118 * width)))


def _inline(svg: str, label: str, most: int) -> str:
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # matplotlib writes its own font; the page's is what readers have.
    svg = re.sub(r"font: ([\d.]+)px '[^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font: (bold|700) ([\d.]+)px '[^;\"]*", r"font-weight: 600; font-size: \2px", svg)
    for color, own in _PAGE.items():
        svg = svg.replace(color, own)
    attributes = f'role="img" aria-label="{label}" class="plot" style="max-width: {most}px"'
    return svg.replace("<svg ", f"<svg {attributes} ", 1)
