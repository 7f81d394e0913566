"""The notebooks run on a trained model, and are committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from helpers.tiny_checkpoints import save_translator
from pti.data.phantom import make_phantom

PICTURES = {"python_api": 6}
"""Name -> pictures that a notebook shows at least; 1 otherwise."""

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path):
    make_phantom(tmp_path / "phantom", patients=6, slices=1, image_size=64, seed=1)
    ckpt = save_translator(tmp_path / "model.ckpt", tmp_path / "phantom")
    notebook = nbformat.read(path, as_version=4)
    (settings,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    settings.source += f"\nCHECKPOINT = {str(ckpt)!r}\nSAMPLES = 2\nSTEPS = [1, 2]\n"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= PICTURES.get(path.stem, 1)
    assert not any("/pti/" in output.text for output in shown if output.get("name") == "stderr")
