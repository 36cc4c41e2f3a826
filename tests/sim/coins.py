"""Coins: a small App under a core that owns a block tree, until the Ledger App is there. Accounts are numbers.

A transaction moves an amount from one account to another and has its sender's next number. A block pays a subsidy to
its proposer. The engine keeps for each block what it changed, so the state is undone and done again, never executed
twice. ``CoinStore`` stands for a disk: it keeps what the last flush wrote, in one piece, and outlives a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, BinaryIO, ClassVar

import msgspec
from msgspec import Meta

from quorate.kernel import ROOT, App, Path, Requester
from quorate.kernel.app import Steps
from quorate.ledger.block import LedgerBlock, PayloadHeader
from quorate.ledger.chain_jobs import (
    BlockBuilt,
    BlockExecuted,
    BlocksFetched,
    BuildBlock,
    ExecuteBlock,
    FetchBlocks,
    FlushStore,
    Stood,
    StoreFlushed,
    WhereStands,
)
from quorate.ledger.header import NO_PARENT, LedgerHeader, sha256d
from quorate.ledger.outputs import Extended, Finalised, Offered, Rewound
from quorate.ledger.ruling import OK, POINTS_OF_A_BAN, Ruling
from quorate.parts.crypto.merkle import merkle_root
from quorate.sim.clock import EPOCH_S

ACCOUNTS, FUND, SUBSIDY = 32, 1000, 50
POOL_MAX = 2000
BLOCK_COINS_MAX = 50
PROPOSER = 1 << 20
"""What is added to a node's number: the account that its blocks pay."""

Natural = Annotated[int, Meta(ge=0, lt=2**40)]


class Coin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One transaction."""

    sender: Natural
    number: Natural
    to: Natural
    amount: Natural


Holding = tuple[int, int]
"""Balance and next number."""
Diff = dict[int, tuple[Holding | None, Holding]]
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Coin).decode


def first_state() -> dict[int, Holding]:
    return dict.fromkeys(range(ACCOUNTS), (FUND, 0))


GENESIS = LedgerHeader(1, NO_PARENT, sha256d(b"coins"), EPOCH_S - 7200, 0x207FFFFF)


class Done(msgspec.Struct, frozen=True):
    """What the engine knows of a block that it executed."""

    parent: bytes
    height: int
    diff: Diff
    root: bytes
    block: LedgerBlock | None


class CoinEngine:
    """The state at ``at``. ``done`` has what was executed, by id."""

    def __init__(self) -> None:
        self.state = first_state()
        self.at = GENESIS.id
        self.done: dict[bytes, Done] = {GENESIS.id: Done(NO_PARENT, 0, {}, bytes(32), None)}

    def go(self, to: bytes) -> None:
        """Undo down to the fork, and do again from there."""
        undo, do = [], []
        a, b = self.at, to
        while a != b:
            if self.done[b].height >= self.done[a].height:
                do.append(b)
                b = self.done[b].parent
            else:
                undo.append(a)
                a = self.done[a].parent
        for id in undo:
            for account, (before, _) in self.done[id].diff.items():
                self.put(account, before)
        for id in reversed(do):
            for account, (_, after) in self.done[id].diff.items():
                self.put(account, after)
        self.at = to

    def put(self, account: int, holding: Holding | None) -> None:
        if holding is None:
            del self.state[account]
        else:
            self.state[account] = holding

    def run(self, raws: Sequence[bytes], proposer: bytes, *, strict: bool) -> tuple[Diff, list[bytes]] | str:
        """At the present state. Strict: what does not apply is an error, else it is left out."""
        diff: Diff = {}
        included = []

        def holding(account: int) -> Holding:
            return diff[account][1] if account in diff else self.state.get(account, (0, 0))

        def change(account: int, balance: int, number: int) -> None:
            before = diff[account][0] if account in diff else self.state.get(account)
            diff[account] = (before, (balance, number))

        for raw in raws:
            coin = decoded(raw)
            if coin is not None:
                balance, number = holding(coin.sender)
                if coin.number == number and 0 < coin.amount <= balance and len(included) < BLOCK_COINS_MAX:
                    change(coin.sender, balance - coin.amount, number + 1)
                    balance, number = holding(coin.to)
                    change(coin.to, balance + coin.amount, number)
                    included.append(raw)
                    continue
            if strict:
                return f"{coin} does not apply"
        account = PROPOSER + int.from_bytes(proposer, "big")
        balance, number = holding(account)
        change(account, balance + SUBSIDY, number)
        return diff, included

    def payload(self, parent: bytes, diff: Diff, included: Sequence[bytes], proposer: bytes) -> PayloadHeader:
        before = self.done[parent]
        state = sha256d(before.root + _encode(sorted((account, after) for account, (_, after) in diff.items())))
        return PayloadHeader(before.height + 1, proposer, merkle_root(included), state, bytes(32))

    def execute(self, id: bytes, block: LedgerBlock) -> str:
        """Empty if the block is right."""
        parent = block.header.parent
        self.go(parent)
        found = self.run(block.transactions, block.payload.proposer, strict=True)
        if isinstance(found, str):
            return found
        diff, included = found
        payload = self.payload(parent, diff, included, block.payload.proposer)
        if payload != block.payload:
            return "its payload is another"
        self.done[id] = Done(parent, payload.height, diff, payload.state, block)
        return ""


def decoded(raw: bytes) -> Coin | None:
    try:
        return _decode(raw)
    except msgspec.MsgspecError:
        return None


class CoinStore:
    """What a flush wrote."""

    def __init__(self) -> None:
        self.head = GENESIS.id
        self.state = first_state()
        self.done: Mapping[bytes, Done] = {}
        self.main: Sequence[bytes] = (GENESIS.id,)
        self.flushes = 0


class CoinApp(App):
    """``main`` has the ids of the main chain by height. It asserts what every core must keep to."""

    works: ClassVar[tuple[type, ...]] = (WhereStands, ExecuteBlock, BuildBlock, FlushStore, FetchBlocks)

    def __init__(self, node: int, store: CoinStore) -> None:
        self.proposer = node.to_bytes(20, "big")
        self.store = store
        self.engine = CoinEngine()
        self.engine.done.update(store.done)
        self.engine.state, self.engine.at = dict(store.state), store.head
        self.main = list(store.main)
        self.head = store.head
        self.final = 0
        """A height."""
        self.pool: dict[bytes, bytes] = {}
        self.settled: set[bytes] = {raw for id in self.main for raw in self.transactions(id)}
        self.counts = {"executed": 0, "refused": 0, "rewinds": 0, "deepest": 0}

    def transactions(self, id: bytes) -> Sequence[bytes]:
        block = self.engine.done[id].block
        return () if block is None else block.transactions

    # --- the head ---

    def output(self, value: Any, path: Path = ROOT) -> None:
        if isinstance(value, Rewound):
            self.rewind(value)
        elif isinstance(value, Extended):
            assert value.block.header.parent == self.head, "it extends what is not the head"
            assert value.id in self.engine.done, "the head moves to a block that was not executed"
            assert value.height == len(self.main), "it has another height"
            self.head = value.id
            self.main.append(value.id)
            for raw in value.block.transactions:
                assert raw not in self.settled, "a transaction is in the chain twice"
                self.settled.add(raw)
                self.pool.pop(raw, None)
        elif isinstance(value, Finalised):
            assert self.main[value.height] == value.id, "what is final is not on the main chain"
            assert value.height > self.final
            self.final = value.height
        elif isinstance(value, Offered):
            self.offer(value.transactions)

    def rewind(self, value: Rewound) -> None:
        count = len(value.ids)
        assert count > 0
        assert list(value.ids) == self.main[-count:][::-1], "it rewinds what is not the end of the chain"
        assert len(self.main) - count > self.final, "it rewinds what is final"
        self.counts["rewinds"] += 1
        self.counts["deepest"] = max(self.counts["deepest"], count)
        for id in value.ids:
            for raw in self.transactions(id):
                self.settled.remove(raw)
                self.pool[raw] = raw
        del self.main[-count:]
        self.head = value.to
        assert self.main[-1] == value.to

    # --- jobs ---

    def work(self, job: Any) -> Steps:
        yield
        if isinstance(job, WhereStands):
            return Stood(self.head)
        if isinstance(job, ExecuteBlock):
            return self.execute(job)
        if isinstance(job, BuildBlock):
            return self.build(job)
        if isinstance(job, FlushStore):
            return self.flush()
        assert isinstance(job, FetchBlocks)
        return self.fetch(job)

    def execute(self, job: ExecuteBlock) -> BlockExecuted:
        why = self.engine.execute(job.id, job.block)
        self.counts["refused" if why else "executed"] += 1
        return BlockExecuted(job.id, Ruling("bad", why, POINTS_OF_A_BAN, poisons=True) if why else OK)

    def build(self, job: BuildBlock) -> BlockBuilt:
        self.engine.go(job.parent)
        found = self.engine.run(sorted(self.pool.values(), key=_order), self.proposer, strict=False)
        assert not isinstance(found, str)
        diff, included = found
        return BlockBuilt(job.parent, self.engine.payload(job.parent, diff, included, self.proposer), tuple(included))

    def flush(self) -> StoreFlushed:
        self.engine.go(self.head)
        store = self.store
        store.head, store.state, store.done = self.head, dict(self.engine.state), dict(self.engine.done)
        store.main = tuple(self.main)
        store.flushes += 1
        return StoreFlushed(self.head)

    def fetch(self, job: FetchBlocks) -> BlocksFetched:
        done = self.engine.done
        blocks = tuple(found for id in job.ids if id in done and (found := done[id].block) is not None)
        heights = [done[id].height for id in job.locator if id in done and self.is_main(id)]
        if not heights:
            return BlocksFetched(job.peer, (), False, blocks)
        after = self.main[max(heights) + 1 :]
        headers = [found.header for id in after[: job.count] if (found := done[id].block) is not None]
        return BlocksFetched(job.peer, tuple(headers), len(after) > job.count, blocks)

    def is_main(self, id: bytes) -> bool:
        height = self.engine.done[id].height
        return height < len(self.main) and self.main[height] == id

    # --- transactions ---

    def request(self, client: Requester, request: bytes) -> None:
        self.offer((request,))

    def offer(self, raws: Sequence[bytes]) -> None:
        new = [raw for raw in raws if raw not in self.pool and raw not in self.settled and decoded(raw) is not None]
        for raw in new[: POOL_MAX - len(self.pool)]:
            self.pool[raw] = raw
        if new:
            self.port.submit(new)

    def supply(self) -> int:
        """At the head."""
        self.engine.go(self.head)
        return sum(balance for balance, _ in self.engine.state.values())

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        raise NotImplementedError("the store is the snapshot")

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        raise NotImplementedError("the store is the snapshot")


def _order(raw: bytes) -> tuple[int, int]:
    coin = _decode(raw)
    return coin.sender, coin.number


def raw_coin(sender: int, number: int, to: int, amount: int) -> bytes:
    return _encode(Coin(sender, number, to, amount))
