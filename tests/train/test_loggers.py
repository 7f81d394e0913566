"""Every logger holds the configuration, tags, group, curves and pictures of a run, also of a resumed one."""

import importlib.util
import io
import json
import re
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.resumed_runs import stop_after
from helpers.training_setup import configuration
from pti.common.errors import UsageError
from pti.common.tables import read_csv
from pti.train.failures import to_user_error
from pti.train.loggers import CsvTable
from pti.train.run import train

STEPS = [step for step in range(12) if step != 7]
"""Steps of the curves. Lightning logs a batch after the hook in which the signal of the eighth is obeyed."""
PICTURES = "callbacks.pictures={_target_:pti.train.callbacks.Pictures,every_n_epochs:2,images:2}"
LABELS = ("tags=[baseline,'a=b']", "group=study 7")
SETTINGS = (PICTURES, *LABELS, "trainer.max_epochs=2", "trainer.log_every_n_steps=1")
INSTALLED = [name for name in ("mlflow", "wandb") if importlib.util.find_spec(name)]
needs_mlflow = pytest.mark.skipif("mlflow" not in INSTALLED, reason="the extra mlflow is not installed")
needs_wandb = pytest.mark.skipif("wandb" not in INSTALLED, reason="the extra wandb is not installed")


def with_loggers(root: Path, folder: Path, names: list[str], *more: str) -> DictConfig:
    """Compose a configuration with several loggers, whose stores are beside the run's folder."""
    store = f"logger.mlflow.tracking_uri='sqlite:///{folder.parent / 'store' / 'mlflow.db'}'"
    own = {"mlflow": (store, "logger.mlflow.experiment_name=trial")}
    configs = [configuration(root, folder, f"logger={name}", *own.get(name, ()), *more) for name in names]
    for other in configs[1:]:
        configs[0].logger = OmegaConf.merge(configs[0].logger, other.logger)
    return configs[0]


@pytest.fixture(scope="module")
def run(root, tmp_path_factory) -> Path:
    """A run with every logger: two epochs, stopped after batch 8, resumed with another interval of saves."""
    folder = tmp_path_factory.mktemp("trial") / "run_1"
    folder.mkdir()
    names = ["many", *INSTALLED]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where a logger without a folder would write
        with patch.context() as stopping:
            stop_after(stopping, "on_train_batch_end", 8)
            assert train(with_loggers(root, folder, names, *SETTINGS), folder) == 143
        changed = (f"ckpt_path='{folder}/checkpoints/last.ckpt'", "callbacks.checkpointer.every_n_minutes=7")
        assert train(with_loggers(root, folder, names, *SETTINGS, *changed), folder) == 0
    return folder


def pixels(picture: Any) -> np.ndarray:
    return np.asarray(Image.open(picture).convert("RGB"))


def drawn(run: Path) -> list[np.ndarray]:
    """Return the pictures of both epochs."""
    return [pixels(run / "images" / f"epoch={epoch:04d}.png") for epoch in (1, 2)]


def assert_equal_pictures(actual: list[np.ndarray], run: Path) -> None:
    assert len(actual) == 2
    for one, other in zip(actual, drawn(run), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.slow
def test_tensorboard(run):
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    images = [io.BytesIO(image.encoded_image_string) for image in events.Images("val/examples")]
    assert_equal_pictures([pixels(image) for image in images], run)
    assert [event.step for event in events.Scalars("train/loss")] == STEPS
    shown = str(events.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
    assert all(text in shown for text in ("model.kl_weight", "tags", "baseline", "group", "study 7"))
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "kl_weight: 1.0e-06" in text


@pytest.mark.slow
def test_csv(run):
    rows = read_csv(run / "csv" / "metrics.csv")[1]
    assert [int(row["step"]) for row in rows if row["train/loss"]] == STEPS
    described = (run / "csv" / "hparams.yaml").read_text()
    assert all(text in described for text in ("kl_weight: 1.0e-06", "- baseline", "group: study 7"))
    assert len(drawn(run)) == 2


def test_a_table_that_a_kill_has_cut_is_continued(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("a,step,z\n1.0,0,\n2.0,1,5.0\n3.0,2,\n4.")
    table = CsvTable(first_step=2, save_dir=str(tmp_path), name="", version="csv")
    table.log_metrics({"a": 7.0, "b": 8.0}, step=2)
    table.save()
    rows = read_csv(tmp_path / "csv" / "metrics.csv")[1]
    assert [(row["step"], row["a"], row["b"], row["z"]) for row in rows] == [
        ("0", "1.0", "", ""),
        ("1", "2.0", "", "5.0"),
        ("2", "7.0", "8.0", ""),
    ]


@needs_mlflow
@pytest.mark.slow
def test_mlflow(run, tmp_path):
    mlflow: Any = importlib.import_module("mlflow")
    database = run.parent / "store" / "mlflow.db"
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    (experiment,) = client.search_experiments(filter_string="name = 'trial'")
    (logged,) = client.search_runs([experiment.experiment_id])
    run_id = logged.info.run_id
    assert run_id == json.loads((run / "run_ids.json").read_text())["mlflow"]
    assert logged.info.run_name == "/".join(run.parts[-2:])
    assert logged.info.status == "FINISHED"
    expected = {"baseline": "true", "a_b": "true", "group": "study 7"}
    assert {key: logged.data.tags[key] for key in expected} == expected
    assert logged.data.params["model.kl_weight"] == "1e-06"
    assert sorted({point.step for point in client.get_metric_history(run_id, "train/loss")}) == STEPS
    folder = Path(client.download_artifacts(run_id, "", str(tmp_path)))
    assert (folder / "config.yaml").read_text() == (run / "config.yaml").read_text()
    pictures = {re.findall(r"step\W(\d+)", path.name)[0]: path for path in (folder / "images").glob("*.png")}
    assert_equal_pictures([pixels(pictures[step]) for step in ("5", "11")], run)
    assert database.with_suffix("").is_dir()
    assert not (run / "mlruns").exists()


@needs_mlflow
@pytest.mark.slow
def test_a_run_that_is_gone_from_mlflow_is_begun_again(root, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run_ids.json").write_text('{"mlflow": "0123456789abcdef0123456789abcdef"}')
    assert train(with_loggers(root, folder, ["mlflow"], "trainer.max_epochs=1"), folder) == 0
    run_id = json.loads((folder / "run_ids.json").read_text())["mlflow"]
    with sqlite3.connect(tmp_path / "store" / "mlflow.db") as database:
        assert database.execute("select run_uuid, status from runs").fetchall() == [(run_id, "FINISHED")]


def records(run: Path) -> list[list[Any]]:
    """Read the records of each offline run in the folder, in order."""
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    paths = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    return [[messages.Record.FromString(data) for data in framed(path.read_bytes())] for path in paths]


def framed(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format: 32 KiB blocks of chunks with checksum, length, type."""
    at, record, last = 7, b"", (1, 4)
    while at + 7 <= len(content):
        length, kind = struct.unpack_from("<HB", content, at + 4)
        record, at = record + content[at + 7 : at + 7 + length], at + 7 + length
        if kind in last:
            yield record
            record = b""
        if (left := 32768 - at % 32768) < 7:
            at += left


@needs_wandb
@pytest.mark.slow
def test_wandb(run):
    wandb: Any = importlib.import_module("wandb")
    assert wandb.run is None  # the next job of a sweep begins its own run
    parts = records(run)
    begun = [record.run for part in parts for record in part if record.WhichOneof("record_type") == "run"]
    assert {info.run_id for info in begun} == {json.loads((run / "run_ids.json").read_text())["wandb"]}
    assert len(parts) == 2
    assert all(sorted(info.tags) == ["a=b", "baseline"] for info in begun)
    described = {(info.run_group, info.display_name, info.project) for info in begun}
    assert described == {("study 7", "/".join(run.parts[-2:]), "pti")}
    config = {
        update.key: json.loads(update.value_json)
        for part in parts
        for record in part
        for update in (*record.config.update, *record.run.config.update)
    }
    assert config["model"]["kl_weight"] == 1e-6
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for part in parts
        for record in part
    ]
    assert sorted({row["trainer/global_step"] for row in rows if "train/loss" in row}) == STEPS
    names = [row["val/examples/filenames"][0] for row in rows if "val/examples/filenames" in row]
    files = [next(run.glob(f"wandb/offline-run-*/files/{name}")) for name in names]
    assert_equal_pictures([pixels(path) for path in files], run)


def test_the_run_records_its_tags_and_its_group(root, tmp_path):
    assert train(configuration(root, tmp_path, *LABELS, "trainer.max_epochs=1"), tmp_path) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["tags"] == ["baseline", "a=b"]
    assert summary["group"] == "study 7"


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_errors_of_a_logger_name_it(package):
    error = type("CommError", (Exception,), {"__module__": f"{package}.errors"})("no connection\ndetails")
    try:
        raise RuntimeError("outer") from error
    except RuntimeError as raised:
        found = to_user_error(raised)
    assert isinstance(found, UsageError)
    assert str(found).startswith(f"logger={package}: no connection. ")
