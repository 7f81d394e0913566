"""Can this data set be trained on? All that is wrong with it, in one pass.

Three looks, each on what the one before left over: names and headers (`pti.data.checks.structure`), the pixels of
each pair (`pti.check.image_facts`, in parallel), and what only the whole set tells (`pti.check.pair_findings`,
`find_image_faults`).
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pti.check.image_facts import PairFacts, examine
from pti.check.image_findings import find_image_faults
from pti.check.pair_findings import find_pair_faults
from pti.common.errors import DataError
from pti.common.processes import map_in_processes
from pti.data.checks.findings import Finding, Severity, worst_first
from pti.data.checks.structure import DataSource, look_at_structure

__all__ = ["DataSource", "Finding", "Report", "full_check", "quick_check", "require_sound"]

_MOST_NAMED = 20


@dataclass(frozen=True)
class Report:
    """What :func:`full_check` found.

    Attributes:
        source: what was checked.
        findings: errors first, faults together.
        facts: what is known of each pair.
        sides: patient -> train, val or test; empty when the split can't be made.
        files: images that are there.
        seconds: duration.
    """

    source: DataSource
    findings: list[Finding]
    facts: list[PairFacts]
    sides: dict[str, str]
    files: int
    seconds: float

    def count(self, severity: Severity) -> int:
        """Number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def usable(self) -> bool:
        """Whether the set can be trained on."""
        return self.count("error") == 0

    @property
    def slices(self) -> dict[str, int]:
        """Side -> number of pairs."""
        return dict(
            Counter(self.sides[pair.pair.patient] for pair in self.facts if pair.pair.patient in self.sides)
        )


def quick_check(source: DataSource) -> list[Finding]:
    """The cheap part: names, partners, patients, headers, sizes; no pixels, about a millisecond a file."""
    return worst_first(look_at_structure(source).findings)


def require_sound(findings: Iterable[Finding]) -> None:
    """Stop where a finding is an error.

    Raises:
        DataError: one message with every error, file by file, and its fix.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        lines = [f"{finding.file}: {finding.what}. {finding.fix}" for finding in errors[:_MOST_NAMED]]
        rest = [f"… and {len(errors) - _MOST_NAMED} more"] if len(errors) > _MOST_NAMED else []
        listed = "\n  ".join([*lines, *rest])
        raise DataError(
            f"{len(errors)} errors in the data set; `python -m pti.check` shows them all:\n  {listed}"
        )


def full_check(source: DataSource, workers: int | None = None) -> Report:
    """Everything: the quick part, the pixels of every file, and the comparison of all of them.

    Args:
        source: the data set.
        workers: processes; None takes all cores, and 1 works in this process.

    Raises:
        DataError: a worker process was killed from outside.
    """
    start = time.monotonic()
    structure = look_at_structure(source)
    jobs = [(pair, source.root, source.pixel_mm) for pair in structure.pairs]
    fix = "run it again with workers=1"
    facts = list(map_in_processes(examine, jobs, "Examining pairs", workers, fix=fix))
    on_pairs = find_pair_faults(facts)
    wrong = [finding for finding in on_pairs if finding.fault in ("exchanged", "swapped")]
    misplaced = {image for finding in wrong for image in finding.images}
    findings = [
        *structure.findings,
        *(finding for pair in facts for finding in pair.findings),
        *on_pairs,
        *find_image_faults(facts, misplaced),
    ]
    seconds = time.monotonic() - start
    return Report(source, worst_first(findings), facts, structure.sides, structure.files, seconds)
