"""Plots of the check's report as inline SVG; the page gives their colours, so that they follow its theme."""

from collections import defaultdict
from collections.abc import Container, Sequence

import numpy as np
from markupsafe import Markup, escape

from pti.check.image_facts import QUANTILES, PairFacts
from pti.check.pair_findings import SHIFT_FLOOR

MOST_PATIENTS = 60
_SIZE = 320  # of the placement plot, in SVG units
_ROW = 14  # height of a patient's row


def placement_plot(facts: Sequence[PairFacts], flagged: Container[str]) -> Markup | None:
    """Each pair's displacement of the target, in pixels; flagged pairs stand out.

    Args:
        facts: the pairs.
        flagged: names of files with a finding.
    """
    placed = [(pair, pair.alignment) for pair in facts if pair.alignment is not None]
    if not placed:
        return None
    largest = max(max(abs(move.shift_x_px), abs(move.shift_y_px)) for _, move in placed)
    reach = max(1.5 * SHIFT_FLOOR, 1.1 * min(largest, 20.0))
    scale, middle = (_SIZE / 2 - 8) / reach, _SIZE / 2
    parts = [
        f'<line class="axis" x1="0" y1="{middle}" x2="{_SIZE}" y2="{middle}"/>',
        f'<line class="axis" x1="{middle}" y1="0" x2="{middle}" y2="{_SIZE}"/>',
        f'<circle class="ring" cx="{middle}" cy="{middle}" r="{SHIFT_FLOOR * scale:.1f}"/>',
        f'<text x="{middle + SHIFT_FLOOR * scale + 3:.1f}" y="{middle - 4}">{SHIFT_FLOOR:g} px</text>',
    ]
    for pair, move in sorted(placed, key=lambda item: item[0].images[0] in flagged):
        x, y = (
            middle + scale * float(np.clip(shift, -reach, reach))
            for shift in (move.shift_x_px, move.shift_y_px)
        )
        kind = "dot bad" if pair.images[0] in flagged else "dot"
        radius = 4 if pair.images[0] in flagged else 2.2
        told = f"{pair.pair.name}: {move.shift_px:.1f} px, {move.rotation_deg:.1f}°"
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
            f"<title>{escape(told)}</title></circle>"
        )
    label = "Displacement of each target against its condition, in pixels"
    return Markup(
        f'<svg viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def intensity_plot(facts: Sequence[PairFacts], side: str) -> Markup | None:
    """For each patient the range of the tissue's intensities, 10th to 90th percentile, and its median.

    Args:
        facts: the pairs.
        side: ``condition`` or ``target``.
    """
    levels: dict[str, list[np.ndarray]] = defaultdict(list)
    for pair in facts:
        image = getattr(pair, side)
        if image is not None and image.quantiles is not None:
            levels[pair.pair.patient or "?"].append(image.quantiles)
    if not levels:
        return None
    rows = {patient: np.median(np.stack(of), 0) for patient, of in levels.items()}
    places = [QUANTILES.index(percent) for percent in (10, 50, 90)]
    usual = float(np.median([row[places[1]] for row in rows.values()]))
    kept = sorted(rows, key=lambda patient: -abs(rows[patient][places[1]] - usual))[:MOST_PATIENTS]
    values = {
        patient: rows[patient][places]
        for patient in sorted(kept, key=lambda patient: rows[patient][places[1]])
    }
    low = min(float(row[0]) for row in values.values())
    high = max(float(row[2]) for row in values.values())
    span = (high - low) or 1.0
    parts = []
    for index, (patient, row) in enumerate(values.items()):
        y = _ROW * (index + 0.5)
        left, centre, right = (64 + 240 * (float(value) - low) / span for value in row)
        told = f"{patient}: {row[0]:.4g} – {row[1]:.4g} – {row[2]:.4g}"
        parts.append(
            f"<g><title>{escape(told)}</title>"
            f'<text x="58" y="{y + 3.5}" text-anchor="end">{escape(patient[:9])}</text>'
            f'<line class="bar" x1="{left:.1f}" y1="{y}" x2="{right:.1f}" y2="{y}"/>'
            f'<circle class="dot" cx="{centre:.1f}" cy="{y}" r="3"/></g>'
        )
    bottom = _ROW * len(values) + 14
    parts.append(f'<text x="64" y="{bottom}">{low:.4g}</text>')
    parts.append(f'<text x="304" y="{bottom}" text-anchor="end">{high:.4g}</text>')
    label = f"Tissue intensities of the {side} images by patient"
    return Markup(
        f'<svg viewBox="0 0 {_SIZE} {bottom + 4}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )
