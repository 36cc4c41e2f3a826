"""NativeEngine: accounts, payments, nonces and fees, and nothing that can be programmed.

A payment applies if its nonce is the sender's next, its fee is at least the minimum and the sender has amount and fee.
The fees of a block and the subsidy go to the proposer when all its payments are done; so nobody spends in a block what
the block earns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from quorate.ledger.account_tree import AccountTree
from quorate.ledger.accounts import NO_ACCOUNT, SUPPLY_MAX, Account, AccountChange
from quorate.ledger.block import LedgerBlock, PayloadHeader
from quorate.ledger.engine import BlockEnv, ExecutedBlock, PaymentReceipt
from quorate.ledger.genesis import Genesis
from quorate.ledger.ruling import POINTS_OF_A_BAN, Ruling
from quorate.ledger.transaction import PAYMENT_BYTES, Payment, Signatures
from quorate.parts.crypto.merkle import merkle_root
from quorate.parts.crypto.zip215 import VerifySignature, verify_zip215


class _Kept:
    __slots__ = ("changes", "height", "state", "supply")

    def __init__(self, height: int, state: AccountTree, supply: int, changes: Sequence[AccountChange]) -> None:
        self.height = height
        self.state = state
        self.supply = supply
        self.changes = changes


class _Touched:
    """The accounts that a block has looked at, each once: as they were before it, and those that it changed."""

    __slots__ = ("_before", "_state", "after")

    def __init__(self, state: AccountTree) -> None:
        self._state = state
        self._before: dict[bytes, Account | None] = {}
        self.after: dict[bytes, Account] = {}

    def at(self, address: bytes) -> Account:
        """As it is at this point of the block."""
        found = self.after.get(address)
        if found is None:
            found = self._before[address] = self._state.get(address)
        return found or NO_ACCOUNT

    def changes(self) -> tuple[AccountChange, ...]:
        """One for each account that was changed."""
        before = self._before
        return tuple([AccountChange(address, before[address], after) for address, after in self.after.items()])


class NativeEngine:
    """Implements ``LedgerEngine``."""

    def __init__(self, genesis: Genesis, verify: VerifySignature = verify_zip215) -> None:
        """At block 0."""
        self.genesis = genesis
        self.signatures = Signatures(genesis.id, verify)
        self.head = genesis.id
        self._kept = {genesis.id: _Kept(0, genesis.state, genesis.supply, ())}

    def begin_at(self, id: bytes, height: int, state: AccountTree) -> None:
        """Know this block alone, which is the head: a store or a snapshot has it."""
        self._kept = {id: _Kept(height, state, sum(account.balance for _, account in state), ())}
        self.head = id

    def __contains__(self, id: bytes) -> bool:
        return id in self._kept

    def decode(self, raw: bytes) -> Payment | Ruling:
        """As the port says."""
        return self.signatures.decode(raw)

    def execute(
        self, parent: bytes, env: BlockEnv, transactions: Iterable[Payment], *, strict: bool
    ) -> ExecutedBlock[Payment] | Ruling:
        """As the port says."""
        base = self._kept[parent]
        assert env.height == base.height + 1, (env.height, base.height)
        touched = _Touched(base.state)
        included: list[Payment] = []
        skipped: list[tuple[Payment, str]] = []
        for payment in transactions:
            why = self._apply(payment, touched)
            if not why:
                included.append(payment)
            elif strict:
                return _bad(f"payment {payment.id.hex()} does not apply: {why}")
            else:
                skipped.append((payment, why))
        return self._executed(base, env, touched, included, skipped)

    def _apply(self, payment: Payment, touched: _Touched) -> str:
        """Why it does not apply; empty: it is done."""
        sender = touched.at(payment.sender)
        if payment.nonce != sender.nonce:
            return f"its nonce is {payment.nonce}, and the sender's next is {sender.nonce}"
        if payment.fee < self.genesis.fee_min:
            return f"its fee is {payment.fee}, at least {self.genesis.fee_min} is asked for"
        if payment.cost > sender.balance:
            return f"it costs {payment.cost}, and the sender has {sender.balance}"
        touched.after[payment.sender] = Account(sender.nonce + 1, sender.balance - payment.cost)
        to = touched.at(payment.to)
        touched.after[payment.to] = Account(to.nonce, to.balance + payment.amount)
        return ""

    def _executed(
        self,
        base: _Kept,
        env: BlockEnv,
        touched: _Touched,
        included: list[Payment],
        skipped: list[tuple[Payment, str]],
    ) -> ExecutedBlock[Payment]:
        subsidy = min(self.genesis.subsidy, SUPPLY_MAX - base.supply)
        earned = subsidy + sum([payment.fee for payment in included])
        if earned:
            before = touched.at(env.proposer)
            touched.after[env.proposer] = Account(before.nonce, before.balance + earned)
        changes = touched.changes()
        state = base.state.changed(changes)
        receipts = tuple([PaymentReceipt(payment.id, 1, payment.fee) for payment in included])
        payload = PayloadHeader(
            env.height,
            env.proposer,
            merkle_root([payment.raw for payment in included]),
            state.root,
            merkle_root([receipt.encode() for receipt in receipts]),
        )
        return ExecutedBlock(payload, tuple(included), receipts, changes, state, base.supply + subsidy, tuple(skipped))

    def build(
        self, parent: bytes, env: BlockEnv, candidates: Iterable[Payment], bytes_max: int
    ) -> ExecutedBlock[Payment]:
        """As the port says."""
        fitting = islice(candidates, bytes_max // PAYMENT_BYTES)
        executed = self.execute(parent, env, fitting, strict=False)
        assert isinstance(executed, ExecutedBlock)  # only a strict one is refused
        return executed

    def judge(self, block: LedgerBlock, env: BlockEnv) -> ExecutedBlock[Payment] | Ruling:
        """As the port says."""
        if block.payload.hash != block.header.payload or merkle_root(block.transactions) != block.payload.transactions:
            # Another body may fit: the sender of this one is wrong, and the header need not be.
            return Ruling("bad", "its body is not the one that its header names", POINTS_OF_A_BAN)
        parent = block.header.parent
        if block.payload.height != self._kept[parent].height + 1 or block.payload.height != env.height:
            return _bad("its height is not one more than its parent's")
        payments = []
        for raw in block.transactions:
            payment = self.decode(raw)
            if isinstance(payment, Ruling):
                return payment
            payments.append(payment)
        executed = self.execute(parent, env, payments, strict=True)
        if isinstance(executed, Ruling):
            return executed
        if executed.payload != block.payload:
            what = _difference(executed.payload, block.payload)
            return _bad(f"its payload header has another {what} than execution finds")
        self.keep(block.id, parent, executed)
        return executed

    def keep(self, id: bytes, parent: bytes, executed: ExecutedBlock[Payment]) -> None:
        """As the port says."""
        assert executed.payload.height == self._kept[parent].height + 1
        self._kept[id] = _Kept(executed.payload.height, executed.state, executed.supply, executed.changes)

    def at(self, id: bytes) -> AccountTree:
        """As the port says."""
        return self._kept[id].state

    def supply(self, id: bytes) -> int:
        """Units that there are after this block."""
        return self._kept[id].supply

    def adopt(self, id: bytes) -> None:
        """As the port says."""
        assert id in self._kept
        self.head = id

    def diffs(self, ids: Iterable[bytes]) -> list[Sequence[AccountChange]]:
        """As the port says."""
        return [self._kept[id].changes for id in ids]

    def forget(self, ids: Iterable[bytes]) -> None:
        """As the port says."""
        for id in ids:
            if id != self.head:
                self._kept.pop(id, None)


def undone(state: AccountTree, changes: Iterable[AccountChange]) -> AccountTree:
    """The state before a block with these changes; a key that the block made is not there then."""
    return state.changed(change.undone for change in changes)


def _bad(why: str) -> Ruling:
    return Ruling("bad", why, POINTS_OF_A_BAN, poisons=True)


def _difference(found: PayloadHeader, said: PayloadHeader) -> str:
    pairs = zip(found.__struct_fields__, msgspec.structs.astuple(found), msgspec.structs.astuple(said), strict=True)
    return next(name for name, one, other in pairs if one != other)
