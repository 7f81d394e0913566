"""What a check of a data set says: one finding for each thing that is wrong."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]

WHOLE_SET = "(whole set)"
MANY = 0.5  # a fault of more than this part of the images is one of the set, said once


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: ``error``: training is impossible or would learn something wrong; ``warning``: someone
            should look.
        file: relative to the data root where it lies below it; ``(whole set)`` for the set.
        fault: short code, such as ``truncated``, ``shifted``.
        what: what was found and what was expected.
        fix: what to do.
        images: files worth looking at, named like ``file``; two or four for a pair or two.
    """

    severity: Severity
    file: str
    fault: str
    what: str
    fix: str
    images: tuple[str, ...] = ()


def shown(path: Path, root: Path) -> str:
    """A path as findings name it: relative to the root, with forward slashes; whole when elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors before warnings, faults together; within a fault in the order given."""
    return sorted(findings, key=lambda finding: (finding.severity != "error", finding.fault))


def once_for_all(findings: list[Finding], total: int, fix: str | None = None) -> list[Finding]:
    """Replace findings of one fault by a single one when they concern most of the ``total`` images."""
    if len(findings) <= max(3, MANY * total):
        return findings
    first = findings[0]
    what = f"{len(findings)} of {total}, such as {first.file}: {first.what}"
    images = tuple(image for finding in findings[:4] for image in finding.images[:1])
    return [Finding(first.severity, WHOLE_SET, first.fault, what, fix or first.fix, images)]
