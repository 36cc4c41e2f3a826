"""Memory: what the machine, or the control group of the process, has."""

from pathlib import Path

import pytest

from quorate.runtime.memory import (
    DEFAULT_BYTES_MAX,
    MEMORY_BYTES_MIN,
    MemoryBudget,
    default_budget,
    memory_of_machine,
)
from quorate.service.sessions import RESULTS_BYTES_MAX

MIB = 1 << 20


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    (tmp_path / "system/node").mkdir(parents=True)
    (tmp_path / "own").write_text("1:name=systemd:/else\n0::/system/node\n")
    return tmp_path


def test_the_least_of_all_groups_above_the_process_counts(groups: Path) -> None:
    (groups / "system/memory.max").write_text("300000000\n")
    (groups / "system/node/memory.max").write_text("max\n")
    assert memory_of_machine(groups, groups / "own") == 300_000_000
    (groups / "system/node/memory.max").write_text("200000000\n")
    assert memory_of_machine(groups, groups / "own") == 200_000_000


def test_in_a_container_the_root_is_its_own_and_version_1_has_another_file(groups: Path) -> None:
    (groups / "memory.max").write_text("100000000\n")
    assert memory_of_machine(groups, groups / "none") == 100_000_000
    (groups / "memory").mkdir()
    (groups / "memory/memory.limit_in_bytes").write_text("90000000\n")
    assert memory_of_machine(groups, groups / "own") == 90_000_000


def test_without_limits_it_is_what_the_machine_has(groups: Path) -> None:
    whole = memory_of_machine(groups, groups / "own")
    assert whole > 100 * MIB
    (groups / "system/memory.max").write_text(f"{2**62}")
    assert memory_of_machine(groups, groups / "own") == whole


def test_a_group_outside_is_not_looked_for(groups: Path) -> None:
    (groups / "own").write_text("0::/../../etc\n")
    assert memory_of_machine(groups, groups / "own") > 100 * MIB


def test_shares_leave_room_for_copies_and_results() -> None:
    budget = MemoryBudget(MEMORY_BYTES_MIN)
    shared = budget.log_bytes + budget.requests_bytes + budget.replies_bytes + budget.unfinished_bytes
    assert shared + RESULTS_BYTES_MAX <= 3 * MEMORY_BYTES_MIN // 4
    assert MEMORY_BYTES_MIN <= default_budget().total_bytes <= DEFAULT_BYTES_MAX
