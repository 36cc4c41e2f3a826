"""A random life of a BlockTree, each step of which is compared with what a plain reading of the rules gives."""

from collections.abc import Callable
from copy import deepcopy

from quorate.ledger.forkchoice.chains import LongestChain, MostWork
from quorate.ledger.forkchoice.ghost import Ghost
from quorate.ledger.header import LedgerHeader
from quorate.ledger.tree import BlockStatus, BlockTree, TreeBase, TreeEntry
from quorate.ledger.tree_faults import tree_faults

from tests.ledger.blocks import GENESIS, body, header

Choose = Callable[[int], int]
"""A number from 0 on, below what is given."""


class Walk:
    """One life. ``step`` raises AssertionError for the first thing that is not as it must be."""

    def __init__(self, choose: Choose, make: type[BlockTree] = BlockTree) -> None:
        self.choose = choose
        self.tree = make(TreeBase(GENESIS), below_max=4)
        self.headers: dict[bytes, LedgerHeader] = {GENESIS.id: GENESIS}
        self.recorded: list[bytes] = []
        self.nonce = 0

    def step(self) -> None:
        acts = [self.add, self.add, self.add, self.attach, self.attach, self.execute, self.execute, self.rebase]
        acts[self.choose(len(acts))]()
        assert tree_faults(self.tree) == []
        self.compare()

    def some(self, ids: list[bytes]) -> bytes | None:
        return ids[self.choose(len(ids))] if ids else None

    # --- what may happen ---

    def add(self) -> None:
        tree, parent = self.tree, self.some(list(self.headers))
        assert parent is not None
        self.nonce += 1
        new = header(parent, self.nonce)
        self.headers[new.id] = new
        weight = 1 + self.choose(3)
        ruling = tree.add(new, weight)
        if parent not in tree:
            assert ruling.kind == "orphan"
            assert new.id not in tree
        elif tree[parent].status is BlockStatus.INVALID:
            assert ruling.kind == "bad"
            assert ruling.poisons
        else:
            assert ruling.is_ok
            assert tree[new.id].weight == tree[parent].weight + weight
            assert tree.add(new, 7).is_ok  # twice changes nothing
            assert tree[new.id].own_weight == weight

    def attach(self) -> None:
        tree = self.tree
        id = self.some([each for each in tree.entries if tree[each].block is None and each != tree.base])
        if id is None:
            return
        before = {each: tree[each].is_whole for each in tree.entries}
        became = [block.id for block in tree.attach(id, body(tree[id].header))]
        assert sorted(became) == sorted(each for each in tree.entries if tree[each].is_whole and not before[each])
        for each in became:
            parent = tree[each].parent
            assert parent == tree.base or parent in self.recorded, "a child was recorded before its parent"
            self.recorded.append(each)
        assert tree.attach(id, body(tree[id].header)) == []

    def execute(self) -> None:
        tree = self.tree
        tip = self.some(list(tree.tips))
        assert tip is not None
        entry = tree.next_to_execute(tip)
        if entry is None:
            assert tree[tip].status is BlockStatus.VALID
            return
        assert entry.status is BlockStatus.WHOLE
        assert tree[entry.parent].status is BlockStatus.VALID
        assert tree.is_ancestor(entry.id, tip)
        if self.choose(4):
            tree.approve(entry.id)
        else:
            below = [each for each in tree.entries if entry.id in self.line(each)]
            assert sorted(tree.condemn(entry.id)) == sorted(below)
            assert tree.condemn(entry.id) == []
            assert tree.add(entry.header, 1).poisons

    def rebase(self) -> None:
        tree = self.tree
        id = self.some([each for each in tree.entries if tree[each].status is BlockStatus.VALID])
        if id is None or self.choose(3):
            return
        kept = [each for each in tree.entries if id in self.line(each)]
        before = list(tree.headers_up(id))
        forgotten = tree.rebase(id)
        assert sorted(tree.entries) == sorted(kept)
        assert not set(forgotten) & set(kept)
        assert list(tree.headers_up(id)) == before[:5]

    # --- what must hold ---

    def line(self, id: bytes) -> list[bytes]:
        """From a block to the base."""
        line = [id]
        while line[-1] != self.tree.base:
            line.append(self.tree[line[-1]].parent)
        return line

    def compare(self) -> None:
        tree = self.tree
        assert [entry.id for entry in tree.arrived()] == [id for id in self.recorded if id in tree and id != tree.base]
        a, b = self.some(list(tree.entries)), self.some(list(tree.entries))
        assert a is not None
        assert b is not None
        fork, undo, do = tree.path(a, b)
        line_a, line_b = self.line(a), self.line(b)
        common = next(each for each in line_a if each in line_b)
        assert fork == common
        assert undo == line_a[: line_a.index(common)]
        assert do == line_b[: line_b.index(common)][::-1]
        locator = tree.locator(a)
        assert locator[0] == a
        assert locator[-1] == tree.base
        after = tree.after(b, locator)
        named = next(each for each in line_b if each in locator)
        assert after == line_b[: line_b.index(named)][::-1]
        assert tree.after(b, [bytes(32)]) is None
        self.compare_choices()

    def compare_choices(self) -> None:
        tree = self.tree
        whole = [entry for entry in tree.entries.values() if entry.is_whole]
        valid = [entry for entry in whole if entry.status is BlockStatus.VALID]
        for entries, of_what in ((whole, "best"), (valid, "best_valid")):
            longest = sorted(entries, key=lambda e: (-e.height, e.order))[0]
            heaviest = sorted(entries, key=lambda e: (-e.weight, e.order))[0]
            assert getattr(LongestChain(), of_what)(tree) == longest.id
            assert getattr(MostWork(), of_what)(tree) == heaviest.id
            assert getattr(Ghost(), of_what)(tree) == self.greedy(tree[tree.base], entries)
            floor = valid[self.choose(len(valid))]
            above = [entry for entry in entries if floor.id in self.line(entry.id)]
            heaviest = sorted(above, key=lambda e: (-e.weight, e.order))[0]
            assert getattr(MostWork(), of_what)(tree, floor.id) == heaviest.id
            assert getattr(Ghost(), of_what)(tree, floor.id) == self.greedy(floor, entries)

    def greedy(self, entry: TreeEntry, among: list[TreeEntry]) -> bytes:
        """Algorithm 1 of the paper, word by word."""

        def weight(of: TreeEntry) -> int:
            whole = [each for each in self.tree.entries.values() if each.is_whole]
            return sum(each.own_weight for each in whole if of.id in self.line(each.id))

        children = [each for each in among if each.parent == entry.id and each.id != self.tree.base]
        if not children:
            return entry.id
        return self.greedy(sorted(children, key=lambda e: (-weight(e), e.order))[0], among)


def copied(tree: BlockTree) -> BlockTree:
    """As a fork of a Host copies it."""
    return deepcopy(tree)
