"""examples/notebook: all cells in order, some of them again, and all of them in a new kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import environment
from tests.examples.programs import EXAMPLES, PATIENCE_S

for package in ("nbclient", "ipykernel"):
    pytest.importorskip(package, reason=f"examples/notebook needs {package}")

import nbformat  # noqa: E402 (nbclient brings it)
from nbclient import NotebookClient  # noqa: E402
from nbclient.exceptions import CellExecutionError  # noqa: E402


class Kernel:
    """A kernel that runs cells by their ids."""

    def __init__(self, client: NotebookClient) -> None:
        self._client = client
        self._places = {cell["id"]: place for place, cell in enumerate(client.nb.cells)}

    def run(self, name: str, **replaced: str) -> Any:
        """What a cell shows: what it prints, or its last value; None if nothing. Raises CellExecutionError."""
        cell = self._client.nb.cells[self._places[name]]
        for old, new in replaced.items():
            assert old in cell.source
            cell.source = cell.source.replace(old, new)
        outputs = self._client.execute_cell(cell, self._places[name]).get("outputs", [])
        return "".join(output.get("text") or output["data"]["text/plain"] for output in outputs).strip() or None

    def run_all(self) -> dict[str, Any]:
        """What each cell with code shows, from the first to the last."""
        names = [name for name, place in self._places.items() if self._client.nb.cells[place].cell_type == "code"]
        return {name: self.run(name) for name in names}


@contextmanager
def kernel(folder: Path) -> Iterator[Kernel]:
    """A new one, which works in this folder and ends with the block."""
    notebook = nbformat.read(EXAMPLES / "notebook" / "counter.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=PATIENCE_S, resources={"metadata": {"path": str(folder)}})
    with client.setup_kernel(env=environment()):
        yield Kernel(client)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels keep their files in the folder of the test."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    assert os.environ["IPYTHONDIR"].startswith(str(tmp_path))


def test_cells_run_again_and_in_a_new_kernel(tmp_path: Path) -> None:
    with kernel(tmp_path) as first:
        shown = first.run_all()
        assert (shown["add"], shown["get"], shown["await"]) == ("5", "5", "6")
        assert shown["status"] == "('leader', None)"

        first.run("start")  # its node ends, and another begins on its folder
        assert first.run("get") == "6"
        first.run("class")
        first.run("start")
        assert first.run("add") == "11"
        assert first.run("await") == "12"
    with kernel(tmp_path) as second:
        shown = second.run_all()
        assert (shown["add"], shown["get"], shown["await"]) == ("17", "17", "18")


def test_a_second_node_on_the_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with kernel(tmp_path) as one:
        one.run_all()
        with pytest.raises(CellExecutionError, match="data/notebook"):
            one.run("start", **{"    replication.stop()": "    pass"})
        assert one.run("get") == "6"
