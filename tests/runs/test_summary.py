import json

from pti.runs.summary import hash_config, print_summary, write_summary


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


def test_paths_can_be_copied_from_a_narrow_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    inside, outside = tmp_path / ("long name " * 12) / "best.ckpt", tmp_path.parent / ("x" * 100)
    command = f"python -m pti.translate ckpt={'y' * 100}"
    print_summary("title", {"epochs": 3}, {"checkpoint": inside, "page": outside}, command, ["A remark."])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert f"checkpoint  {inside.relative_to(tmp_path)}" in lines
    assert f"page        {outside}" in lines
    assert lines[-2:] == ["A remark.", f"Next: {command}"]
