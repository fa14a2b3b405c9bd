"""The notebook, executed in a project that has been run, shows the results and keeps none of them."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient

NAME = "notebooks/anomaly.ipynb"


class _ThisInterpreter(AsyncKernelManager):
    """Starts kernels with the interpreter of the tests, whatever kernels the user has installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])


@pytest.fixture(scope="module")
def executed(finished_project, surroundings):
    notebook = nbformat.read(finished_project / NAME, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_manager_class=_ThisInterpreter,
        resources={"metadata": {"path": finished_project / "notebooks"}},
    )
    client.execute(env=surroundings)
    return notebook


def _shown(notebook, kind: str) -> list[str]:
    """Everything of one MIME type that the cells show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def test_file_holds_no_outputs():
    notebook = nbformat.read(Path(__file__).parents[2] / NAME, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_table_of_metrics_is_shown(executed):
    table = _shown(executed, "text/html")[0]
    for expected in ("roc_auc", "internal", "external", "mse", "contrast (baseline)"):
        assert expected in table


def test_threshold_is_shown_with_the_reason_for_the_score(executed):
    (text,) = _shown(executed, "text/markdown")
    assert "scores above" in text
    assert "the first candidate" in text


def test_figures_are_shown(executed):
    assert len(_shown(executed, "image/png")) == 6


def test_misses_and_false_alarms_are_tables_of_photographs(executed):
    misses, false_alarms = _shown(executed, "text/html")[-2:]
    for table in (misses, false_alarms):
        assert "<th>image_id</th>" in table
        assert "<th>score</th>" in table


def test_nothing_is_written_beside_the_notebook(executed, finished_project):
    assert {path.name for path in (finished_project / "notebooks").iterdir()} <= {".gitkeep", Path(NAME).name}
