"""The native engine at any block of a tree: what it finds is a function of the payments on the way there.

``explore`` draws a tree of blocks and holds the engine to a model of dicts: it is the check that each mutant below must
fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from quorate.ledger.account_tree import AccountTree
from quorate.ledger.accounts import NO_ACCOUNT, SUPPLY_MAX, Account, AccountChange
from quorate.ledger.engine import BlockEnv, ExecutedBlock
from quorate.ledger.genesis import Genesis
from quorate.ledger.native import NativeEngine, undone
from quorate.ledger.ruling import Ruling
from quorate.ledger.transaction import Payment
from quorate.parts.crypto.merkle import merkle_root

from tests.ledger.payers import CHAIN, COLLECTOR, FUNDS, GENESIS, PAYERS, block_of, env_of, extended, genesis_of

STRANGER = bytes(20)


def replayed(genesis: Genesis, blocks: list[list[Payment]]) -> dict[bytes, tuple[int, int]]:
    """The accounts after these blocks: nonce and balance, by rules written a second time."""
    state = {address: (0, amount) for address, amount in genesis.accounts}
    for payments in blocks:
        for p in payments:
            nonce, balance = state[p.sender]
            assert nonce == p.nonce
            assert balance >= p.amount + p.fee
            state[p.sender] = (nonce + 1, balance - p.amount - p.fee)
            nonce, balance = state.get(p.to, (0, 0))
            state[p.to] = (nonce, balance + p.amount)
        nonce, balance = state.get(COLLECTOR, (0, 0))
        state[COLLECTOR] = (nonce, balance + genesis.subsidy + sum(p.fee for p in payments))
    return state


def explore(engine: NativeEngine, undo: Any, seed: int, blocks: int = 12) -> None:
    """Blocks on random parents, with payments of which some cannot apply; undone and replayed at each."""
    rng = random.Random(seed)
    genesis = engine.genesis
    ways: dict[bytes, list[list[Payment]]] = {genesis.id: []}
    for number in range(blocks):
        parent = rng.choice(list(ways)[-4:])
        height = len(ways[parent]) + 1
        state = engine.at(parent)
        candidates = []
        for _ in range(rng.randrange(6)):
            payer = rng.choice(PAYERS[:4])
            nonce = (state.get(payer.address) or NO_ACCOUNT).nonce + rng.choice((0, 0, 0, 1, 2))
            to = rng.choice((PAYERS[0].address, PAYERS[5].address, rng.randbytes(20), COLLECTOR))
            amount = rng.choice((1, 5, FUNDS // 2, FUNDS))
            candidates.append(payer.pays(genesis.id, nonce, to, amount, rng.randrange(3)))
        executed = engine.execute(parent, env_of(height), candidates, strict=False)
        assert isinstance(executed, ExecutedBlock)
        assert len(executed.included) + len(executed.skipped) == len(candidates)
        id = block_of(parent, executed, number).id
        engine.keep(id, parent, executed)
        ways[id] = [*ways[parent], list(executed.included)]
        accounts = {where: tuple(account) for where, account in engine.at(id)}
        assert accounts == replayed(genesis, ways[id])
        assert sum(balance for _, balance in accounts.values()) == genesis.supply + height * genesis.subsidy
        assert engine.supply(id) == genesis.supply + height * genesis.subsidy
        assert undo(engine.at(id), executed.changes).root == engine.at(parent).root
        redone = undo(engine.at(id), executed.changes).changed(executed.changes)
        assert redone.root == engine.at(id).root


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_of_blocks_and_undoing_equals_a_replay_from_genesis(seed: int) -> None:
    explore(NativeEngine(GENESIS), undone, seed)


def explore_all(make: Callable[[], NativeEngine], undo: Any) -> None:
    for seed in range(4):
        explore(make(), undo, seed)


# --- mutants ---


class NonceUnchecked(NativeEngine):
    def _apply(self, payment: Payment, touched: Any) -> str:
        sender = touched.at(payment.sender)
        return super()._apply(msgspec.structs.replace(payment, nonce=sender.nonce), touched)


class BalanceUnchecked(NativeEngine):
    def _apply(self, payment: Payment, touched: Any) -> str:
        why = super()._apply(payment, touched)
        if "costs" in why:
            sender = touched.at(payment.sender)
            touched.after[payment.sender] = Account(sender.nonce + 1, 0)
            return ""
        return why


class FeeNotPaid(NativeEngine):
    def _executed(self, base: Any, env: BlockEnv, touched: Any, included: Any, skipped: Any) -> Any:
        free = [msgspec.structs.replace(payment, fee=0) for payment in included]
        return super()._executed(base, env, touched, free, skipped)


class SubsidyForgotten(NativeEngine):
    def __init__(self, genesis: Genesis) -> None:
        super().__init__(genesis)
        self.genesis = msgspec.structs.replace(genesis, subsidy=genesis.subsidy - 1)

    def supply(self, id: bytes) -> int:
        return GENESIS.supply + 7 * self._kept[id].height


class HalfApplied(NativeEngine):
    """What a payment to oneself does: both sides are read before either is written."""

    def _apply(self, payment: Payment, touched: Any) -> str:
        to = touched.at(payment.to)
        why = super()._apply(payment, touched)
        if not why:
            touched.after[payment.to] = Account(to.nonce, to.balance + payment.amount)
        return why


def undo_without_deletion(state: AccountTree, changes: Iterable[AccountChange]) -> AccountTree:
    return undone(state, [c if c.before is not None else c._replace(before=NO_ACCOUNT) for c in changes])


@pytest.mark.parametrize("kind", [NonceUnchecked, BalanceUnchecked, FeeNotPaid, SubsidyForgotten, HalfApplied])
def test_a_mutant_of_the_engine_is_caught(kind: type[NativeEngine]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        explore_all(lambda: kind(GENESIS), undone)


def test_a_key_that_undo_leaves_behind_is_caught() -> None:
    with pytest.raises(AssertionError):
        explore_all(lambda: NativeEngine(GENESIS), undo_without_deletion)


# --- rules ---


def test_a_strict_block_is_bad_at_its_first_bad_payment_and_another_skips_it() -> None:
    engine = NativeEngine(genesis_of(fee_min=2))
    chain, alice, bob = engine.genesis.id, PAYERS[0], PAYERS[1].address
    payments = [
        alice.pays(chain, 0, bob, 10, 2),
        alice.pays(chain, 0, bob, 11, 2),
        alice.pays(chain, 1, bob, FUNDS, 2),
        alice.pays(chain, 1, bob, 10, 1),
        alice.pays(chain, 1, bob, 12, 3),
    ]
    lenient = engine.execute(chain, env_of(1), payments, strict=False)
    assert isinstance(lenient, ExecutedBlock)
    assert lenient.included == (payments[0], payments[4])
    assert [why for _, why in lenient.skipped] == [
        "its nonce is 0, and the sender's next is 1",
        f"it costs {FUNDS + 2}, and the sender has {FUNDS - 12}",
        "its fee is 1, at least 2 is asked for",
    ]
    assert lenient.state.get(COLLECTOR) == Account(0, 2 + 3 + 7)
    strict = engine.execute(chain, env_of(1), payments, strict=True)
    assert isinstance(strict, Ruling)
    assert (strict.kind, strict.poisons) == ("bad", True)
    assert f"payment {payments[1].id.hex()} does not apply: its nonce is 0" in strict.why


def test_a_block_does_not_spend_what_it_earns() -> None:
    engine = NativeEngine(genesis_of([PAYERS[0]], funds=10))
    alice, bob = PAYERS[0], PAYERS[1]
    chain = engine.genesis.id
    payments = [alice.pays(chain, 0, bob.address, 1, 9), bob.pays(chain, 0, alice.address, 2, 0)]
    executed = engine.execute(chain, env_of(1, bob.address), payments, strict=False)
    assert isinstance(executed, ExecutedBlock)
    assert executed.included == (payments[0],)
    assert executed.state.get(bob.address) == Account(0, 1 + 9 + 7)


def test_there_is_never_more_than_the_most_that_there_can_be() -> None:
    genesis = Genesis("full", 1, COLLECTOR, ((PAYERS[0].address, SUPPLY_MAX - 10),), subsidy=7)
    engine = NativeEngine(genesis)
    first = extended(engine, genesis.id, 1, [])
    second = extended(engine, first, 2, [])
    third = extended(engine, second, 3, [])
    assert [engine.supply(id) - SUPPLY_MAX for id in (first, second, third)] == [-3, 0, 0]
    assert engine.at(third).get(COLLECTOR) == Account(0, 10)


def test_a_block_is_judged_by_what_execution_finds() -> None:
    engine = NativeEngine(GENESIS)
    payments = [PAYERS[0].pays(CHAIN, 0, STRANGER, 10, 1)]
    executed = engine.build(CHAIN, env_of(1), payments, 1 << 20)
    block = block_of(CHAIN, executed)
    judged = engine.judge(block, env_of(1))
    assert isinstance(judged, ExecutedBlock)
    assert engine.at(block.id).root == executed.state.root
    engine.adopt(block.id)
    assert engine.head == block.id
    assert engine.diffs([block.id]) == [executed.changes]


@pytest.mark.parametrize("field", ["state", "receipts", "gas_used", "proposer"])
def test_a_block_with_another_payload_is_bad_for_ever(field: str) -> None:
    engine = NativeEngine(GENESIS)
    executed = engine.execute(CHAIN, env_of(1), [PAYERS[0].pays(CHAIN, 0, STRANGER, 10)], strict=True)
    assert isinstance(executed, ExecutedBlock)
    other: Any = 1 if field == "gas_used" else bytes(20) if field == "proposer" else bytes(32)
    payload = msgspec.structs.replace(executed.payload, **{field: other})
    block = block_of(CHAIN, msgspec.structs.replace(executed, payload=payload))
    found = engine.judge(block, env_of(1))
    assert isinstance(found, Ruling)
    assert found == Ruling("bad", f"its payload header has another {field} than execution finds", 100, poisons=True)
    assert block.id not in engine


def test_a_body_that_does_not_belong_to_its_header_poisons_nothing() -> None:
    """Trap 8: whoever sends a wrong body first must not keep the right one from being taken."""
    engine = NativeEngine(GENESIS)
    executed = engine.execute(CHAIN, env_of(1), [PAYERS[0].pays(CHAIN, 0, STRANGER, 10)], strict=True)
    assert isinstance(executed, ExecutedBlock)
    block = block_of(CHAIN, executed)
    wrong = (
        msgspec.structs.replace(block, transactions=()),
        msgspec.structs.replace(block, transactions=block.transactions * 2),
        msgspec.structs.replace(block, transactions=(bytes(173),)),
        msgspec.structs.replace(block, payload=msgspec.structs.replace(block.payload, height=2)),
    )
    for bad in wrong:
        assert bad.id == block.id
        found = engine.judge(bad, env_of(1))
        assert isinstance(found, Ruling)
        assert (found.kind, found.poisons) == ("bad", False)
    assert isinstance(engine.judge(block, env_of(1)), ExecutedBlock)


def test_roots_are_those_of_the_raw_payments_and_of_the_receipts() -> None:
    engine = NativeEngine(GENESIS)
    payments = [PAYERS[0].pays(CHAIN, nonce, STRANGER, 10, 2) for nonce in range(3)]
    executed = engine.build(CHAIN, env_of(1), payments, 2 * 173)
    assert executed.included == tuple(payments[:2])
    assert executed.payload.transactions == merkle_root([payment.raw for payment in payments[:2]])
    receipts = [payment.id + b"\0\0\0\1" + bytes(7) + b"\2" for payment in payments[:2]]
    assert executed.payload.receipts == merkle_root(receipts)


def test_what_is_forgotten_is_gone_but_for_the_head() -> None:
    engine = NativeEngine(GENESIS)
    first = extended(engine, CHAIN, 1, [])
    second = extended(engine, first, 2, [])
    engine.adopt(second)
    engine.forget([CHAIN, first, second])
    assert [id in engine for id in (CHAIN, first, second)] == [False, False, True]
    assert engine.at(second).get(COLLECTOR) == Account(0, 14)


def test_a_genesis_that_cannot_be_is_refused() -> None:
    good = msgspec.structs.asdict(GENESIS)
    for field, value in {
        "name": "",
        "accounts": tuple(reversed(GENESIS.accounts)),
        "time_step_s_max": 0,
    }.items():
        with pytest.raises(ValueError, match=r"chain|order|step"):
            Genesis(**{**good, field: value})
    with pytest.raises(ValueError, match="at most"):
        Genesis("x", 1, COLLECTOR, ((bytes(20), SUPPLY_MAX), (bytes(19) + b"a", 1)))
    with pytest.raises(ValueError, match="at least 1"):
        Genesis("x", 1, COLLECTOR, ((bytes(20), 0),))


def test_every_rule_of_a_genesis_is_in_the_chains_id() -> None:
    good = msgspec.structs.asdict(GENESIS)
    others = {
        "name": "other",
        "time_s": 1,
        "collector": bytes(20),
        "accounts": GENESIS.accounts[1:],
        "subsidy": 8,
        "fee_min": 1,
        "time_step_s_max": 5,
    }
    assert others.keys() == good.keys()
    ids = {Genesis(**{**good, field: value}).id for field, value in others.items()}
    assert len(ids | {GENESIS.id}) == len(others) + 1
