"""A minute at full load, each node in a control group twice its budget, one dead; ``bench/soak.py`` is the long one."""

from pathlib import Path

import pytest

from bench.soak import BUDGET_BYTES, GROUP_BYTES, MIB, soak

pytestmark = [pytest.mark.torture, pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 60.0
NODE_ITSELF_MIB = 60
"""An interpreter, its modules, and the index of the keys."""


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_nobody_dies_and_nobody_is_elected_within_the_budget(protocol: str, tmp_path: Path) -> None:
    found = soak(tmp_path / "soak", protocol, SECONDS)
    assert not found["faults"], found
    assert max(found["own_mib_max"].values()) <= BUDGET_BYTES // MIB + NODE_ITSELF_MIB, found
    # It was a load: large values, reads of everything, and a store that has used up its group.
    assert found["large"]["put"] >= 20
    assert found["large"]["scan"] >= 3
    assert found["requests"] >= 500
    if found["held_by"] == "control groups":
        assert max(found["charged_mib_max"].values()) <= GROUP_BYTES // MIB
