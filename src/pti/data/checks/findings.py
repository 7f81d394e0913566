"""Findings: the problems that a check reports about a data set."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pti.common.errors import DataError
from pti.data.tif import TifError

Severity = Literal["error", "warning"]

WHOLE_SET = "(whole set)"
WIDESPREAD = 0.5  # a fault in more than this share of the images is reported once, for the whole set


@dataclass(frozen=True)
class Finding:
    """One problem of a data set.

    Attributes:
        severity: ``error``: training would fail or learn something wrong; ``warning``: worth a look.
        file: path relative to the data root, absolute for a file outside it, ``(whole set)`` for the set.
        fault: short code, such as ``truncated`` or ``shifted``.
        what: what was found and what was expected.
        fix: what to do about it.
        images: images worth showing, named like ``file``: two for one pair, four for two pairs.
    """

    severity: Severity
    file: str
    fault: str
    what: str
    fix: str
    images: tuple[str, ...] = ()


def file_finding(error: TifError, root: Path) -> Finding:
    """Turn the error of an unreadable file into a finding."""
    return Finding("error", relative_name(error.path, root), error.fault, error.what, error.fix)


def message_finding(error: DataError, file: str, fault: str) -> Finding:
    """Turn an error into a finding: the last sentence of its message is the fix."""
    what, _, fix = str(error).rstrip(".").rpartition(". ")
    return Finding("error", file, fault, what or fix, f"{fix}.")


def relative_name(path: Path, root: Path) -> str:
    """Name a file relative to the root, with forward slashes; return the whole path if it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort errors before warnings and group equal faults; keep the given order within a fault."""
    return sorted(findings, key=lambda finding: (finding.severity != "error", finding.fault))


def merge_widespread(findings: list[Finding], total: int, fix: str | None = None) -> list[Finding]:
    """Replace findings of one fault by a single finding if they cover most of the ``total`` images."""
    if len(findings) <= max(3, WIDESPREAD * total):
        return findings
    first = findings[0]
    what = f"{len(findings)} of {total}, for example {first.file}: {first.what}"
    images = tuple(image for finding in findings[:4] for image in finding.images[:1])
    return [Finding(first.severity, WHOLE_SET, first.fault, what, fix or first.fix, images)]
