import json

from pti.runs.summary import hash_config, write_summary


def test_summary_is_valid_json_with_relative_paths_and_nulls(tmp_path):
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    path = write_summary(
        tmp_path / "run",
        command="toy",
        metrics={"psnr": 30.5, "broken": float("nan"), "nested": {"n": 3}},
        artefacts={"table": tmp_path / "run" / "table.csv", "elsewhere": tmp_path / "other.csv"},
        config={"a": 1},
        checkpoint=checkpoint,
        seed=7,
    )
    summary = json.loads(path.read_text())
    assert summary["figures"] == {"psnr": 30.5, "broken": None, "nested": {"n": 3}}
    assert summary["artefacts"] == {"table": "table.csv", "elsewhere": str(tmp_path / "other.csv")}
    assert len(summary["checkpoint"]["sha256"]) == 64
    assert summary["versions"]["pti"]
    assert summary["status"] == "finished"
    assert [file.name for file in path.parent.iterdir()] == ["summary.json"]


def test_config_hash_ignores_the_order_of_keys():
    assert hash_config({"a": 1, "b": 2}) == hash_config({"b": 2, "a": 1})
    assert hash_config({"a": 1}) != hash_config({"a": 2})
