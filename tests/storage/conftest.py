"""Fixtures of the storage tests."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.storage.helpers import MEMORY, LossyDisk, State


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory, where the system has one."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def disk_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a journal goes on the disk; not there yet."""
    return tmp_path_factory.mktemp("disk") / "journal"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a journal goes; not there yet."""
    return tmp_path / "journal"


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LossyDisk]]:
    """Begin to watch a folder: lossy(directory, on_change, names, contents); see LossyDisk."""
    disks: list[LossyDisk] = []

    def start(
        directory: Path,
        on_change: Callable[[list[State]], None],
        names: Iterable[str] = (),
        contents: State | None = None,
    ) -> LossyDisk:
        monkeypatch.undo()
        disks.append(LossyDisk(directory, on_change))
        disks[-1].start(monkeypatch, names, contents)
        return disks[-1]

    yield start
    monkeypatch.undo()
    for disk in disks:
        disk.stop()
