"""PaymentPool: payments that are right and that no block has yet.

How it works. Each sender has a *run*: payments whose nonces follow each other without a gap, from the sender's next one
on, all of which together the sender can pay. So what ``select`` gives applies, in that order, on the state by which the
pool was last told of a block. A run is changed at its end alone, but by a replacement: the same nonce again, for a fee
that is a tenth higher.

The pool is bounded in bytes, and so is a sender's share of it. If it is full, the cheapest last payment of another run
makes room for one that pays more. Payments that were selected are *taken*, until a block has them or ``give_back`` says
that they are not on their way any more: nobody replaces them or pushes them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from quorate.ledger.accounts import NO_ACCOUNT
from quorate.ledger.engine import StateView
from quorate.ledger.ruling import OK, Ruling
from quorate.ledger.transaction import PAYMENT_BYTES, Payment

POOL_BYTES_MAX: Final = 64 << 20
SENDER_SHARE: Final = 64
"""One sender has at most this part of the pool."""
ENTRY_BYTES: Final = 1024
"""What a payment counts: its bytes, its fields and its place in the tables, measured at about this."""
REPLACEMENT_PERCENT: Final = 10
ENDS_PER_RUN_MAX: Final = 4
"""Of the heap of last payments, which is cleared of old ones when it has grown to so many times the runs."""


class _Run:
    __slots__ = ("cost", "first", "payments", "taken")

    def __init__(self, first: int) -> None:
        self.first = first
        """The nonce of the first."""
        self.payments: list[Payment] = []
        self.cost = 0
        self.taken = 0
        """So many of the first are on their way."""


class PaymentPool:
    """Looks at accounts through the view that its caller has; it keeps none."""

    def __init__(self, bytes_max: int = POOL_BYTES_MAX, fee_min: int = 0) -> None:
        """``fee_min``: of the chain."""
        self._count_max = max(1, bytes_max // ENTRY_BYTES)
        self._per_sender_max = max(1, self._count_max // SENDER_SHARE)
        self._fee_min = fee_min
        self._runs: dict[bytes, _Run] = {}
        self._ids: set[bytes] = set()
        self._ends: list[tuple[int, int, bytes]] = []
        """A heap: fee and nonce of what was once the last of a run, and whose."""
        self.untaken = 0

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, id: bytes) -> bool:
        return id in self._ids

    @property
    def size_bytes(self) -> int:
        """What it counts as having in memory."""
        return len(self._ids) * ENTRY_BYTES

    def next_nonce(self, sender: bytes, view: StateView) -> int:
        """What the sender's next payment must have to follow those that wait."""
        run = self._runs.get(sender)
        return (view.get(sender) or NO_ACCOUNT).nonce if run is None else run.first + len(run.payments)

    # --- in ---

    def add(self, payment: Payment, view: StateView) -> Ruling:
        """Take it, or say why not. One that is here already is taken."""
        if payment.id in self._ids:
            return OK
        if payment.fee < self._fee_min:
            return _refused(f"its fee is {payment.fee}, at least {self._fee_min} is asked for")
        account = view.get(payment.sender) or NO_ACCOUNT
        if payment.nonce < account.nonce:
            return _refused(f"its nonce is {payment.nonce}, and the sender's next is {account.nonce}")
        run = self._runs.get(payment.sender)
        first, count, cost = (account.nonce, 0, 0) if run is None else (run.first, len(run.payments), run.cost)
        place = payment.nonce - first
        if place > count:
            return Ruling("later", f"nonce {first + count} of this sender comes first, and is not here")
        if run is not None and 0 <= place < count:
            return self._replace(run, place, payment, account.balance)
        if cost + payment.cost > account.balance:
            return _refused(f"with what waits it costs {cost + payment.cost}, and the sender has {account.balance}")
        if count >= self._per_sender_max:
            return Ruling("later", f"{count} payments of this sender wait, which is the most")
        if len(self._ids) >= self._count_max and not self._make_room(payment):
            return Ruling("later", f"too many payments wait, and none of another sender pays less than {payment.fee}")
        self._append(payment, first)
        return OK

    def _append(self, payment: Payment, first: int) -> None:
        run = self._runs.get(payment.sender)
        if run is None:
            run = self._runs[payment.sender] = _Run(first)
        run.payments.append(payment)
        run.cost += payment.cost
        self._ids.add(payment.id)
        self.untaken += 1
        self._note_end(run)

    def _replace(self, run: _Run, place: int, payment: Payment, balance: int) -> Ruling:
        old = run.payments[place]
        least = old.fee + max(1, -(-old.fee * REPLACEMENT_PERCENT // 100))
        if payment.fee < least:
            return _refused(f"another payment with nonce {payment.nonce} waits: to replace it takes a fee of {least}")
        if place < run.taken:
            return _refused(f"another payment with nonce {payment.nonce} is on its way into a block")
        cost = run.cost - old.cost + payment.cost
        if cost > balance:
            return _refused(f"with what waits it costs {cost}, and the sender has {balance}")
        run.payments[place] = payment
        run.cost = cost
        self._ids.remove(old.id)
        self._ids.add(payment.id)
        self._note_end(run)
        return OK

    def _make_room(self, payment: Payment) -> bool:
        """Drop the cheapest last payment, if that pays less. Not the sender's own: this one is to follow it."""
        aside = []
        found = False
        while self._ends and self._ends[0][0] < payment.fee and not found:
            end = heappop(self._ends)
            run = self._runs.get(end[2])
            if run is None or not self._is_end(run, end) or len(run.payments) <= run.taken:
                continue
            if end[2] == payment.sender:
                aside.append(end)
                continue
            self._cut(end[2], run, len(run.payments) - 1)
            found = True
        for end in aside:
            heappush(self._ends, end)
        return found

    # --- out ---

    def select(self, bytes_max: int) -> list[Payment]:
        """The best paid that fit, each after those of its sender that come before; they are taken then."""
        chosen: list[Payment] = []
        best = [
            (-run.payments[run.taken].fee, sender)
            for sender, run in self._runs.items()
            if len(run.payments) > run.taken
        ]
        heapify(best)
        room = bytes_max // PAYMENT_BYTES
        while best and len(chosen) < room:
            sender = heappop(best)[1]
            run = self._runs[sender]
            chosen.append(run.payments[run.taken])
            run.taken += 1
            if len(run.payments) > run.taken:
                heappush(best, (-run.payments[run.taken].fee, sender))
        self.untaken -= len(chosen)
        return chosen

    def give_back(self, payments: Iterable[Payment]) -> None:
        """These are not on their way any more; nor are those that follow them."""
        for payment in payments:
            run = self._runs.get(payment.sender)
            if run is not None and payment.id in self._ids:
                place = payment.nonce - run.first
                if place < run.taken:
                    self.untaken += run.taken - place
                    run.taken = place
                    self._note_end(run)

    # --- blocks ---

    def extended(self, senders: Iterable[bytes], view: StateView) -> list[Payment]:
        """A block changed these accounts. The payments that were dropped as they do not apply any more.

        Those that the block has are among them.
        """
        dropped: list[Payment] = []
        for sender in senders:
            run = self._runs.get(sender)
            if run is None:
                continue
            account = view.get(sender) or NO_ACCOUNT
            done = min(account.nonce - run.first, len(run.payments))
            if done < 0:  # the head went back
                dropped += self._cut(sender, run, 0)
                continue
            dropped += self._shift(run, done)
            keep = len(run.payments)
            cost = run.cost
            while cost > account.balance:
                keep -= 1
                cost -= run.payments[keep].cost
            if keep < len(run.payments) or not keep:
                dropped += self._cut(sender, run, keep)
        return dropped

    def rewound(self, payments: Sequence[Payment], view: StateView) -> None:
        """Blocks were taken back that had these: they wait again, before what their senders have here."""
        senders = {payment.sender: None for payment in payments}
        waiting = [*payments]
        for sender in senders:
            if (run := self._runs.get(sender)) is not None:
                waiting += self._cut(sender, run, 0)
        waiting.sort(key=_nonce)
        for payment in waiting:
            self.add(payment, view)

    # --- runs ---

    def _shift(self, run: _Run, count: int) -> list[Payment]:
        gone, run.payments = run.payments[:count], run.payments[count:]
        run.first += count
        self.untaken -= max(0, count - run.taken)
        run.taken = max(0, run.taken - count)
        for payment in gone:
            run.cost -= payment.cost
            self._ids.remove(payment.id)
        return gone

    def _cut(self, sender: bytes, run: _Run, keep: int) -> list[Payment]:
        gone = run.payments[keep:]
        del run.payments[keep:]
        self.untaken -= len(gone) - max(0, run.taken - keep)
        run.taken = min(run.taken, keep)
        for payment in gone:
            run.cost -= payment.cost
            self._ids.remove(payment.id)
        if run.payments:
            self._note_end(run)
        else:
            del self._runs[sender]
        return gone

    def _note_end(self, run: _Run) -> None:
        last = run.payments[-1]
        heappush(self._ends, (last.fee, last.nonce, last.sender))
        if len(self._ends) > ENDS_PER_RUN_MAX * (len(self._runs) + 16):
            lasts = [other.payments[-1] for other in self._runs.values()]
            self._ends = [(end.fee, end.nonce, end.sender) for end in lasts]
            heapify(self._ends)

    def _is_end(self, run: _Run, end: tuple[int, int, bytes]) -> bool:
        last = run.payments[-1]
        return (last.fee, last.nonce) == end[:2]


def _nonce(payment: Payment) -> int:
    return payment.nonce


def _refused(why: str) -> Ruling:
    return Ruling("bad", why)
