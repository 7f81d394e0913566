"""``projection.html``: all images of a study on one self-contained page."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image, features

from pti.common.files import write_text_atomically
from pti.data import tif
from pti.data.input_images import InputImage
from pti.drawing.page import PACKAGE, render
from pti.drawing.panels import grey, tissue_window
from pti.latent_study.colors import SCALE, UNKNOWN, color_limits, palette
from pti.latent_study.latents import Latents
from pti.latent_study.options import ATTRIBUTES, LABELS, METHODS
from pti.latent_study.projection import Projection
from pti.latent_study.tables import StudyTables

THUMBNAIL_SIZE = 128
"""Longer side of a thumbnail, pixels."""

_FORMAT = "WEBP" if features.check("webp") else "JPEG"  # WebP is half as large, but optional in Pillow
_READERS = 8


def write_atlas(
    path: Path,
    latents: Latents,
    images: Sequence[InputImage],
    projections: Mapping[str, Projection],
    tables: StudyTables,
    *,
    color_by: str,
    title: str,
    subtitle: str,
) -> None:
    """Write the page: about 5 MB plus 2 kB per image.

    Args:
        path: File of the page.
        latents: Latents of the images.
        images: Images in the order of the latents; their files are read for the thumbnails.
        projections: Projections by method; the page opens with the first.
        tables: Tables to show below the map.
        color_by: Initial colouring, one of `pti.latent_study.options.COLORS`.
        title: Title of the page.
        subtitle: Line below the title.
    """
    from plotly.offline import get_plotlyjs

    data = {
        **_map_data(latents, projections),
        "color_by": color_by,
        "thumbnails": thumbnails(images),
        "mime": f"image/{_FORMAT.lower()}",
        "tables": {name: list(map(_row, rows)) for name, rows in tables.rows().items()},
    }
    page = render(
        "latent_study/templates/atlas.html",
        title=title,
        subtitle=subtitle,
        attributes=ATTRIBUTES,
        methods={name: METHODS[name] for name in projections},
        splits=bool(palette(latents, "split")),
        latent_attributes=bool(tables.fits or tables.walks),
        data=_as_json(data),
        plotly=Markup(get_plotlyjs()),
        script=Markup((PACKAGE / "latent_study/templates/atlas.js").read_text(encoding="utf-8")),
    )
    write_text_atomically(path, page)


def thumbnail(raw: np.ndarray) -> str:
    """Return a raw image (H, W) as a small base64-encoded picture, its own tissue from black to white."""
    picture = Image.fromarray(grey(raw, tissue_window(raw))[..., 0])
    picture.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, _FORMAT, quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


def _map_data(latents: Latents, projections: Mapping[str, Projection]) -> dict[str, Any]:
    """Collect the data of the map as JSON values, with one list item per image."""
    partner = np.full(len(latents), -1)
    pairs = latents.pairs()
    partner[pairs[:, 0]], partner[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    return {
        "names": latents.name.tolist(),
        **{label: getattr(latents, label).tolist() for label in LABELS},
        "groups": latents.groups,
        "partner": partner.tolist(),
        "attributes": {
            name: {"label": ATTRIBUTES[name], "values": _rounded(values), "limits": color_limits(values)}
            for name, values in latents.attributes.items()
        },
        "methods": {
            name: {
                "axes": projection.axes,
                "note": projection.note,
                "x": _rounded(projection.points[:, 0]),
                "y": _rounded(projection.points[:, 1]),
            }
            for name, projection in projections.items()
        },
        "colors": {label: palette(latents, label) for label in LABELS},
        "scale": SCALE,
        "unknown": UNKNOWN,
    }


def thumbnails(images: Iterable[InputImage]) -> list[str]:
    """Return the thumbnail of each image; see `thumbnail`."""
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda image: thumbnail(tif.read(image.path).pixels), images))


def _as_json(data: Any) -> Markup:
    """Serialise for a ``<script type="application/json">``, escaped so that no text can close the element."""
    return Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def _rounded(values: Iterable[float], digits: int = 4) -> list[float | None]:
    """Round for the screen; NaN becomes None."""
    return [round(float(value), digits) if math.isfinite(value) else None for value in values]


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _rounded([cell], 6)[0] if isinstance(cell, float) else cell for key, cell in row.items()}
