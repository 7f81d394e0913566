"""Full check of a data set: reports everything that is wrong with it in one pass.

The check has three stages, each on what the previous one left usable: names and headers
(`pti.data.checks.structure`), the pixels of each pair (`pti.check.image_facts`, in parallel), and the
comparison of all pairs and images (`pti.check.pair_findings`, `pti.check.image_findings`).
"""

import time
from collections import Counter
from dataclasses import dataclass
from itertools import chain

from pti.check.image_facts import PairFacts, collect_pair_facts
from pti.check.image_findings import find_image_faults
from pti.check.pair_findings import find_pair_faults
from pti.common.processes import map_in_processes
from pti.data.checks.findings import Finding, Severity, worst_first
from pti.data.checks.source import DataSource
from pti.data.checks.structure import check_structure
from pti.data.layouts import SPLITS


@dataclass(frozen=True)
class Report:
    """Result of :func:`full_check`.

    Attributes:
        source: the data set.
        findings: the problems, errors first, grouped by fault.
        facts: facts about each pair.
        splits: patient -> ``train``, ``val`` or ``test``; empty when the patients can't be split.
        files: number of images, usable or not.
        seconds: duration of the check.
    """

    source: DataSource
    findings: list[Finding]
    facts: list[PairFacts]
    splits: dict[str, str]
    files: int
    seconds: float

    def count(self, severity: Severity) -> int:
        """Count the findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def usable(self) -> bool:
        """Whether the set can be trained on."""
        return self.count("error") == 0

    @property
    def counts(self) -> dict[str, int]:
        """Number of pairs, patients, files, errors and warnings."""
        return {
            "pairs": len(self.facts),
            "patients": len({facts.pair.patient for facts in self.facts if facts.pair.patient}),
            "files": self.files,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
        }

    @property
    def pairs_per_split(self) -> dict[str, int]:
        """Number of pairs in each split that has any, in the order train, val, test."""
        counts = Counter(self.splits.get(facts.pair.patient) for facts in self.facts)
        return {split: counts[split] for split in SPLITS if counts[split]}


def full_check(source: DataSource, workers: int | None = None) -> Report:
    """Check names, headers, the pixels of every file, and all pairs and images against each other.

    Args:
        source: the data set.
        workers: number of processes; None uses all cores, 1 works in this process.

    Raises:
        DataError: a worker process was killed from outside.
    """
    start = time.monotonic()
    structure = check_structure(source)
    jobs = [(pair, source.root, source.pixel_mm) for pair in structure.pairs]
    fix = "run it again with workers=1"
    facts = list(map_in_processes(collect_pair_facts, jobs, "Examining pairs", workers, fix=fix))
    pair_findings = find_pair_faults(facts)
    misplaced = [finding.images for finding in pair_findings if finding.fault in ("exchanged", "swapped")]
    findings = [
        *structure.findings,
        *(finding for pair in facts for finding in pair.findings),
        *pair_findings,
        *find_image_faults(facts, set(chain(*misplaced))),
    ]
    seconds = time.monotonic() - start
    return Report(source, worst_first(findings), facts, structure.splits, structure.files, seconds)
