"""Manifest of a command's outputs and settings (``manifest.jsonl``), so that it can resume."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pti.common.errors import UsageError
from pti.common.path_settings import setting

FILE = "manifest.jsonl"

_ADDED = {"precision": "float32"}
"""Settings that earlier versions did not write, with what they did."""

EVENLY_SPREAD = "evenly_spread"
"""Key of a setting, true if the samples of an image are spread evenly over a predicted distribution."""


class Manifest:
    """A file whose first line holds the settings and each further line one input, its metrics and its files.

    A line is written after the files that it names. An incomplete last line, left by a killed process, is
    dropped.

    Args:
        output_dir: Output folder of the command.
        settings: Plain values that determine the outputs.
        artefacts: Names below ``output_dir`` that the command writes.

    Raises:
        UsageError: ``output_dir`` holds results of other settings, or other files of these names.
    """

    def __init__(self, output_dir: Path, settings: Mapping[str, Any], artefacts: Sequence[str]) -> None:
        self.output_dir = output_dir
        self._artefacts = tuple(artefacts)
        path = output_dir / FILE
        text = path.read_bytes() if path.exists() else b""
        text = text[: text.rfind(b"\n") + 1]
        settings = json.loads(json.dumps(settings))
        try:
            lines = [json.loads(line) for line in text.splitlines()]
        except ValueError:
            raise UsageError(f"{path}: this is not a manifest of pti. Choose another output_dir.") from None
        if lines:
            _require_same_settings(output_dir, lines[0], settings)
        elif self._written():
            raise UsageError(
                f"{setting('output_dir', output_dir)}: found {', '.join(self._written())} there, which this "
                "command didn't write, expected a new folder or its own. Choose another output_dir."
            )
        self.rows: dict[str, dict[str, Any]] = {row["name"]: row for row in lines[1:]}
        output_dir.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  (closed by __exit__)
        self._file.truncate(len(text))
        if not lines:
            self._append(settings)

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._file.close()
        if error is not None and not self.rows and not self._written():
            # It holds no results, so other settings may use the folder.
            (self.output_dir / FILE).unlink(missing_ok=True)

    def is_done(self, name: str, path: Path) -> bool:
        """Tell whether the outputs for the input ``path`` exist and the input has not changed since."""
        row = self.rows.get(name, {"input": None})
        return row["input"] == _state(path) and all(
            (self.output_dir / file).is_file() for file in row["files"]
        )

    def add(self, name: str, path: Path, files: Sequence[Path], metrics: Mapping[str, Any]) -> None:
        """Record the outputs and metrics of an input."""
        relative = [file.relative_to(self.output_dir).as_posix() for file in files]
        row = {"name": name, "input": _state(path), "files": relative, "figures": dict(metrics)}
        self._append(row)
        self.rows[name] = row

    def _written(self) -> list[str]:
        return [name for name in self._artefacts if (self.output_dir / name).exists()]

    def _append(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()


def read_settings(output_dir: Path) -> dict[str, Any]:
    """Return the settings in a folder's manifest; empty if it has none."""
    try:
        with (output_dir / FILE).open(encoding="utf-8") as file:
            settings = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _require_same_settings(output_dir: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    old, new = {**_ADDED, **old}, {**_ADDED, **new}
    differences = [
        f"{key} was {old.get(key)}, now {new.get(key)}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]
    if differences:
        raise UsageError(
            f"{setting('output_dir', output_dir)}: found results of other settings there "
            f"({'; '.join(differences)}). Choose another output_dir, or delete this one."
        )
