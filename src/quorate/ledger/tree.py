"""BlockTree: the blocks that a node knows, by id, and how far it has come with each of them.

How it works. A header enters under a parent that is known. Its body may come much later, and bodies come in any order:
a block is *whole* when it has its body and its parent is whole. A block that is whole may be executed, parents first,
and is *valid* or *invalid* then; what descends from an invalid block is invalid too, and is never executed.

Blocks name each other by id and hold no references to each other, so a copy of the tree needs no recursion. ``order``
is the order in which blocks became whole, which is what "first seen" means here: the core records whole blocks in this
order, so a tree that is restored from the records has the same order.

The tree forgets: ``rebase`` makes one of its valid blocks the base, and drops all that does not descend from it. It
decides nothing. Which block is the best is a fork choice's business (``forkchoice/``), what a header must be to enter
is a sealer's (``sealer/``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from quorate.ledger.block import HEIGHT_MAX, LedgerBlock
from quorate.ledger.header import LedgerHeader
from quorate.ledger.ruling import OK, POINTS_OF_A_BAN, Ruling

ENTRIES_MAX: Final = 1 << 20
"""Blocks in a tree. The base moves up long before; a flood of headers ends here."""
LOCATOR_DENSE: Final = 10
"""How many ids a locator has before its steps begin to double."""

BELOW_MAX: Final = 2016
"""Headers that are remembered below the base: as many as the rule of any sealer looks back."""
BELOW: Final = 11
"""As many as the median of times looks back."""

CONDEMNED: Final = Ruling("bad", "it is invalid, or descends from what is", POINTS_OF_A_BAN, poisons=True)
ORPHAN: Final = Ruling("orphan", "its parent is unknown")
FULL: Final = Ruling("later", "the tree has no room for more headers")


class TreeBase(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A block from which a tree can begin: the first of a chain, a checkpoint, or one that was executed here."""

    header: LedgerHeader
    height: Annotated[int, msgspec.Meta(ge=0, le=HEIGHT_MAX)] = 0
    weight: Annotated[bytes, msgspec.Meta(max_length=48)] = b""
    """Of the chain up to it and with it, big-endian: more than 64 bits."""
    below: Annotated[tuple[LedgerHeader, ...], msgspec.Meta(max_length=BELOW_MAX)] = ()
    """The headers before it, oldest first, as far as the rules for its children look back."""

    @property
    def total(self) -> int:
        """The weight as a number."""
        return int.from_bytes(self.weight, "big")


def tree_base(header: LedgerHeader, height: int, weight: int, below: Collection[LedgerHeader] = ()) -> TreeBase:
    """A base of these."""
    return TreeBase(header, height, weight.to_bytes((weight.bit_length() + 7) // 8, "big"), tuple(below))


class BlockStatus(IntEnum):
    """How far a node has come with a block."""

    HEADER = 0
    """Its body, or that of an ancestor, has not come."""
    WHOLE = 1
    VALID = 2
    """Executed, and so are all its ancestors."""
    INVALID = 3
    """For ever."""


class TreeEntry:
    """One block of a tree. The tree alone changes it."""

    __slots__ = ("block", "children", "header", "height", "id", "order", "own_weight", "parent", "status", "weight")

    def __init__(self, id: bytes, header: LedgerHeader, height: int, weight: int, own_weight: int) -> None:
        self.id = id
        self.parent = header.parent
        self.header = header
        self.height = height
        self.weight = weight
        """Of the chain that ends here, this block included."""
        self.own_weight = own_weight
        self.order = 0
        """When it became whole, among the others of the tree; 0 before that, and for the first base."""
        self.status = BlockStatus.HEADER
        self.block: LedgerBlock | None = None
        """Present from the time when the body came; the base's is with the store."""
        self.children: list[bytes] = []
        """Ids, in the order in which their headers came."""

    @property
    def is_whole(self) -> bool:
        """Whether it may be built on, as far as is known."""
        return self.status in (BlockStatus.WHOLE, BlockStatus.VALID)


class BlockTree:
    """``base`` is the id of the block that all others descend from; it is valid."""

    __slots__ = ("_orders", "_tips", "base", "below", "below_max", "entries", "entries_max")

    def __init__(self, base: TreeBase, *, entries_max: int = ENTRIES_MAX, below_max: int = BELOW) -> None:
        """A tree of one block."""
        entry = TreeEntry(base.header.id, base.header, base.height, base.total, 0)
        entry.status = BlockStatus.VALID
        self.base = entry.id
        self.below = list(base.below)
        """The headers before the base, oldest first, ``below_max`` at most."""
        self.below_max = below_max
        self.entries: dict[bytes, TreeEntry] = {entry.id: entry}
        self.entries_max = entries_max
        self._orders = 0
        self._tips: dict[bytes, None] = {entry.id: None}

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, id: bytes) -> bool:
        return id in self.entries

    def __getitem__(self, id: bytes) -> TreeEntry:
        """Raises KeyError for what is not in the tree."""
        return self.entries[id]

    @property
    def tips(self) -> tuple[bytes, ...]:
        """The whole blocks that are not invalid and that no such block follows."""
        return tuple(self._tips)

    # --- what comes ---

    def add(self, header: LedgerHeader, own_weight: int, id: bytes | None = None) -> Ruling:
        """Take a header whose seal was checked; ``id`` is its hash, where the caller has it already."""
        id = header.id if id is None else id
        known = self.entries.get(id)
        if known is not None:
            return CONDEMNED if known.status is BlockStatus.INVALID else OK
        parent = self.entries.get(header.parent)
        if parent is None:
            return ORPHAN
        if parent.status is BlockStatus.INVALID:
            return CONDEMNED  # it is not kept: its parent is, and tells the same of it the next time
        if len(self.entries) >= self.entries_max:
            return FULL
        self.entries[id] = TreeEntry(id, header, parent.height + 1, parent.weight + own_weight, own_weight)
        parent.children.append(id)
        return OK

    def attach(self, id: bytes, block: LedgerBlock) -> list[LedgerBlock]:
        """Take the body of a header of the tree; the caller has checked that they belong together.

        Returns the blocks that became whole by it, parents first. That is the order in which they are to be recorded:
        recorded as they came, a block would meet a restored tree without its parent.
        """
        entry = self.entries[id]
        if entry.block is not None or entry.status is not BlockStatus.HEADER:
            return []
        entry.block = block
        became: list[LedgerBlock] = []
        todo = [id]
        for each in todo:
            entry = self.entries[each]
            if entry.block is None or entry.status is not BlockStatus.HEADER:
                continue
            if not self.entries[entry.parent].is_whole:
                continue
            self._orders += 1
            entry.order, entry.status = self._orders, BlockStatus.WHOLE
            self._tips.pop(entry.parent, None)
            self._tips[each] = None
            became.append(entry.block)
            todo.extend(entry.children)
        return became

    def approve(self, id: bytes) -> None:
        """A whole block was executed and is right."""
        entry = self.entries[id]
        assert entry.is_whole, f"{entry.status.name} block {id.hex()} cannot become valid"
        assert id == self.base or self.entries[entry.parent].status is BlockStatus.VALID, "a parent was not executed"
        entry.status = BlockStatus.VALID

    def condemn(self, id: bytes) -> list[bytes]:
        """A block is invalid, and all that descends from it: those that were not before."""
        assert id != self.base, "the base is valid for ever"
        condemned = []
        todo = [id]
        for each in todo:
            entry = self.entries[each]
            if entry.status is not BlockStatus.INVALID:
                entry.status, entry.block = BlockStatus.INVALID, None
                self._tips.pop(each, None)
                condemned.append(each)
                todo.extend(entry.children)
        parent = self.entries[self.entries[id].parent]
        if parent.is_whole and not any(self.entries[child].is_whole for child in parent.children):
            self._tips[parent.id] = None
        return condemned

    # --- ways through it ---

    def up(self, id: bytes) -> Iterator[TreeEntry]:
        """A block and its ancestors, down to the base."""
        entry = self.entries[id]
        while entry.id != self.base:
            yield entry
            entry = self.entries[entry.parent]
        yield entry

    def headers_up(self, id: bytes) -> Iterator[LedgerHeader]:
        """The headers of a block and of what is before it, below the base too as far as that is remembered."""
        for entry in self.up(id):
            yield entry.header
        yield from reversed(self.below)

    def ancestor(self, id: bytes, height: int) -> TreeEntry:
        """The block of a height on the way from this one to the base, which must not be above."""
        for entry in self.up(id):
            if entry.height == height:
                return entry
        raise KeyError(f"no block of height {height} below {id.hex()}")

    def fronts(self) -> list[TreeEntry]:
        """The valid blocks that no valid block follows, but for those that another of them may replace: the last valid
        block on the way to each tip."""
        found: dict[bytes, TreeEntry] = {}
        for tip in self._tips:
            for entry in self.up(tip):
                if entry.status is BlockStatus.VALID:
                    found[entry.id] = entry
                    break
        return list(found.values())

    def next_to_execute(self, tip: bytes) -> TreeEntry | None:
        """The first block on the way to this whole one that was not executed; None: all were."""
        first = None
        for entry in self.up(tip):
            if entry.status is BlockStatus.VALID:
                break
            first = entry
        return first

    def path(self, a: bytes, b: bytes) -> tuple[bytes, list[bytes], list[bytes]]:
        """From one block to another: where they part, what to undo (newest first), what to do (oldest first)."""
        left, right = self.entries[a], self.entries[b]
        undo, do = [], []
        while left.id != right.id:
            if right.height >= left.height:
                do.append(right.id)
                right = self.entries[right.parent]
            else:
                undo.append(left.id)
                left = self.entries[left.parent]
        do.reverse()
        return left.id, undo, do

    def is_ancestor(self, id: bytes, of: bytes) -> bool:
        """Whether one block is another one or an ancestor of it."""
        return not self.path(id, of)[1]

    def locator(self, tip: bytes) -> tuple[bytes, ...]:
        """What tells another node how much of a chain is here: ids from the tip down, ever sparser, the base last."""
        found: list[bytes] = []
        step = skip = 1
        for entry in self.up(tip):
            skip -= 1
            if skip == 0 or entry.id == self.base:
                found.append(entry.id)
                if len(found) >= LOCATOR_DENSE:
                    step *= 2
                skip = step
        return tuple(found)

    def after(self, tip: bytes, locator: Collection[bytes]) -> list[bytes] | None:
        """Of the chain to a tip, what follows the last block that a locator names; None: it names none of them."""
        named = frozenset(locator)
        chain: list[bytes] = []
        for entry in self.up(tip):
            if entry.id in named:
                chain.reverse()
                return chain
            chain.append(entry.id)
        return None

    # --- what goes ---

    def rebase(self, id: bytes) -> list[bytes]:
        """Make a valid block the base. Returns what is forgotten: all that does not descend from it."""
        assert self.entries[id].status is BlockStatus.VALID, "a base is valid"
        if id == self.base:
            return []
        passed = [entry.header for entry in self.up(id)][:0:-1]
        kept: dict[bytes, None] = {}
        todo = [id]
        for each in todo:
            kept[each] = None
            todo.extend(self.entries[each].children)
        forgotten = [each for each in self.entries if each not in kept]
        for each in forgotten:
            del self.entries[each]
            self._tips.pop(each, None)
        self.base = id
        self.below = [*self.below, *passed][-self.below_max :]
        self.entries[id].block = None
        return forgotten

    def as_base(self) -> TreeBase:
        """From what another tree can begin where this one does."""
        base = self.entries[self.base]
        return tree_base(base.header, base.height, base.weight, self.below)

    def arrived(self) -> list[TreeEntry]:
        """The blocks that are whole, or were before they were found invalid, in that order; without the base."""
        whole = [entry for entry in self.entries.values() if entry.order and entry.id != self.base]
        return sorted(whole, key=_order)


def _order(entry: TreeEntry) -> int:
    return entry.order
