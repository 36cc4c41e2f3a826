"""What a restart gives back: all records, or a checkpoint and the records since, are the same state."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import Host, Record
from quorate.parts.log.replicated import Restored
from quorate.protocols.raft import Raft
from quorate.protocols.raft.messages import AppendEntries, Entries, HardState, Heartbeat, Snapshotted
from quorate.sim.chance import streams

from tests.protocols.raft.raft_nodes import CONFIG, Server, entry, follower, log_of, snapshotted

CUT_SMALL = msgspec.structs.replace(CONFIG, message_entries_max=3, message_bytes_max=100)


def durable_state(host: Host) -> Any:
    core: Any = host.root
    log = core.log
    entries = log.slice(log.base_index + 1, log.last_index)
    return (
        (core.term, core.vote, core.snapshot_index, core.state.snapshot_term),
        (log.base_index, log.base_term, log.size_bytes, entries),
    )


def restored(records: list[Any]) -> Host:
    host = Host(lambda env: Raft(env, CUT_SMALL), 1, (1, 2, 3), streams(0))
    for record in records:
        host.restore(record if isinstance(record, Record) else Record((), record))
    return host


@st.composite
def journals(draw: st.DrawFn) -> list[Any]:
    """Records as a server may have written them: terms grow, cuts stay above what is committed."""
    records: list[Any] = []
    term, last, base, snapshot = 0, 0, 0, 0
    terms: list[int] = [0]
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["state", "entries", "compact", "install"]))
        if kind == "state":
            term += draw(st.integers(0, 2))
            records.append(HardState(term, draw(st.sampled_from([None, 1, 2, 3]))))
        elif kind == "entries":
            first = draw(st.integers(max(snapshot, base) + 1, last + 1))
            count = draw(st.integers(1, 6))
            del terms[first:]
            terms += [max(term, terms[-1])] * count
            records.append(Entries(first, [entry(terms[-1], "v" * draw(st.integers(0, 60))) for _ in range(count)]))
            last = first + count - 1
        elif kind == "compact" and last > snapshot:
            snapshot = draw(st.integers(snapshot + 1, last))
            base = draw(st.integers(base, snapshot))
            records.append(Snapshotted(snapshot, terms[snapshot], base, terms[base]))
        elif kind == "install":
            snapshot = base = last + draw(st.integers(1, 5))
            terms += [term] * (snapshot - last)
            last = snapshot
            records.append(Snapshotted(snapshot, terms[snapshot], base, terms[base]))
    return records


@given(journals(), st.data())
def test_a_checkpoint_anywhere_equals_all_records(records: list[Any], data: st.DataObject) -> None:
    whole = restored(records)
    cut = data.draw(st.integers(0, len(records)))
    middle = restored(records[:cut]).checkpoint()
    assert durable_state(restored([*middle, *records[cut:]])) == durable_state(whole)
    assert durable_state(restored(list(whole.checkpoint()))) == durable_state(whole)


@given(journals())
def test_records_of_a_checkpoint_are_bounded(records: list[Any]) -> None:
    for record in restored(records).checkpoint():
        if isinstance(record.value, Entries):
            assert len(record.value.entries) <= 3
            assert len(record.value.entries) == 1 or sum(e.size_bytes for e in record.value.entries) <= 100


@given(journals())
def test_a_start_trusts_the_snapshot_alone(records: list[Any]) -> None:
    """The trap: a commit index beyond the journal. It is not recorded, so it cannot be."""
    host = restored(records)
    turn = host.start(0.0)
    core: Any = host.root
    assert core.commit_index == core.state.delivered_index == core.snapshot_index <= core.log.last_index
    assert [o for o in turn.outputs if isinstance(o, Restored)] == (
        [Restored(core.snapshot_index, core.state.snapshot_term)] if core.snapshot_index else []
    )
    assert turn.records == ()


def test_what_was_committed_is_delivered_again_from_the_snapshot_on() -> None:
    server = Server(term=3, records=[Entries(1, log_of([1, 1, 2])), *snapshotted(2, base_index=1)])
    assert server.terms == [1, 2]
    turn = server.on(2, Heartbeat(3, 3, 0))
    assert turn.outputs[-1].first_index == 3


@pytest.mark.parametrize("first", [3, 9])
def test_a_journal_with_a_hole_is_an_error(first: int) -> None:
    with pytest.raises(
        ValueError, match=f"the journal has entries from {first} for a log of 1 to 1: records are missing"
    ):
        restored([Entries(1, log_of([1])), Entries(first, [entry(1)])])


def test_a_journal_that_rewrites_a_snapshot_is_an_error() -> None:
    with pytest.raises(ValueError, match="records are missing"):
        restored([*snapshotted(5), Entries(5, [entry(1)])])


def test_a_snapshot_beyond_the_log_is_an_error() -> None:
    """Each was written after the entries that it stands for, so these are lost."""
    host = restored([Entries(1, log_of([1])), *snapshotted(5, base_index=1)])
    with pytest.raises(ValueError, match="snapshot stands at 5, but its log ends at 1: records are missing"):
        host.start(0.0)


def test_what_a_running_server_wrote_gives_its_state_back() -> None:
    server = follower(term=3, log=[1, 2, 2])
    written = [Record((), HardState(3, None)), Record((), Entries(1, log_of([1, 2, 2])))]
    for message in (
        AppendEntries(3, 1, 1, [entry(3, "a"), entry(3, "b")], 2),
        AppendEntries(4, 3, 3, [entry(4, "c")], 3),
    ):
        written += server.on(2, message).records
    assert durable_state(restored(written)) == durable_state(server.host)
