"""The pool of payments: what it gives always applies, and it never has more than it may.

``hold_to_rules`` draws payments, blocks and rewinds, and checks what must hold after each; each mutant must fail it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from quorate.ledger.account_tree import AccountTree
from quorate.ledger.accounts import NO_ACCOUNT, Account
from quorate.ledger.engine import ExecutedBlock, StateView
from quorate.ledger.native import NativeEngine
from quorate.ledger.payment_pool import ENTRY_BYTES, PaymentPool
from quorate.ledger.ruling import OK, Ruling
from quorate.ledger.transaction import Payment

from tests.ledger.payers import CHAIN, FUNDS, GENESIS, PAYERS, Payer, block_of, env_of, genesis_of

ALICE, BOB, CAROL = PAYERS[:3]
TO = PAYERS[5].address
VIEW = GENESIS.state


def pay(payer: Payer, nonce: int, fee: int = 1, amount: int = 1) -> Payment:
    return payer.pays(CHAIN, nonce, TO, amount, fee)


def pool_of(*payments: Payment, count_max: int = 100, fee_min: int = 0) -> PaymentPool:
    pool = PaymentPool(count_max * ENTRY_BYTES, fee_min)
    pool._per_sender_max = count_max  # most tests have few senders
    for payment in payments:
        assert pool.add(payment, VIEW) == OK
    return pool


def whys(ruling: Ruling) -> tuple[str, str]:
    return ruling.kind, ruling.why


def test_a_run_starts_at_the_account_and_has_no_gap() -> None:
    pool = pool_of()
    assert whys(pool.add(pay(ALICE, 1), VIEW)) == ("later", "nonce 0 of this sender comes first, and is not here")
    assert pool.add(pay(ALICE, 0), VIEW) == OK
    assert pool.add(pay(ALICE, 1), VIEW) == OK
    assert pool.next_nonce(ALICE.address, VIEW) == 2
    moved = AccountTree.of({ALICE.address: Account(4, 100)})
    assert "the sender's next is 4" in pool_of().add(pay(ALICE, 3), moved).why


def test_a_sender_cannot_promise_more_than_it_has() -> None:
    pool = pool_of(pay(ALICE, 0, 1, FUNDS - 10))
    refused = pool.add(pay(ALICE, 1, 1, 9), VIEW)
    assert whys(refused) == ("bad", f"with what waits it costs {FUNDS + 1}, and the sender has {FUNDS}")
    assert pool.add(pay(ALICE, 1, 1, 8), VIEW) == OK


def test_a_replacement_pays_a_tenth_more() -> None:
    old = pay(ALICE, 0, 15)
    pool = pool_of(old, pay(ALICE, 1, 5))
    assert "to replace it takes a fee of 17" in pool.add(pay(ALICE, 0, 16), VIEW).why
    new = pay(ALICE, 0, 17)
    assert pool.add(new, VIEW) == OK
    assert (old.id in pool, new.id in pool, len(pool)) == (False, True, 2)
    free = pool_of(pay(ALICE, 0, 0))
    assert "takes a fee of 1" in free.add(pay(ALICE, 0, 0, 2), VIEW).why
    assert "it costs" in free.add(pay(ALICE, 0, 5, FUNDS), VIEW).why


def test_what_is_on_its_way_is_not_replaced_until_it_is_given_back() -> None:
    payment = pay(ALICE, 0, 10)
    pool = pool_of(payment)
    assert pool.select(1000) == [payment]
    assert pool.select(1000) == []
    assert "on its way" in pool.add(pay(ALICE, 0, 20), VIEW).why
    pool.give_back([payment])
    assert pool.add(pay(ALICE, 0, 20), VIEW) == OK


def test_the_best_paid_go_first_and_each_after_its_own() -> None:
    a0, a1, b0, b1, c0 = pay(ALICE, 0, 1), pay(ALICE, 1, 9), pay(BOB, 0, 5), pay(BOB, 1, 2), pay(CAROL, 0, 3)
    pool = pool_of(a0, a1, b0, b1, c0)
    assert pool.select(3 * 173) == [b0, c0, b1]
    assert pool.untaken == 2
    assert pool.select(1 << 20) == [a0, a1]


def test_the_cheapest_end_makes_room_and_no_run_is_broken() -> None:
    pool = pool_of(pay(ALICE, 0, 1), pay(ALICE, 1, 7), pay(BOB, 0, 4), count_max=3)
    # Alice's first is cheapest, but her second stands on it: the cheapest end is Bob's.
    assert whys(pool.add(pay(CAROL, 0, 4), VIEW))[0] == "later"
    assert pool.add(pay(CAROL, 0, 5), VIEW) == OK
    assert [p.id in pool for p in (pay(ALICE, 0, 1), pay(ALICE, 1, 7), pay(BOB, 0, 4))] == [True, True, False]
    # One's own end makes no room for what is to follow it.
    only = pool_of(pay(ALICE, 0, 1), pay(ALICE, 1, 1), count_max=2)
    assert only.add(pay(ALICE, 2, 50), VIEW).kind == "later"
    assert len(only) == 2


def test_one_sender_has_a_share_of_the_pool() -> None:
    pool = PaymentPool(128 * ENTRY_BYTES)
    assert [pool.add(pay(ALICE, nonce), VIEW).kind for nonce in range(3)] == ["ok", "ok", "later"]


def test_a_fee_below_the_chains_minimum_is_refused() -> None:
    chain = genesis_of(fee_min=3)
    pool = PaymentPool(fee_min=3)
    assert "at least 3" in pool.add(ALICE.pays(chain.id, 0, TO, 1, 2), chain.state).why
    assert pool.add(ALICE.pays(chain.id, 0, TO, 1, 3), chain.state) == OK


def test_a_block_takes_what_it_has_and_what_cannot_be_paid_any_more() -> None:
    a0, a1, a2 = pay(ALICE, 0, 1, 100), pay(ALICE, 1, 1, 100), pay(ALICE, 2, 1, 100)
    pool = pool_of(a0, a1, a2)
    assert pool.extended([ALICE.address, BOB.address], AccountTree.of({ALICE.address: Account(1, 150)})) == [a0, a2]
    assert (len(pool), pool.next_nonce(ALICE.address, VIEW)) == (1, 2)
    assert pool.select(1 << 20) == [a1]


def test_what_was_rewound_waits_again_before_the_rest() -> None:
    a0, a1, a2 = pay(ALICE, 0), pay(ALICE, 1), pay(ALICE, 2)
    pool = pool_of(a0, a1)
    pool.extended([ALICE.address], AccountTree.of({ALICE.address: Account(2, FUNDS)}))
    pool.add(a2, AccountTree.of({ALICE.address: Account(2, FUNDS)}))
    pool.rewound([a1, a0], VIEW)
    assert pool.select(1 << 20) == [a0, a1, a2]


# --- any order of events ---


def hold_to_rules(make: type[PaymentPool], seed: int, steps: int = 100) -> None:
    rng = random.Random(seed)
    engine = NativeEngine(GENESIS)
    pool = make(16 * ENTRY_BYTES)
    pool._per_sender_max = 6
    head, height = CHAIN, 0
    chain: list[tuple[bytes, ExecutedBlock[Payment]]] = []
    for _ in range(steps):
        view = engine.at(head)
        roll = rng.random()
        if roll < 0.7:
            payer = rng.choice(PAYERS[:5])
            nonce = max(0, pool.next_nonce(payer.address, view) + rng.choice((0, 0, 0, -1, -2, 1)))
            payment = pay(payer, nonce, rng.randrange(20), rng.choice((1, 1, 1, FUNDS // 3)))
            known = {p.id for p in waiting(pool)}
            before = {(p.sender, p.nonce): p.fee for p in waiting(pool)}
            if pool.add(payment, view) == OK and payment.id not in known:
                old = before.get((payment.sender, nonce))
                assert old is None or payment.fee >= old * 1.1
        elif roll < 0.8 and chain:
            id, executed = chain.pop()
            head = chain[-1][0] if chain else CHAIN
            height -= 1
            pool.rewound(list(executed.included), engine.at(head))
            pool.extended([p.address for p in PAYERS], engine.at(head))
        else:
            chosen = pool.select(rng.choice((1, 3, 50)) * 173)
            if rng.random() < 0.3:
                pool.give_back(chosen)
            else:
                height += 1
                done = engine.execute(head, env_of(height), chosen, strict=True)
                assert isinstance(done, ExecutedBlock), done
                id = block_of(head, done, rng.randrange(1 << 30)).id
                engine.keep(id, head, done)
                head = id
                chain.append((id, done))
                pool.extended([change.address for change in done.changes], engine.at(head))
        check(pool, engine.at(head))


def waiting(pool: PaymentPool) -> list[Payment]:
    return [payment for run in pool._runs.values() for payment in run.payments]


def check(pool: PaymentPool, view: StateView) -> None:
    assert pool.size_bytes <= 16 * ENTRY_BYTES
    assert {payment.id for payment in waiting(pool)} == pool._ids
    assert pool.untaken == sum(len(run.payments) - run.taken for run in pool._runs.values())
    for sender, run in pool._runs.items():
        account = view.get(sender) or NO_ACCOUNT
        assert 0 < len(run.payments) <= 6
        assert [payment.nonce for payment in run.payments] == [run.first + n for n in range(len(run.payments))]
        assert run.first == account.nonce
        assert run.cost == sum(payment.cost for payment in run.payments) <= account.balance


@pytest.mark.parametrize("seed", range(3))
def test_what_is_selected_applies_and_the_limits_hold(seed: int) -> None:
    hold_to_rules(PaymentPool, seed)


class EvictsAnything(PaymentPool):
    """Also a payment on which others stand."""

    def _is_end(self, run: object, end: tuple[int, int, bytes]) -> bool:
        return True

    def _cut(self, sender: bytes, run: object, keep: int) -> list[Payment]:
        r = self._runs[sender]
        if keep == len(r.payments) - 1 and keep:
            gone = r.payments.pop(0)
            r.cost -= gone.cost
            self._ids.remove(gone.id)
            self.untaken -= 1
            return [gone]
        return super()._cut(sender, r, keep)


class ReplacesForNothing(PaymentPool):
    def _replace(self, run: object, place: int, payment: Payment, balance: int) -> Ruling:
        r = self._runs[payment.sender]
        if payment.fee >= r.payments[place].fee and place >= r.taken:
            self._ids.remove(r.payments[place].id)
            self._ids.add(payment.id)
            r.cost += payment.cost - r.payments[place].cost
            r.payments[place] = payment
            return OK
        return super()._replace(r, place, payment, balance)


class ForgetsToShift(PaymentPool):
    def extended(self, senders: Iterable[bytes], view: StateView) -> list[Payment]:
        return []


class Unbounded(PaymentPool):
    def _make_room(self, payment: Payment) -> bool:
        return True


class RewindsNothing(PaymentPool):
    def rewound(self, payments: object, view: StateView) -> None:
        pass

    def extended(self, senders: Iterable[bytes], view: StateView) -> list[Payment]:
        return super().extended([s for s in senders if self._ahead(s, view)], view)

    def _ahead(self, sender: bytes, view: StateView) -> bool:
        run = self._runs.get(sender)
        return run is not None and (view.get(sender) or NO_ACCOUNT).nonce >= run.first


@pytest.mark.parametrize("kind", [EvictsAnything, ReplacesForNothing, ForgetsToShift, Unbounded, RewindsNothing])
def test_a_mutant_of_the_pool_is_caught(kind: type[PaymentPool]) -> None:
    def hold_all() -> None:
        for seed in range(8):
            hold_to_rules(kind, seed)

    with pytest.raises((AssertionError, IndexError, KeyError)):
        hold_all()
