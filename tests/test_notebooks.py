"""Every notebook runs from top to bottom in a fresh kernel, and draws what it promises."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_thin(path: Path) -> None:
    """The public API only, and no committed output (a percent script has none)."""
    code = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    imports = [line for line in code if "import " in line]
    assert all(line.startswith("from sevpcie_core import ") for line in imports), imports


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# The kernel lives in a process of its own; what its libraries warn about is not ours.
@pytest.mark.filterwarnings("default")
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = jupytext.read(path)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    drawings = [output for output in outputs if "image/svg+xml" in output.get("data", {})]
    assert len(drawings) == 2
    assert any("latency_p50_value_pct" in output.get("data", {}).get("text/html", "") for output in outputs)
