"""The study's tables as CSV files and in one summary."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pti.common.files import write_text_atomically
from pti.latent_study.distances import Measure, group_measures, patient_distances
from pti.latent_study.latents import Latents
from pti.latent_study.probes import Channel, LinearProbe, channels, probe_attributes
from pti.latent_study.projection import Components

NAMES = ("distances.csv", "patients_by_distance.csv", "attributes.csv", "channels.csv")


@dataclass(frozen=True)
class Tables:
    """All that is said of the latents in numbers."""

    measures: list[Measure]
    patients: list[dict[str, str | int | float]]
    probes: list[LinearProbe]
    channels: list[Channel]


def tabulate(latents: Latents, components: Components) -> Tables:
    """Work out all tables."""
    return Tables(
        group_measures(latents),
        patient_distances(latents),
        probe_attributes(latents, components),
        channels(latents),
    )


def write_tables(tables: Tables, output_dir: Path) -> dict[str, Path]:
    """Write `NAMES`; a table without rows is left out.

    Returns:
        what -> path.
    """
    rows: Sequence[Sequence[Mapping[str, Any]]] = (
        [asdict(row) for row in tables.measures],
        tables.patients,
        [asdict(row) for row in tables.probes],
        [asdict(row) for row in tables.channels],
    )
    written = {}
    for name, table in zip(NAMES, rows, strict=True):
        path = output_dir / name
        path.unlink(missing_ok=True)  # of an earlier run into this folder
        if table:
            write_text_atomically(path, _csv(table))
            written[Path(name).stem.replace("_", " ")] = path
    return written


def key_figures(tables: Tables) -> dict[str, Any]:
    """What to print: the measures, the best probe of each group's attributes, unused channels."""
    figures: dict[str, Any] = {f"{row.measure}, {row.of}": row.value for row in tables.measures}
    for probe in tables.probes:
        figures[f"R² of {probe.attribute}, {probe.group}"] = probe.r2
    unused = [row.channel for row in tables.channels if not row.used]
    figures["unused channels"] = ", ".join(map(str, unused)) or "none"
    figures["KL, nats an image"] = sum(row.kl for row in tables.channels)
    if tables.patients:
        figures["patient farthest apart"] = str(tables.patients[0]["patient"])
    return figures


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        # An empty cell where there is no such figure, as tables elsewhere expect.
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
