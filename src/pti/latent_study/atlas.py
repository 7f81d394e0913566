"""``projection.html``: all images of a study on one page that opens from disk and loads nothing."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
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
from pti.latent_study.colors import SCALE, UNKNOWN, limits, palette
from pti.latent_study.latents import Latents
from pti.latent_study.names import ATTRIBUTES, METHODS
from pti.latent_study.projection import Projection
from pti.latent_study.tables import Tables

THUMBNAIL = 128
"""Longer side of a thumbnail, pixels."""

_FORMAT = "WEBP" if features.check("webp") else "JPEG"  # half as large, where Pillow was built with it
_READERS = 8
_LABELS = ("group", "patient", "split")


def write_atlas(
    path: Path,
    latents: Latents,
    images: Sequence[InputImage],
    projections: Mapping[str, Projection],
    tables: Tables,
    *,
    color_by: str,
    title: str,
    subtitle: str,
) -> None:
    """Write the page; about 5 MB and 2 kB an image.

    Args:
        path: the page.
        latents: of the images.
        images: in the latents' order; their files are read for the thumbnails.
        projections: by method, the one shown first in front.
        tables: shown below the map.
        color_by: what the points are coloured by at first.
        title: of the page.
        subtitle: below it.
    """
    from plotly.offline import get_plotlyjs

    data = {
        **page_data(latents, projections, color_by),
        "thumbnails": thumbnails(images),
        "mime": f"image/{_FORMAT.lower()}",
        "tables": _tables(tables),
    }
    page = render(
        "latent_study/templates/atlas.html",
        title=title,
        subtitle=subtitle,
        attributes=ATTRIBUTES,
        methods={name: METHODS[name] for name in projections},
        splits=bool(palette(latents, "split")),
        data=as_json(data),
        plotly=Markup(get_plotlyjs()),
        script=Markup((PACKAGE / "latent_study/templates/atlas.js").read_text(encoding="utf-8")),
    )
    write_text_atomically(path, page)


def page_data(latents: Latents, projections: Mapping[str, Projection], color_by: str) -> dict[str, Any]:
    """What a page needs to draw the map: plain values, a list entry for each image."""
    partner = np.full(len(latents), -1)
    pairs = latents.pairs()
    partner[pairs[:, 0]], partner[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    return {
        "names": latents.name.tolist(),
        **{name: getattr(latents, name).tolist() for name in _LABELS},
        "groups": latents.groups,
        "partner": partner.tolist(),
        "attributes": {
            name: {"label": ATTRIBUTES[name], "values": _rounded(values), "limits": limits(values)}
            for name, values in latents.attributes.items()
        },
        "methods": {
            name: {
                "axes": found.axes,
                "note": found.note,
                "x": _rounded(found.points[:, 0]),
                "y": _rounded(found.points[:, 1]),
            }
            for name, found in projections.items()
        },
        "colors": {name: palette(latents, name) for name in _LABELS},
        "scale": SCALE,
        "unknown": UNKNOWN,
        "color_by": color_by,
    }


def thumbnails(images: Iterable[InputImage]) -> list[str]:
    """A small picture of each image, base64."""
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda image: thumbnail(tif.read(image.path).pixels), images))


def thumbnail(raw: np.ndarray) -> str:
    """A raw image (H, W), its own tissue from black to white, as a small picture, base64."""
    picture = Image.fromarray(grey(raw, tissue_window(raw))[..., 0])
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, _FORMAT, quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


def as_json(data: Any) -> Markup:
    """Plain values for a ``<script type="application/json">``, which no text in them can end."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _tables(tables: Tables) -> dict[str, list[dict[str, Any]]]:
    found = {
        "measures": [asdict(row) for row in tables.measures],
        "patients": tables.patients,
        "probes": [asdict(row) for row in tables.probes],
        "channels": [asdict(row) for row in tables.channels],
    }
    return {
        name: [{key: _plain(cell) for key, cell in row.items()} for row in rows]
        for name, rows in found.items()
    }


def _rounded(values: np.ndarray) -> list[float | None]:
    """Four figures after the point, as far as a screen can show them; null for NaN."""
    return [round(float(value), 4) if math.isfinite(value) else None for value in values]


def _plain(value: Any) -> Any:
    return (round(value, 6) if math.isfinite(value) else None) if isinstance(value, float) else value
