"""The notebooks run on tiny models, use the public API only, and are committed without outputs."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from helpers.in_process import run_command
from helpers.public_api import MODULES, NAMES
from helpers.readme_text import REPOSITORY, table
from helpers.tiny_checkpoints import save_translator
from pti.data.phantom import make_phantom
from pti.evaluate.__main__ import main as evaluate
from pti.train.__main__ import main as train

FOLDER = REPOSITORY / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PICTURES = {
    "01_your_data": 4,
    "02_stage_1": 5,
    "03_translate_and_uncertainty": 5,
    "04_latent_space": 5,
    "05_reference_results": 5,
    "06_sampling_steps": 1,
}
"""Name -> pictures that a notebook shows at least."""


def code(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def imported(path: Path) -> list[tuple[str, str]]:
    """List (module, name) of everything that a notebook imports from pti."""
    nodes = [node for source in code(path) for node in ast.walk(ast.parse(source))]
    found = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return [
        (str(node.module), alias.name)
        for node in found
        if str(node.module).startswith("pti")
        for alias in node.names
    ]


def test_the_table_lists_the_notebooks_in_their_order():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = [re.findall(r"\((.+?)\)", row[0])[0] for row in table("notebook", text)]
    assert listed == [path.name for path in NOTEBOOKS]
    assert set(PICTURES) == {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_without_outputs(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_uses_the_public_api_only(path: Path):
    for module, name in imported(path):
        assert module in MODULES | {module.rpartition(".")[0] for module in MODULES}, (
            f"{module} isn't on the page"
        )
        assert name in NAMES, f"{module}.{name} isn't on the page"
    assert not re.search(r"\.(?:module|config)\b|\b_\w+\(", "\n".join(code(path)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_statement_overwrites_what_nothing_has_used(path: Path):
    for source in code(path):
        unused: set[str] = set()
        for statement in ast.parse(source).body:
            names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
            unused -= {node.id for node in names if not isinstance(node.ctx, ast.Store)}
            if isinstance(statement, ast.Assign):
                stored = {target.id for target in statement.targets if isinstance(target, ast.Name)}
                assert not stored & unused, f"{stored & unused} in {source}"
                unused |= stored


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_to_notebooks(path: Path):
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        assert link.startswith("http") or (FOLDER / link).is_file(), link


def test_the_split_of_the_first_notebook_is_that_of_train():
    default = yaml.safe_load((REPOSITORY / "conf" / "data" / "tif.yaml").read_text(encoding="utf-8"))
    (call,) = re.findall(r"split_patients\((.*)\)", "\n".join(code(NOTEBOOKS[0])))
    fractions = ", ".join(map(str, default["fractions"]))
    assert call == f"patients, seed={default['split_seed']}, fractions=({fractions})"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create what the notebooks read: a phantom, both stages and an evaluation, all tiny."""
    folder = tmp_path_factory.mktemp("notebooks")
    make_phantom(folder / "phantom", patients=16, slices=1, image_size=64, seed=1)
    save_translator(folder / "translator.ckpt", folder / "phantom")
    small = ["trainer=cpu", "data.num_workers=0", "data.root=phantom", "output_dir=stage_1"]
    run_command(train, folder, "experiment=smoke", *small)
    small = ["split=train", "samples=2", "distributions=false", "output_dir=evaluation"]
    run_command(evaluate, folder, "ckpt=translator.ckpt", *small)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, workplace: Path):
    stage = "stage_1/checkpoints/best.ckpt" if path.stem == "02_stage_1" else "translator.ckpt"
    settings = {"CHECKPOINT": stage, "CALIBRATION": "evaluation/calibration.json", "EVALUATION": "evaluation"}
    settings |= {
        "PATIENTS": 6,
        "SPLIT": "train",
        "PAIRS": 6,
        "SAMPLES": 2,
        "STEPS": [1, 2],
        "METHOD": "pca",
        "TRANSLATED": 2,
    }
    notebook = nbformat.read(path, as_version=4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    own = {name: value for name, value in settings.items() if re.search(rf"^\s*{name} =", cell.source, re.M)}
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in own.items())
    NotebookClient(notebook, resources={"metadata": {"path": str(workplace)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= PICTURES[path.stem]
    assert not any("/pti/" in output.text for output in shown if output.get("name") == "stderr")
