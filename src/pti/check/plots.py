"""Plots of the report as inline SVG with tooltips; the style sheet of the page colours them."""

from collections.abc import Container, Iterable, Sequence

import numpy as np
from markupsafe import Markup, escape

from pti.check.image_facts import QUANTILES, PairFacts, patient_quantiles
from pti.check.thresholds import THRESHOLDS

MAX_PATIENTS = 60  # rows of the intensity plot
_SIZE = 320  # width and height of the placement plot in SVG units
_ROW = 14  # height of a patient's row in SVG units


def placement_plot(facts: Sequence[PairFacts], flagged: Container[str]) -> Markup | None:
    """Plot the displacement of each target in pixels; flagged pairs stand out.

    Args:
        facts: facts about the pairs.
        flagged: names of files with a finding.
    """
    aligned = [(pair, pair.alignment) for pair in facts if pair.alignment is not None]
    if not aligned:
        return None
    largest = max(max(abs(shift.shift_x_px), abs(shift.shift_y_px)) for _, shift in aligned)
    limit = THRESHOLDS.shift_px
    reach = max(1.5 * limit, 1.1 * min(largest, 20.0))
    scale, middle = (_SIZE / 2 - 8) / reach, _SIZE / 2
    parts = [
        f'<line class="axis" x1="0" y1="{middle}" x2="{_SIZE}" y2="{middle}"/>',
        f'<line class="axis" x1="{middle}" y1="0" x2="{middle}" y2="{_SIZE}"/>',
        f'<circle class="ring" cx="{middle}" cy="{middle}" r="{limit * scale:.1f}"/>',
        f'<text x="{middle + limit * scale + 3:.1f}" y="{middle - 4}">{limit:g} px</text>',
    ]
    for pair, alignment in sorted(aligned, key=lambda item: item[0].images[0] in flagged):
        x, y = (
            middle + scale * float(np.clip(shift, -reach, reach))
            for shift in (alignment.shift_x_px, alignment.shift_y_px)
        )
        style, radius = ("dot bad", 4) if pair.images[0] in flagged else ("dot", 2.2)
        tooltip = f"{pair.pair.name}: {alignment.shift_px:.1f} px, {alignment.rotation_deg:.1f}°"
        parts.append(
            f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
            f"<title>{escape(tooltip)}</title></circle>"
        )
    return _svg(_SIZE, "Displacement of each target against its condition, in pixels", parts)


def intensity_plot(facts: Sequence[PairFacts], role: str) -> Markup | None:
    """Plot the 10th to 90th percentile and the median of each patient's tissue intensities.

    Args:
        facts: facts about the pairs.
        role: ``condition`` or ``target``.
    """
    columns = [QUANTILES.index(percent) for percent in (10, 50, 90)]
    rows = [(patient or "?", row[columns]) for patient, row in patient_quantiles(facts, role).items()]
    if not rows:
        return None
    usual = float(np.median([row[1] for _, row in rows]))
    kept = sorted(rows, key=lambda item: -abs(item[1][1] - usual))[:MAX_PATIENTS]
    low, high = min(float(row[0]) for _, row in kept), max(float(row[2]) for _, row in kept)
    parts = []
    for index, (patient, row) in enumerate(sorted(kept, key=lambda item: item[1][1])):
        y = _ROW * (index + 0.5)
        left, centre, right = (64 + 240 * (float(value) - low) / ((high - low) or 1.0) for value in row)
        tooltip = f"{patient}: {row[0]:.4g} – {row[1]:.4g} – {row[2]:.4g}"
        parts.append(
            f"<g><title>{escape(tooltip)}</title>"
            f'<text x="58" y="{y + 3.5}" text-anchor="end">{escape(patient[:9])}</text>'
            f'<line class="bar" x1="{left:.1f}" y1="{y}" x2="{right:.1f}" y2="{y}"/>'
            f'<circle class="dot" cx="{centre:.1f}" cy="{y}" r="3"/></g>'
        )
    bottom = _ROW * len(kept) + 14
    parts.append(f'<text x="64" y="{bottom}">{low:.4g}</text>')
    parts.append(f'<text x="304" y="{bottom}" text-anchor="end">{high:.4g}</text>')
    return _svg(bottom + 4, f"Tissue intensities of the {role} images by patient", parts)


def _svg(height: int, label: str, parts: Iterable[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {_SIZE} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )
