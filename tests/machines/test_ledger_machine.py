"""The ledger on a log: blocks by commands alone, the same after any restart, and nothing that an answer makes up."""

import io
import random
from pathlib import Path
from typing import Any, TypeVar

import pytest

from quorate.kernel.app import AppEnded
from quorate.ledger.accounts import Account
from quorate.ledger.genesis import Genesis
from quorate.machines.chain import chain_messages as messages
from quorate.machines.chain.chain_snapshot import BLOCKS
from quorate.machines.chain.chain_store import ChainStore
from quorate.machines.chain.ledger_machine import LedgerMachine
from quorate.parts.log.entries import COMMAND, Entry
from quorate.parts.log.replicated import Decided
from quorate.service.replica import Replica
from quorate.service.requests import Apply, OpenSession, encode

from tests.ledger.payers import CHAIN, COLLECTOR, FUNDS, GENESIS, PAYERS
from tests.service.replicas import RecordingPort

ALICE, BOB = PAYERS[:2]
T = TypeVar("T")


def machine_in(folder: Path, in_thread: bool = False, genesis: Genesis = GENESIS) -> LedgerMachine:
    machine = LedgerMachine(folder, genesis, in_thread)
    machine.open()
    return machine


def batch(height: int, count: int = 1, time_s: int = 0) -> bytes:
    """What block ``height`` is made of, if all blocks before have as many."""
    first = (height - 1) * count
    raws = [ALICE.pays(CHAIN, first + n, BOB.address, 1, 1).raw for n in range(count)]
    return messages.encode_batch(raws, time_s or GENESIS.time_s + 10 * height)


def apply(machine: LedgerMachine, command: bytes) -> Any:
    machine.begin()
    result = messages.decode_chain_answer(machine.apply(command))
    machine.commit()
    return result


def ask(machine: LedgerMachine, query: Any, kind: type[T]) -> T:
    answer = messages.decode_chain_answer(machine.query(messages.encode_chain(query)))
    assert isinstance(answer, kind), answer
    return answer


def snapshot_of(machine: LedgerMachine) -> bytes:
    file = io.BytesIO()
    machine.snapshot()(file)
    return file.getvalue()


def test_a_batch_becomes_a_block_of_what_applies(tmp_path: Path) -> None:
    machine = machine_in(tmp_path)
    good, late = ALICE.pays(CHAIN, 0, BOB.address, 5, 2), ALICE.pays(CHAIN, 2, BOB.address, 5)
    forged = good.raw[:-1] + bytes((good.raw[-1] ^ 1,))
    raws = [forged, late.raw, good.raw, good.raw]
    result = apply(machine, messages.encode_batch(raws, GENESIS.time_s + 50))
    assert (result.height, result.id) == (1, machine.head_id)
    assert result.skipped == (
        (0, "its signature is wrong"),
        (1, "its nonce is 2, and the sender's next is 0"),
        (3, "its nonce is 0, and the sender's next is 1"),
    )
    assert machine.head.transactions == (good.raw,)
    assert machine.head.header.time_s == GENESIS.time_s + 50
    assert machine.state.get(COLLECTOR) == Account(0, 2 + 7)
    again = apply(machine, messages.encode_batch([good.raw]))
    assert again == messages.Batched(0, b"", ((0, "block 1 has it already"),))
    assert machine.height == 1


@pytest.mark.parametrize("command", [b"", b"\x01", b"\x01" + bytes(4), b"\x01" + bytes(170), b"\x02" + bytes(177)])
def test_what_is_no_batch_is_an_error_and_makes_no_block(command: bytes, tmp_path: Path) -> None:
    machine = machine_in(tmp_path)
    assert isinstance(apply(machine, command), messages.ChainError)
    assert machine.refuses(command) is not None
    assert machine.height == 0
    assert isinstance(messages.decode_chain_answer(machine.query(command)), messages.ChainError)


def test_time_goes_on_and_not_too_fast(tmp_path: Path) -> None:
    genesis = Genesis("t", 1000, COLLECTOR, GENESIS.accounts, time_step_s_max=60)
    machine = machine_in(tmp_path, genesis=genesis)
    times = []
    for nonce, claimed in enumerate((1030, 1030, 5, 2**32 - 1)):
        apply(machine, messages.encode_batch([ALICE.raw(genesis.id, nonce, BOB.address, 1)], claimed))
        times.append(machine.head.header.time_s)
    assert times == [1030, 1031, 1032, 1092]
    stamped = messages.decode_batch(machine.stamp(messages.encode_batch([bytes(173)], 7), 1_234_999_999_999))
    assert stamped == (1234, [bytes(173)])
    assert machine.stamp(b"x", 1) == b"x"


def test_what_is_asked_is_answered_with_proofs(tmp_path: Path) -> None:
    machine = machine_in(tmp_path)
    for height in range(1, 4):
        apply(machine, batch(height, 3))
    for flushed in (False, True):
        if flushed:
            machine.flush(waits=True)
            assert machine.store.head.height == 3
        head = ask(machine, messages.AskHead(), messages.Head)
        assert (head.block.header.id, head.chain, head.supply) == (machine.head_id, CHAIN, GENESIS.supply + 21)
        account = ask(machine, messages.AskAccount(BOB.address), messages.AccountAt)
        assert account.proof.refusal(machine.head_id) is None
        assert account.proof.account.account == Account(0, FUNDS + 9)
        payment = ALICE.pays(CHAIN, 4, BOB.address, 1, 1)
        found = ask(machine, messages.AskPayment(payment.id), messages.PaymentAt)
        block = ask(machine, messages.AskBlock(2), messages.Whole)
        assert found.proof.refusal(block.id) is None
        assert (found.id, found.proof.raw) == (block.id, payment.raw)
        assert ask(machine, messages.AskBlock(id=block.id), messages.Whole) == block
        assert ask(machine, messages.AskBlock(0), messages.Whole).id == CHAIN
        for missing in (messages.AskBlock(4), messages.AskBlock(id=bytes(32)), messages.AskPayment(bytes(32))):
            assert ask(machine, missing, messages.ChainError).is_missing


def test_block_edges_do_not_depend_on_how_a_log_is_handed_over() -> None:
    """Trap 6: one log in random groupings, through the Replica."""
    entries = [Entry(1, encode(OpenSession(1)), COMMAND)]
    entries += [Entry(1, encode(Apply(1, n, 0, batch(n + 1, 2))), COMMAND) for n in range(12)]
    entries += entries[4:6]  # retries
    heads = set()
    for seed in range(4):
        rng = random.Random(seed)
        machine = LedgerMachine(Path("unused"), GENESIS, in_thread=False)
        machine.store = NoStore()  # type: ignore[assignment]
        replica = Replica(machine)
        replica.port = RecordingPort()  # type: ignore[assignment]
        at = 0
        while at < len(entries):
            count = rng.randrange(1, 5)
            replica.output(Decided(at + 1, entries[at : at + count]))
            replica.settle()
            at += count
        assert machine.height == 12
        heads.add(machine.head_id)
    assert len(heads) == 1


class NoStore:
    """Of a machine whose blocks all wait."""

    class head:
        height = 0

    def place_of(self, payment: bytes) -> None:
        return None


# --- restarts ---


def states(machine: LedgerMachine) -> tuple[Any, ...]:
    supply = sum(account.balance for _, account in machine.state)
    assert supply == machine.engine.supply(machine.head_id) == GENESIS.supply + 7 * machine.height
    return machine.height, machine.head_id, machine.state.root


def test_a_node_killed_at_any_step_comes_to_the_same_chain(tmp_path: Path) -> None:
    """The log is there in full, or its rest after a snapshot; the store has any part of it."""
    commands = [batch(height, 2) for height in range(1, 13)]
    whole = machine_in(tmp_path / "whole")
    snapshots = [snapshot_of(whole)]
    results = []
    for command in commands:
        results.append(apply(whole, command))
        snapshots.append(snapshot_of(whole))
    expected = states(whole)
    for stored in (0, 1, 7, 12):
        for base in (0, 5, 12):
            folder = tmp_path / f"{stored}-{base}"
            first = machine_in(folder)
            for command in commands[:stored]:
                apply(first, command)
            first.flush(waits=True)
            first.store.close()  # killed: what waited is gone
            second = machine_in(folder)
            assert second.store.head.height == stored
            if base:
                second.restore(io.BytesIO(snapshots[base]))()
                assert second.height == base
            assert [apply(second, command) for command in commands[base:]] == results[base:]
            assert states(second) == expected
            second.close()
            with_all = ChainStore(folder / "chain.lmdb", CHAIN)
            assert with_all.head == (12, expected[1])
            with_all.close()


def test_answers_are_of_the_head_while_the_store_is_ahead(tmp_path: Path) -> None:
    first = machine_in(tmp_path)
    for height in range(1, 4):
        apply(first, batch(height))
    first.close()
    second = machine_in(tmp_path)
    apply(second, batch(1))
    later = ALICE.pays(CHAIN, 1, BOB.address, 1, 1).id
    assert ask(second, messages.AskPayment(later), messages.ChainError).is_missing
    assert ask(second, messages.AskBlock(2), messages.ChainError).is_missing
    assert ask(second, messages.AskBlock(1), messages.Whole).id == second.head_id


def test_a_store_of_another_history_ends_the_node(tmp_path: Path) -> None:
    first = machine_in(tmp_path)
    apply(first, batch(1))
    first.close()
    second = machine_in(tmp_path)
    with pytest.raises(AppEnded, match="not of one history"):
        second.apply(batch(1, time_s=GENESIS.time_s + 99))


def test_a_newcomer_has_the_last_blocks_of_a_snapshot(tmp_path: Path) -> None:
    old = machine_in(tmp_path / "old")
    for height in range(1, BLOCKS + 11):
        apply(old, batch(height))
    snapshot = snapshot_of(old)
    new = machine_in(tmp_path / "new")
    new.restore(io.BytesIO(snapshot))()
    assert states(new) == states(old)
    assert (new.store.base, new.store.head.height) == (11, BLOCKS + 10)
    assert snapshot_of(new) == snapshot
    missing = ask(new, messages.AskBlock(10), messages.ChainError)
    assert missing.why == f"block 10 is not here: there are 0 and 11 to {BLOCKS + 10}"
    new.close()
    assert machine_in(tmp_path / "new").store.base == 11


def test_a_snapshot_with_any_byte_flipped_is_refused(tmp_path: Path) -> None:
    machine = machine_in(tmp_path)
    for height in range(1, 4):
        apply(machine, batch(height, 2))
    snapshot = snapshot_of(machine)
    for at in range(0, len(snapshot), 3):
        flipped = bytearray(snapshot)
        flipped[at] ^= 1
        with pytest.raises(ValueError, match="snapshot"):
            machine.restore(io.BytesIO(bytes(flipped)))
    for size in (0, 8, 100, len(snapshot) - 1):
        with pytest.raises((ValueError, EOFError)):
            machine.restore(io.BytesIO(snapshot[:size]))
    assert machine.height == 3


def test_blocks_are_written_in_a_thread_and_none_is_lost(tmp_path: Path) -> None:
    machine = machine_in(tmp_path, in_thread=True)
    for height in range(1, 200):
        apply(machine, batch(height))
        if height % 20 == 0:
            assert ask(machine, messages.AskBlock(height // 2), messages.Whole).block.payload.height == height // 2
    if machine._flushing is not None:
        machine._flushing.result(60)  # the disk may be slow
    assert machine.store.head.height >= 64, "it did not wait for the end"
    machine.close()
    store = ChainStore(tmp_path / "chain.lmdb", CHAIN)
    assert (store.base, store.head) == (1, (199, machine.head_id))
    store.close()
