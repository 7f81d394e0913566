"""Environment and split that a run leaves in its folder."""

import csv
import re
from importlib.metadata import version
from pathlib import Path

from helpers.training_setup import configuration
from pti.runs.arguments import replace_arguments
from pti.train.run import train


def test_a_run_records_its_environment_and_its_split(root, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pti train", "experiment=a", "tags=[b]"])
    replace_arguments(["experiment=a", "tags=[b]", f"hydra.run.dir='{tmp_path}'", "ckpt_path='a/last.ckpt'"])
    assert train(configuration(root, tmp_path, "trainer.max_epochs=1", "data.sources=both"), tmp_path) == 0
    environment = (tmp_path / "environment.txt").read_text()
    assert environment.startswith("command: python -m pti.train experiment=a 'tags=[b]'\n")
    assert re.search(r"^python: 3\.", environment, re.MULTILINE)
    assert f"\ntorch=={version('torch')}\n" in environment
    with open(tmp_path / "split.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    files = [row[role] for row in rows for role in ("condition", "target") if row.get(role)]
    assert sorted(Path(file) for file in files) == sorted(root.rglob("*.tif"))
    assert list(dict.fromkeys(row["split"] for row in rows)) == ["train", "val", "test"]
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["patient"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}
