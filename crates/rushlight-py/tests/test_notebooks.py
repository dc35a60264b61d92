"""The notebooks run from end to end. With a folder in NOTEBOOKS_OUT, their pictures are left there."""

import base64
import os
import pathlib

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")
FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "notebooks are committed without outputs"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    pictures = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert pictures
    if out := os.environ.get("NOTEBOOKS_OUT"):
        for i, picture in enumerate(pictures):
            (pathlib.Path(out) / f"{path.stem}-{i}.png").write_bytes(base64.b64decode(picture))
        texts = [o["text"] for o in outputs if o.get("output_type") == "stream"]
        (pathlib.Path(out) / f"{path.stem}.txt").write_text("".join(texts))


def test_there_are_notebooks():
    assert {p.stem for p in FOLDER.glob("*.ipynb")} >= {"lecture", "gpt"}
