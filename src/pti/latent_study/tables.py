"""Tables of the latent-space study: CSV files and a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pti.common.tables import write_csv
from pti.latent_study.attributes import AttributeFit, AttributeStudy, WalkEffect
from pti.latent_study.distances import Measure, group_measures, patient_distances
from pti.latent_study.latents import Latents
from pti.latent_study.probes import Channel, LinearProbe, channels, probe_attributes
from pti.latent_study.projection import PrincipalComponents

FILES = {
    "measures": "distances.csv",
    "patients": "patients_by_distance.csv",
    "probes": "attributes.csv",
    "channels": "channels.csv",
    "fits": "latent_attributes.csv",
    "walks": "attribute_walks.csv",
}
"""File of each table."""


@dataclass(frozen=True)
class StudyTables:
    """All numeric results of the study."""

    measures: list[Measure]
    patients: list[dict[str, str | int | float]]
    probes: list[LinearProbe]
    channels: list[Channel]
    fits: Sequence[AttributeFit] = ()
    walks: Sequence[WalkEffect] = ()

    def rows(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """Return the rows of each table as mappings."""
        return {
            "measures": [asdict(row) for row in self.measures],
            "patients": self.patients,
            "probes": [asdict(row) for row in self.probes],
            "channels": [asdict(row) for row in self.channels],
            "fits": [asdict(row) for row in self.fits],
            "walks": [asdict(row) for row in self.walks],
        }


def tabulate(
    latents: Latents, components: PrincipalComponents, attributes: AttributeStudy | None = None
) -> StudyTables:
    """Compute all tables; those of latent attributes have rows where ``attributes`` is given."""
    attributes = attributes or AttributeStudy()
    return StudyTables(
        group_measures(latents),
        patient_distances(latents),
        probe_attributes(latents, components),
        channels(latents),
        attributes.fits,
        attributes.effects,
    )


def write_tables(tables: StudyTables, output_dir: Path) -> dict[str, Path]:
    """Write `FILES`, except for tables without rows.

    Returns:
        Name of the table for the summary -> path.
    """
    written = {}
    for name, rows in tables.rows().items():
        path = output_dir / FILES[name]
        path.unlink(missing_ok=True)  # may be left from an earlier run
        if rows:
            write_csv(path, None, rows, digits=6)
            written[path.stem.replace("_", " ")] = path
    return written


def key_metrics(tables: StudyTables) -> dict[str, Any]:
    """Return the values to print: all measures, the probes' R², unused channels, the KL divergence."""
    metrics: dict[str, Any] = {f"{row.measure}, {row.of}": row.value for row in tables.measures}
    metrics |= {f"R² of {probe.attribute}, {probe.group}": probe.r2 for probe in tables.probes}
    for fit in tables.fits:
        metrics[f"rank correlation of the attribute {fit.measure}, {fit.group}"] = fit.rank_correlation
    for effect in tables.walks:
        if effect.along == effect.measured:
            key = f"correlation along a walk in {effect.along}, {effect.group}"
            metrics[key] = effect.correlation
    unused = [str(row.channel) for row in tables.channels if not row.used]
    metrics["unused channels"] = ", ".join(unused) or "none"
    metrics["KL, nats an image"] = sum(row.kl for row in tables.channels)
    if tables.patients:
        metrics["patient farthest apart"] = str(tables.patients[0]["patient"])
    return metrics
