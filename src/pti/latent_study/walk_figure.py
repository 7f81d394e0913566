"""``walks.png``: decoded images along a walk in each attribute."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from pti.common.files import write_bytes_atomically
from pti.drawing.panels import grey, tissue_window, titled_row
from pti.latent_study.attributes import STEPS, Walk
from pti.modules.size_targets import power

_BACKGROUND = (0, 0, 0)


def draw_walks(path: Path, walks: Mapping[str, Sequence[Walk]]) -> None:
    """Write a PNG with the first walk of each group in each attribute.

    Args:
        path: The file.
        walks: Group -> walks, at least one; see `pti.latent_study.attributes.walks_of`.
    """
    rows = []
    for group, own in walks.items():
        for along in dict.fromkeys(walk.along for walk in own):
            rows.append(_row(group, next(walk for walk in own if walk.along == along)))
    picture = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), _BACKGROUND)
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height
    file = io.BytesIO()
    picture.save(file, "PNG")
    write_bytes_atomically(path, file.getvalue())


def _row(group: str, walk: Walk) -> Image.Image:
    window = tissue_window(walk.images)
    unit = "mm²" if power(walk.along) == 2 else "mm"
    panels = [
        (f"{step:+.1f} SD: {value:.1f} {unit}", grey(image, window))
        for step, value, image in zip(STEPS, walk.sizes[walk.along], walk.images, strict=True)
    ]
    return titled_row(panels, f"{group}: along the attribute of {walk.along}")
