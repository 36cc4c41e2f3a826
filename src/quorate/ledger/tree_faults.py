"""What always holds of a BlockTree, looked at from outside and without its shortcuts: for checkers and tests."""

from __future__ import annotations

from collections.abc import Iterator

from quorate.ledger.tree import BlockStatus, BlockTree, TreeEntry


def tree_faults(tree: BlockTree) -> list[str]:
    """What does not hold, for a person; empty if all does."""
    return [*_base_faults(tree), *(fault for id in tree.entries for fault in _faults(tree, id)), *_tip_faults(tree)]


def _base_faults(tree: BlockTree) -> Iterator[str]:
    base = tree.entries.get(tree.base)
    if base is None or base.status is not BlockStatus.VALID:
        yield "the base is not a valid block of the tree"
    if len(tree.entries) > tree.entries_max:
        yield f"{len(tree.entries)} entries, at most {tree.entries_max}"
    orders = [entry.order for entry in tree.entries.values() if entry.order]
    if len(orders) != len(set(orders)):
        yield "two blocks became whole at once"


def _faults(tree: BlockTree, id: bytes) -> Iterator[str]:
    entry, name = tree.entries[id], id.hex()[:8]
    if entry.id != id or entry.header.id != id:
        yield f"{name} is filed under another id"
    if any(child not in tree.entries or tree.entries[child].parent != id for child in entry.children):
        yield f"{name} has a child that is not its child"
    if id == tree.base:
        return
    parent = tree.entries.get(entry.parent)
    if parent is None:
        yield f"{name} has no parent"
        return
    if entry.children.count(id) or parent.children.count(id) != 1:
        yield f"{name} is not once a child of its parent"
    if entry.height != parent.height + 1 or entry.weight != parent.weight + entry.own_weight:
        yield f"{name} does not follow from its parent's height and weight"
    yield from _status_faults(entry, parent, name)


def _status_faults(entry: TreeEntry, parent: TreeEntry, name: str) -> Iterator[str]:
    if parent.status is BlockStatus.INVALID and entry.status is not BlockStatus.INVALID:
        yield f"{name} is {entry.status.name} and descends from an invalid block"
    if entry.is_whole and (not parent.is_whole or entry.block is None):
        yield f"{name} is whole without its body or its parent"
    if entry.status is BlockStatus.VALID and parent.status is not BlockStatus.VALID:
        yield f"{name} is valid and its parent is not"
    if entry.status is BlockStatus.HEADER and entry.block is not None and parent.is_whole:
        yield f"{name} has all it needs and is not whole"
    if entry.is_whole and not entry.order > parent.order:
        yield f"{name} became whole before its parent"


def _tip_faults(tree: BlockTree) -> Iterator[str]:
    entries = tree.entries
    ends = {
        entry.id
        for entry in entries.values()
        if entry.is_whole and not any(entries[child].is_whole for child in entry.children if child in entries)
    }
    if ends != set(tree.tips):
        yield f"the tips are {[tip.hex()[:8] for tip in tree.tips]}, the ends {[end.hex()[:8] for end in sorted(ends)]}"
