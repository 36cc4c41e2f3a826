"""What survives of a cluster in one node, and how another begins with it: of each protocol that has an answer."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.kernel import Host
from quorate.parts.log.entries import COMMAND, CONFIGURATION, NOOP, Entry
from quorate.parts.log.replicated import Restored, Survivor
from quorate.protocols import REGISTRY
from quorate.protocols.multipaxos import MultiPaxos, MultiPaxosConfig
from quorate.protocols.multipaxos import messages as paxos
from quorate.protocols.raft import Raft, RaftConfig
from quorate.protocols.raft import messages as raft
from quorate.sim.chance import streams

ENTRIES = [Entry(1, b"a"), Entry(1, b"?", CONFIGURATION), Entry(3, b"c")]


def host(protocol: str, peers: tuple[int, ...], records: list[Any]) -> Host:
    """Node 2 of these, recovered from its records."""
    entry = REGISTRY[protocol]
    made = Host(entry.make(entry.config()), 2, peers, streams(1))
    for record in records:
        made.restore(_record(record))
    return made


def _record(value: Any) -> Any:
    from quorate.kernel import ROOT, Record

    return Record(ROOT, value)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_one_node_of_those_that_may_lie_proves_nothing(name: str) -> None:
    assert issubclass(REGISTRY[name].core, Survivor) <= (not REGISTRY[name].traits.is_byzantine)


def test_all_that_a_server_of_raft_has_survives() -> None:
    found = host("raft", (1, 2, 3), [raft.HardState(5, 1), raft.Entries(1, ENTRIES[:2]), raft.Entries(3, ENTRIES[2:])])
    found.start(0.0)
    assert isinstance(found.root, Raft)
    assert found.root.standing().commit_index == 0, "it does not know that any of it is committed"
    assert found.root.surviving() == ENTRIES


def test_what_a_node_of_multipaxos_accepted_survives_with_no_ops_in_the_gaps() -> None:
    """As a leader would go on that had heard nobody else (Lamport 2001, §3)."""
    records = [
        paxos.Voted((1, 1), 1, ENTRIES[:2], 0),
        paxos.Voted((1, 1), 5, [Entry(1, b"e")], 0),
        paxos.Voted((3, 3), 3, ENTRIES[2:], 2),
    ]
    found = host("multipaxos", (1, 2, 3), records)
    found.start(0.0)
    assert isinstance(found.root, MultiPaxos)
    survive = found.root.surviving()
    assert survive == [*ENTRIES, Entry(3, b"", NOOP), Entry(1, b"e")]
    assert [entry.kind for entry in survive] == [COMMAND, CONFIGURATION, COMMAND, NOOP, COMMAND]


@pytest.mark.parametrize(("protocol", "core"), [("raft", Raft), ("multipaxos", MultiPaxos)])
def test_a_node_that_begins_anew_stands_on_its_snapshot_and_leads(protocol: str, core: type[Survivor]) -> None:
    found = host(protocol, (2,), core.founded_on(7, 3, (2,)))
    turn = found.start(0.0)
    assert [value for value in turn.outputs if isinstance(value, Restored)] == [Restored(7, 3)]
    assert isinstance(found.root, core)
    assert found.root.surviving() == []
    assert found.root.standing().commit_index == 7


def test_configs_have_a_default_for_what_names_other_nodes() -> None:
    """``service/recovery.py`` gives it to a cluster of one."""
    assert (MultiPaxosConfig().founders, MultiPaxosConfig().members) == ((), ())
    assert MultiPaxosConfig().quorum.build((2,)).members == 1 << 2
    assert RaftConfig() == REGISTRY["raft"].config()
