"""SIGKILL at the steps of snapshots and of their transfers; digests are equal at every index that was named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def killed(folder: Path, first: int, stride: int) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.runtime.mark_steps", str(folder), str(first), str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_some_steps(tmp_path: Path) -> None:
    assert killed(tmp_path, 5, 29)["tried"] > 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", [0, 1])
def test_every_step(first: int, tmp_path: Path) -> None:
    """Each of the two tries every other one."""
    found = killed(tmp_path, first, 2)
    assert 2 * found["tried"] == found["steps"] - first > 100
