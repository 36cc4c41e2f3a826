"""The block tree and its fork choices against a plain reading of their rules; planted bugs show."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.ledger.forkchoice.chains import LongestChain, MostWork
from quorate.ledger.forkchoice.ghost import Ghost
from quorate.ledger.tree import BlockStatus, BlockTree, TreeBase, tree_base
from quorate.ledger.tree_faults import tree_faults

from tests.ledger.blocks import GENESIS, body, chain, header
from tests.ledger.tree_walk import Walk, copied

STEPS = 40


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_a_tree_is_what_the_rules_say(data: st.DataObject) -> None:
    walk = Walk(lambda below: data.draw(st.integers(0, below - 1)))
    for _ in range(STEPS):
        walk.step()


def life(seed: int, make: type[BlockTree] = BlockTree) -> None:
    walk = Walk(Random(seed).randrange, make)
    for _ in range(STEPS):
        walk.step()


def test_lives() -> None:
    for seed in range(12):
        life(seed)


@pytest.mark.slow
def test_many_lives() -> None:
    for seed in range(12, 200):
        life(seed)


class ChildrenFirst(BlockTree):
    def attach(self, id: bytes, block: Any) -> Any:
        return super().attach(id, block)[::-1]


class WholeWithoutParent(BlockTree):
    def attach(self, id: bytes, block: Any) -> Any:
        entry = self.entries[id]
        if entry.block is not None:
            return super().attach(id, block)
        became = super().attach(id, block)
        if not became and entry.status is BlockStatus.HEADER:
            entry.status = BlockStatus.WHOLE
        return became


class SparesDescendants(BlockTree):
    def condemn(self, id: bytes) -> list[bytes]:
        children, self.entries[id].children = self.entries[id].children, []
        condemned = super().condemn(id)
        self.entries[id].children = children
        return condemned


class TakesChildrenOfInvalid(BlockTree):
    def add(self, header: Any, own_weight: int, id: bytes | None = None) -> Any:
        parent = self.entries.get(header.parent)
        if parent is None or parent.status is not BlockStatus.INVALID:
            return super().add(header, own_weight, id)
        parent.status = BlockStatus.HEADER
        ruling = super().add(header, own_weight, id)
        parent.status = BlockStatus.INVALID
        return ruling


class ForgetsTheTip(BlockTree):
    def condemn(self, id: bytes) -> list[bytes]:
        condemned = super().condemn(id)
        self._tips.pop(self.entries[id].parent, None)
        self._tips.setdefault(self.base)
        return condemned


class KeepsSideBranches(BlockTree):
    def rebase(self, id: bytes) -> list[bytes]:
        before = dict(self.entries)
        forgotten = super().rebase(id)
        for each in forgotten[-1:]:
            self.entries[each] = before[each]
        return forgotten[:-1]


class SumsNothing(BlockTree):
    def add(self, header: Any, own_weight: int, id: bytes | None = None) -> Any:
        is_new = header.id not in self.entries
        ruling = super().add(header, own_weight, id)
        if ruling.is_ok and is_new:
            self.entries[header.id].weight = own_weight
        return ruling


class UndoesOldestFirst(BlockTree):
    def path(self, a: bytes, b: bytes) -> Any:
        fork, undo, do = super().path(a, b)
        return fork, undo[::-1], do


class ExecutesTheTipFirst(BlockTree):
    def next_to_execute(self, tip: bytes) -> Any:
        return self.entries[tip] if super().next_to_execute(tip) else None


class LocatesNoBase(BlockTree):
    def locator(self, tip: bytes) -> tuple[bytes, ...]:
        found = super().locator(tip)
        return found[:-1] or found


class RevivesInvalid(BlockTree):
    def attach(self, id: bytes, block: Any) -> Any:
        entry = self.entries[id]
        if entry.status is BlockStatus.INVALID:
            entry.status = BlockStatus.HEADER
        return super().attach(id, block)


MUTANTS = [
    ChildrenFirst,
    WholeWithoutParent,
    SparesDescendants,
    TakesChildrenOfInvalid,
    ForgetsTheTip,
    KeepsSideBranches,
    SumsNothing,
    UndoesOldestFirst,
    ExecutesTheTipFirst,
    LocatesNoBase,
    RevivesInvalid,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_bug_shows(mutant: type[BlockTree]) -> None:
    for seed in range(20):
        try:
            life(seed, mutant)
        except (AssertionError, KeyError, StopIteration):
            return
    pytest.fail(f"{mutant.__name__} survived")


@pytest.mark.parametrize("choice", [LongestChain(), MostWork()])
def test_a_tie_is_for_what_was_whole_first(choice: LongestChain | MostWork) -> None:
    tree = BlockTree(TreeBase(GENESIS))
    twins = [header(GENESIS, nonce) for nonce in range(8)]
    for twin in twins:
        tree.add(twin, 1)
    for twin in (twins[5], twins[1], twins[7]):
        tree.attach(twin.id, body(twin))
    assert choice.best(tree) == Ghost().best(tree) == twins[5].id
    assert choice.best_valid(tree) == GENESIS.id
    for twin in (twins[7], twins[5]):
        tree.approve(twin.id)
    assert choice.best_valid(tree) == Ghost().best_valid(tree) == twins[5].id
    first, second = tree[twins[5].id], tree[twins[7].id]
    assert choice.prefers(first, second)
    assert not choice.prefers(second, first)
    assert not choice.prefers(first, first)


def test_the_choices_differ() -> None:
    """Four blocks in a row, three of twice the weight, and a bush of four that share a parent."""
    tree = BlockTree(TreeBase(GENESIS))
    long, heavy = chain(GENESIS, 4, 10), chain(GENESIS, 3, 20)
    stem = header(GENESIS, 30)
    bush = [header(stem, nonce) for nonce in range(31, 37)]
    for headers, weight in ((long, 1), (heavy, 2), ([stem, *bush], 1)):
        for each in headers:
            assert tree.add(each, weight).is_ok
            tree.attach(each.id, body(each))
    assert LongestChain().best(tree) == long[-1].id
    assert MostWork().best(tree) == heavy[-1].id
    assert Ghost().best(tree) == bush[0].id
    tree.approve(stem.id)
    tree.condemn(bush[0].id)  # what is invalid counts for nothing: six against six, and the others were first
    assert Ghost().best(tree) == heavy[-1].id
    assert Ghost().best_valid(tree) == stem.id


def test_a_long_chain_is_copied_and_located() -> None:
    tree = BlockTree(TreeBase(GENESIS))
    headers = chain(GENESIS, 3000)
    for each in headers:
        tree.add(each, 1)
        tree.attach(each.id, body(each))
    other = copied(tree)  # with links between objects this would recurse too deep
    other.add(header(headers[-1], 0), 1)
    assert len(tree) == 3001
    assert len(other) == 3002
    locator = tree.locator(headers[-1].id)
    assert len(locator) < 32
    assert locator[:10] == tuple(each.id for each in headers[:-11:-1])
    heights = [tree[id].height for id in locator]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] == 0


def test_a_full_tree_takes_no_more() -> None:
    tree = BlockTree(TreeBase(GENESIS), entries_max=3)
    one, two, three = chain(GENESIS, 3)
    assert tree.add(one, 1).is_ok
    assert tree.add(two, 1).is_ok
    assert tree.add(three, 1).kind == "later"
    assert three.id not in tree
    assert tree_faults(tree) == []


def test_another_tree_begins_where_one_does() -> None:
    tree = BlockTree(TreeBase(GENESIS), below_max=3)
    headers = chain(GENESIS, 9)
    for each in headers:
        tree.add(each, 2**70)
        tree.attach(each.id, body(each))
        tree.approve(each.id)
    line = [GENESIS, *headers]
    for height in (1, 3, 8):
        tree.rebase(headers[height - 1].id)
        assert tree.below == line[max(0, height - 3) : height]
        assert list(tree.headers_up(headers[8].id)) == line[max(0, height - 3) :][::-1]
    base = tree.as_base()
    assert base == tree_base(headers[7], 8, 8 * 2**70, headers[4:7])
    other = BlockTree(base, below_max=3)
    assert other.add(headers[8], 5).is_ok
    entry = other[headers[8].id]
    assert (entry.height, entry.weight) == (9, 8 * 2**70 + 5)
    assert list(other.headers_up(headers[8].id)) == list(tree.headers_up(headers[8].id))


def test_the_base_is_never_condemned_and_nothing_is_approved_out_of_turn() -> None:
    tree = BlockTree(TreeBase(GENESIS))
    one, two = chain(GENESIS, 2)
    tree.add(one, 1)
    tree.add(two, 1)
    with pytest.raises(AssertionError, match="the base"):
        tree.condemn(GENESIS.id)
    with pytest.raises(AssertionError, match="HEADER"):
        tree.approve(one.id)
    tree.attach(two.id, body(two))
    tree.attach(one.id, body(one))
    with pytest.raises(AssertionError, match="parent"):
        tree.approve(two.id)
    with pytest.raises(AssertionError, match="a base is valid"):
        tree.rebase(one.id)
