"""The results of the benchmark: ``benchmark.json``, ``benchmark.md``, ``benchmark.png`` and the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.benchmark.comparison import Record, significant
from pti.common.files import write_json_atomically, write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS = ("side", "ms per item", "items/s", "× plain", "memory, MB", "GFLOP", "of matmul", "MAE")

DEFINITIONS = """\
- **ms per item**: median over the runs (lower to upper quartile), per image, pair or command.
- **items/s**: at the median.
- **× plain**: time of the plain recipe divided by that of this side, in the same round; median (quartiles).
- **memory**: peak of a process that runs this side alone: its resident memory, or that of its largest child
  process (`ru_maxrss`); behind a plus sign, tensors on the GPU (`torch.cuda.max_memory_allocated`).
- **GFLOP**: 1e9 operations of convolutions, matrix products and attention for an item, by torch's counter.
- **of matmul**: share of the rate of matrix products that was measured on the same device, in float32 without
  TF32. On a GPU, torch rounds the convolutions of float32 to TF32 by default, and the share may exceed 100 %.
- **MAE**: mean absolute error against the true images, raw units; only with `ckpt=`.
"""


@dataclass(frozen=True)
class Report:
    """What a run of the benchmark has measured so far.

    Attributes:
        command: The command line.
        machine: See `pti.benchmark.device.describe_machine`.
        versions: Versions of the packages.
        matmul: Precision -> rate of matrix products, FLOPs per second.
        records: What was measured.
    """

    command: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    matmul: Mapping[str, float]
    records: Sequence[Record]

    def write(self, output_dir: Path) -> dict[str, Path]:
        """Write all files and return them by name; without records, the plot is left out."""
        files = {name: output_dir / name for name in ("benchmark.json", "benchmark.md")}
        write_json_atomically(files["benchmark.json"], self.as_dict())
        write_text_atomically(files["benchmark.md"], self.as_markdown())
        if any(record.times_faster for record in self.records if not record.is_plain):
            from pti.benchmark.plot import plot_ratios

            files["benchmark.png"] = output_dir / "benchmark.png"
            plot_ratios(self.records, self.device, files["benchmark.png"])
        return files

    @property
    def device(self) -> str:
        """Description of the device in one line."""
        machine = self.machine
        cores = f"{machine['processor']}, {machine['cpus']} cores, {_threads(machine['threads'])}"
        return cores if machine["device"] == "cpu" else f"{machine['device']}; {cores}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything in plain containers."""
        return {
            "command": self.command,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "matmul_flops_per_s": dict(self.matmul),
            "results": [dataclasses.asdict(record) for record in self.records],
        }

    def as_markdown(self) -> str:
        """Return device, versions, command and a table for each comparison."""
        rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in self.matmul.items())
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        load = self.machine["load"]
        lines = [
            "# Benchmark: our default and the plain recipe",
            "",
            f"- device: {self.device}",
            f"- matrix products: {rates}",
            f"- system: {self.machine['system']}, Python {self.machine['python']}, {versions}",
            *([] if load is None else [f"- load of the machine at the start: {load:.1f}"]),
            f"- command: `{self.command}`",
            "",
        ]
        for work, records in by_work(self.records).items():
            header, *rows = filled_columns(records)
            rule = ["---" if name == "side" else "---:" for name in header]
            lines += [f"## {work}", "", *(f"| {' | '.join(row)} |" for row in (header, rule, *rows)), ""]
            notes = [f"- {record.side}: {record.note}." for record in records if record.note]
            lines += [*notes, ""] if notes else []
        return "\n".join([*lines, "## Columns", "", DEFINITIONS])

    def print(self) -> None:
        """Print a table for each comparison in the terminal."""
        from rich.console import Console
        from rich.table import Table

        console = Console()
        console.print(f"Benchmark on {self.device}: median (quartiles)", style="bold", highlight=False)
        for work, records in by_work(self.records).items():
            header, *rows = filled_columns(records)
            table = Table(title=work, title_justify="left")
            for column in header:
                is_name = column == "side"
                table.add_column(column, justify="left" if is_name else "right", no_wrap=is_name)
            for row in rows:
                table.add_row(*row)
            console.print(table)


def by_work(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Group records by suite and work, each described with the number of items and runs."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        items = f"{record.items} {record.item}{'' if record.items == 1 else 's'}"
        title = f"{record.suite}: {record.work} ({items}, {record.n} run{'' if record.n == 1 else 's'})"
        groups.setdefault(title, []).append(record)
    return groups


def cells(record: Record) -> list[str]:
    """Return the cells of a record, in the order of `COLUMNS`."""
    memory = "" if record.peak_process_mb is None else f"{record.peak_process_mb:,.0f}"
    if record.peak_gpu_mb is not None:
        memory += f" + {record.peak_gpu_mb:,.0f}"
    ratio = "" if record.is_plain else spread(record.times_faster, record.times_faster_quartiles)
    return [
        record.side,
        spread(record.ms, record.ms_quartiles),
        "" if record.item == "command" else significant(record.per_s),
        ratio,
        memory,
        significant(record.gflop),
        "" if record.matmul_share is None else f"{100 * record.matmul_share:.0f} %",
        significant(record.error),
    ]


def _threads(count: int) -> str:
    return f"{count} torch thread{'' if count == 1 else 's'}"


def spread(median: float | None, quartiles: tuple[float, float] | None) -> str:
    """Format a median with its quartiles; empty for None."""
    if median is None or quartiles is None:
        return ""
    return f"{significant(median)} ({significant(quartiles[0])}–{significant(quartiles[1])})"


def filled_columns(records: Sequence[Record]) -> list[list[str]]:
    """Return the header and the rows of a table, without the columns that are empty."""
    rows = [cells(record) for record in records]
    kept = [index for index in range(len(COLUMNS)) if any(row[index] for row in rows)]
    return [[row[index] for index in kept] for row in (COLUMNS, *rows)]
