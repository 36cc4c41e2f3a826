"""What the tests of state machines share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.machines.kv.machine import KvMachine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[KvMachine]:
    machine = KvMachine.opened(tmp_path / "kv")
    yield machine
    machine.close()
