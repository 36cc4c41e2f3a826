"""Nakamoto: proof of work. Whoever finds a nonce makes the next block, and all follow the chain with the most work.

How it works. The core owns the tree of blocks (``ledger/tree.py``), the App owns the state. A header that a peer shows
is checked first (``ledger/sealer/``), then its body is asked for. When a block is whole the core has the App execute it
aside, parents first, on the way to the best block that it knows. The head moves to the best *executed* block alone, so
no invalid block is ever a head, is built on, or is announced. Then the App builds the next payload on the head, and the
job ``Mine`` looks for a nonce until it is found or the head moves.

Peers announce their heads, when they move and now and then. A node that lacks what is before a header asks for the
chain by a locator; headers come first, and bodies from the peers that announced them (``bodies.py``).

Durable are whole blocks, parents first, which of them were found invalid, and what is final. The records of blocks are
lazy: peers can give them again, so nothing waits for them, and an announcement leaves at once. The head is no record.
After a restart the App says where its store stands; what is before that is valid, all else is executed again. A flush
waits until all blocks before it are durable, so the store is never ahead of the journal.

The tree forgets what lies ``keep_blocks`` below the fork of head and store; the store answers for that.

Sources: Nakamoto 2008, sections 3 to 5; Bitcoin developer guide, "P2P network", for headers first. Departures: blocks
are announced once they are executed, not before; and see docs/adr/0041.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from quorate.kernel import Core, Env, Failed, Key
from quorate.kernel.standing import Standing
from quorate.ledger.block import LedgerBlock
from quorate.ledger.body_rules import body_ruling
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
from quorate.ledger.forkchoice.chains import MostWork
from quorate.ledger.forkchoice.choice import ForkChoice
from quorate.ledger.header import LedgerHeader
from quorate.ledger.orphans import OrphanHeaders
from quorate.ledger.outputs import Extended, Finalised, Offered, Rewound
from quorate.ledger.ruling import Ruling
from quorate.ledger.sealer.difficulty import FixedDifficulty
from quorate.ledger.sealer.port import Sealer
from quorate.ledger.sealer.proof_of_work import Mined, ProofOfWork
from quorate.ledger.tree import BlockStatus, BlockTree, TreeBase, TreeEntry
from quorate.protocols.nakamoto.bodies import Bodies
from quorate.protocols.nakamoto.messages import (
    BLOCKS_MAX,
    PASSED_MAX,
    Arrived,
    Based,
    Condemned,
    Flushing,
    GiveBlocks,
    Headers,
    Locate,
    NakamotoConfig,
    PassOn,
    Settled,
    WantBlocks,
)

S_NS = 10**9


class Nakamoto(Core):
    """One node. ``head`` is the block that the App is at; ``final`` the one below which it never goes."""

    messages = (Headers, Locate, WantBlocks, GiveBlocks, PassOn)
    records = (Arrived, Condemned, Based, Flushing, Settled)
    results = (Stood, BlockExecuted, BlockBuilt, StoreFlushed, BlocksFetched, Mined)
    gathers = False

    def __init__(
        self, env: Env, config: NakamotoConfig, sealer: Sealer | None = None, choice: ForkChoice | None = None
    ) -> None:
        super().__init__(env)
        self.config = config
        self.sealer: Sealer = ProofOfWork(FixedDifficulty()) if sealer is None else sealer
        self.choice: ForkChoice = MostWork() if choice is None else choice
        self.tree = self._planted(TreeBase(config.genesis))  # durable (Arrived, Condemned, Based)
        self.orphans = OrphanHeaders()
        self.bodies = Bodies(config.retry_s, config.bodies_max)
        self.is_ready = False
        """Whether the App has said where it stands."""
        self.head = self.final = self.flushed = self.tree.base
        self.executing: bytes | None = None
        self.is_flushing = False
        self.givers: dict[bytes, int] = {}
        """Of blocks that were not executed yet, who gave them."""
        self.drafts = 0
        self.draft: tuple[LedgerHeader, BlockBuilt] | None = None
        """What is being mined."""
        self.located: dict[int, float] = {}
        """When each peer was asked for its chain last, or gave some of it."""
        self.fetches = 0

    def _planted(self, base: TreeBase) -> BlockTree:
        return BlockTree(base, below_max=self.sealer.looks_back)

    # --- life ---

    def restore(self, record: Arrived | Condemned | Based | Flushing | Settled) -> None:
        tree = self.tree
        if isinstance(record, Arrived):
            header = record.block.header
            tree.add(header, self.sealer.weight(header))
            tree.attach(header.id, record.block)
        elif isinstance(record, Condemned):
            tree.add(record.header, self.sealer.weight(record.header))
            tree.condemn(record.header.id)
        elif isinstance(record, Based):
            self.tree = self._planted(record.base)
            self.head = self.final = self.flushed = self.tree.base
        elif isinstance(record, Settled):
            self.final = record.id

    def checkpoint(self) -> Iterator[Arrived | Condemned | Based | Settled]:
        tree = self.tree
        yield Based(tree.as_base())
        yield from [Arrived(entry.block) for entry in tree.arrived() if entry.block is not None]
        for entry in tree.entries.values():
            if entry.status is BlockStatus.INVALID and tree[entry.parent].status is not BlockStatus.INVALID:
                yield Condemned(entry.header)
        if self.final != tree.base:
            yield Settled(self.final)

    def start(self) -> None:
        self.env.work("stand", WhereStands())
        self._tip_later()
        self.env.set_timer("retry", self.config.retry_s)

    def standing(self) -> Standing:
        return Standing(note=f"height {self.tree[self.head].height}, {len(self.tree)} blocks in the tree")

    def on_timer(self, key: Key) -> None:
        if key == "tip":
            others = self.env.others
            if self.is_ready and others:
                self._announce(others[int(self.env.rng.random() * len(others))])
            self._tip_later()
        elif key == "build":
            self._build()
        else:
            self.env.set_timer("retry", self.config.retry_s)  # ``settle`` asks

    def _tip_later(self) -> None:
        self.env.set_timer("tip", self.config.tip_s * self.env.rng.uniform(0.5, 1.5))

    def settle(self) -> None:
        for peer, ids in self.bodies.due(self.env.now).items():
            for at in range(0, len(ids), BLOCKS_MAX):
                self.env.send(peer, WantBlocks(tuple(ids[at : at + BLOCKS_MAX])))

    # --- headers first ---

    def on_headers(self, sender: int, m: Headers) -> None:
        last = None
        for header in m.headers[: self.config.headers_max]:
            id = header.id
            ruling = self._take_header(sender, id, header)
            if ruling.kind == "orphan":
                self._locate(sender, self.tree.locator(self.head))
            if not ruling.is_ok:
                break
            last = id
        if last is None:
            return
        for entry in self.tree.up(last):  # the peer has all that is before, too, and a request may have come to nothing
            if entry.is_whole:
                break
            self._want(entry, sender)
        if m.more:
            self.located.pop(sender, None)  # it answers, and may be asked for what follows
            self._locate(sender, self.tree.locator(last))

    def _take_header(self, sender: int, id: bytes, header: LedgerHeader) -> Ruling:
        """Check a header and want its body; and then those that waited for it."""
        tree = self.tree
        if id not in tree:
            ruling = self.sealer.check(header, id, tree, self.env.wall_ns // S_NS)
            if ruling.is_ok:
                ruling = tree.add(header, self.sealer.weight(header), id)
            elif ruling.kind == "orphan":
                self.orphans.put(sender, header, id)
        else:
            ruling = tree.add(header, 0, id)  # whether it is known to be invalid
        if ruling.points:
            self.env.blame(sender, f"showed a header: {ruling.why}")
        if ruling.is_ok:
            self._want(tree[id], sender)
            for orphan in self.orphans.claim(id):
                assert isinstance(orphan.peer, int)
                self._take_header(orphan.peer, orphan.id, orphan.header)
        return ruling

    def _want(self, entry: TreeEntry, peer: int) -> None:
        if entry.block is None and entry.status is BlockStatus.HEADER:
            self.bodies.want(entry.id, peer)

    def _locate(self, peer: int, locator: tuple[bytes, ...]) -> None:
        """Ask a peer for its chain, but not all the time: what forks below the base is an orphan for ever."""
        if self.env.now >= self.located.get(peer, 0.0):
            self.located[peer] = self.env.now + self.config.retry_s
            self.env.send(peer, Locate(locator))

    def on_locate(self, sender: int, m: Locate) -> None:
        if not self.is_ready:
            return
        ids = self.tree.after(self.head, m.locator)
        if ids is None:
            self._fetch(FetchBlocks(sender, m.locator, (), self.config.headers_max))
        elif ids:
            most = self.config.headers_max
            headers = tuple([self.tree[id].header for id in ids[:most]])
            self.env.send(sender, Headers(headers, len(ids) > most))

    def _fetch(self, job: FetchBlocks) -> None:
        self.fetches += 1
        self.env.work(("fetch", self.fetches), job)

    def _announce(self, to: int | tuple[int, ...]) -> None:
        entry = self.tree[self.head]
        if entry.height:  # the first block has no work to show, and all have it
            # It promises nothing: a peer that cannot get the block from us asks another node.
            self.env.send_now(to, Headers((entry.header,)))

    # --- bodies ---

    def on_want_blocks(self, sender: int, m: WantBlocks) -> None:
        here, absent = [], []
        for id in m.ids:
            entry = self.tree.entries.get(id)
            if entry is None or id == self.tree.base:
                absent.append(id)
            elif entry.block is not None:
                here.append(entry.block)
        if here:
            self.env.send(sender, GiveBlocks(tuple(here)))
        if absent and self.is_ready:
            self._fetch(FetchBlocks(sender, (), tuple(absent), 0))

    def on_give_blocks(self, sender: int, m: GiveBlocks) -> None:
        for block in m.blocks:
            id = block.id
            if id not in self.bodies:
                continue  # not asked for, or another was faster
            ruling = body_ruling(block)
            if ruling.is_ok:
                self.givers[id] = sender
                self._take_block(id, block)
            else:
                self.bodies.refuse(id, sender)  # the header may be good: another body may come
                self.env.blame(sender, f"gave a block: {ruling.why}")

    def _take_block(self, id: bytes, block: LedgerBlock) -> None:
        """The body of a header that is in the tree."""
        self.bodies.got(id)
        for whole in self.tree.attach(id, block):
            self.env.note(Arrived(whole))
        self._advance()

    # --- execution and the head ---

    def _advance(self) -> None:
        """Move the head to the best executed block, and have the next one on the way to the best whole block executed.

        One block at a time: what is best may be another one by the time when it is done.
        """
        if not self.is_ready or self.executing is not None:
            return
        if self.tree[self.final].status is BlockStatus.VALID:  # else a restart has not come as far as that again
            best_valid = self.choice.best_valid(self.tree, self.final)
            if best_valid != self.head:
                self._move(best_valid)
        entry = self.tree.next_to_execute(self.choice.best(self.tree, self.final))
        if entry is not None:
            assert entry.block is not None
            self.executing = entry.id
            self.env.work("execute", ExecuteBlock(entry.id, entry.height, entry.block))

    def _executed(self, id: bytes, ruling: Ruling) -> None:
        self.executing = None
        giver = self.givers.pop(id, None)
        if id in self.tree and self.tree[id].is_whole:  # else it was forgotten meanwhile
            if ruling.is_ok:
                self.tree.approve(id)
            else:
                self.env.note(Condemned(self.tree[id].header))
                self.bodies.forget(self.tree.condemn(id))
                if giver is not None:
                    # Who gives a block has announced it, and nobody announces what its App did not execute.
                    self.env.blame(giver, f"announced an invalid block: {ruling.why}")
        self._advance()

    def _move(self, to: bytes) -> None:
        fork, undo, do = self.tree.path(self.head, to)
        if undo:
            self.env.deliver(Rewound(fork, tuple(undo)))
        for id in do:
            entry = self.tree[id]
            assert entry.block is not None
            self.env.deliver(Extended(id, entry.height, entry.block))
        self.head = to
        self._finalise()
        self._announce(self.env.others)
        self._flush_if_due()
        self._build()

    def _finalise(self) -> None:
        depth, height = self.config.final_depth, self.tree[self.head].height
        if depth is not None and height - depth > self.tree[self.final].height:
            entry = self.tree.ancestor(self.head, height - depth)
            self.final = entry.id
            self.env.persist(Settled(entry.id))
            self.env.deliver(Finalised(entry.id, entry.height))

    # --- the store ---

    def _flush_if_due(self) -> None:
        behind = len(self.tree.path(self.flushed, self.head)[2])
        if not self.is_flushing and behind >= self.config.flush_blocks:
            self.is_flushing = True
            self.env.persist(Flushing())  # the job waits for it, and so for every block before it
            self.env.work("flush", FlushStore())

    def _flushed(self, id: bytes) -> None:
        """Forget what is deep enough below both head and store: the store may stand on a side branch."""
        self.is_flushing = False
        self.flushed = id
        tree = self.tree
        fork = tree.path(self.head, id)[0]
        if self.config.final_depth is not None:
            fork = tree.path(fork, self.final)[0]
        height = tree[fork].height - self.config.keep_blocks
        if height > tree[tree.base].height:
            forgotten = tree.rebase(tree.ancestor(fork, height).id)
            self.bodies.forget(forgotten)
            for each in forgotten:
                self.givers.pop(each, None)
            if self.final not in tree:
                self.final = tree.base

    # --- mining ---

    def _build(self) -> None:
        """On the new head. What was built on the old one is worth nothing now."""
        self.env.cancel_work(("build", self.drafts))
        self.env.cancel_work(("mine", self.drafts))
        self.drafts += 1
        self.draft = None
        if self.config.is_miner:
            height = self.tree[self.head].height + 1
            self.env.work(("build", self.drafts), BuildBlock(self.head, height, self.env.wall_ns // S_NS))

    def _built(self, built: BlockBuilt) -> None:
        draft = self.sealer.draft(self.tree, built.parent, built.payload.hash, self.env.wall_ns // S_NS)
        self.draft = (draft, built)
        self.env.work(("mine", self.drafts), self.sealer.job(draft))

    def _mined(self, result: Any) -> None:
        assert self.draft is not None
        draft, built = self.draft
        header = self.sealer.sealed(draft, result)
        if header is not None:
            id = header.id
            if self.sealer.check(header, id, self.tree, self.env.wall_ns // S_NS).is_ok:
                if self.tree.add(header, self.sealer.weight(header), id).is_ok:
                    self._take_block(id, LedgerBlock(header, built.payload, built.transactions))
                    return
        self._build_later()  # the miner was wrong, or the clock went back

    def _build_later(self) -> None:
        """Not at once, as it may come to nothing again."""
        self.draft = None
        self.env.set_timer("build", self.config.retry_s)

    # --- transactions ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Transactions that the App found right and new: pass them on."""
        for at in range(0, len(values), PASSED_MAX):
            # They are nobody's promise: the App that has them may lose them, and a wallet sends them again.
            self.env.send_now(self.env.others, PassOn(tuple(values[at : at + PASSED_MAX])))

    def on_pass_on(self, sender: int, m: PassOn) -> None:
        if self.is_ready:
            self.env.deliver(Offered(sender, m.transactions))

    # --- what the App answers ---

    def on_done(self, key: Key, result: Any) -> None:
        if isinstance(result, Stood):
            self._stood(result.id)
        elif isinstance(result, BlockExecuted):
            self._executed(result.id, result.ruling)
        elif isinstance(result, StoreFlushed):
            self._flushed(result.id)
        elif isinstance(result, BlocksFetched):
            self._fetched(result)
        elif key == ("build", self.drafts) and isinstance(result, BlockBuilt):
            self._built(result)
        elif isinstance(result, Failed):
            self._failed(key, result.why)
        elif key == ("mine", self.drafts) and self.draft is not None:
            self._mined(result)

    def _failed(self, key: Key, why: str) -> None:
        assert key not in ("stand", "execute", "flush"), f"the App does not do its part, {key}: {why}"
        if key in (("build", self.drafts), ("mine", self.drafts)):
            self._build_later()

    def _stood(self, id: bytes) -> None:
        """What the store has is valid, and nothing else is known to be."""
        tree = self.tree
        assert id in tree, f"the store stands at {id.hex()}, of which the journal does not know"
        for entry in reversed(list(tree.up(id))):
            tree.approve(entry.id)
        self.head = self.flushed = id
        self.is_ready = True
        self._build()
        self._advance()

    def _fetched(self, fetched: BlocksFetched) -> None:
        if fetched.peer in self.env.peers:
            if fetched.headers:
                self.env.send(fetched.peer, Headers(fetched.headers, fetched.more))
            if fetched.blocks:
                self.env.send(fetched.peer, GiveBlocks(fetched.blocks))
