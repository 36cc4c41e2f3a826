"""The digest of each attribute of a state, kept up to date change by change.

A digest is a function of the content alone. A dict's is made of the sum of the hashes of its entries, a set's of its
elements, modulo 2**256 (additive multiset hashes: Bellare and Micciancio 1997, Clarke et al. 2003): the order of a dict
is no part of it. A list's is made of a polynomial, the sum of hash * BASE**index modulo a prime; it is kept with
absolute indexes, and divided by the power of the first one when it is read, so what comes and goes at either end costs
one term. What moves the middle of a list is hashed from scratch. A container within another counts by its digest.

Commands only note which slots they changed, and what was there first; `settle` works that off, the deepest containers
first, since a container's new digest changes its owner's. Detached containers count no more and are left alone.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from quorate.machines.objects.containers import ABSENT
from quorate.machines.objects.holding import Hold
from quorate.machines.objects.tracker import DICTS, LISTS, TRACKED, Tracker
from quorate.machines.objects.values import SCALARS, encode

DIGEST_BYTES: Final = 16
CHILD: Final = 0
"""Code of the extension that stands for a container, by its digest; no value is written so."""
SUM_MASK: Final = (1 << 256) - 1
PRIME: Final = (1 << 127) - 1
BASE: Final = int.from_bytes(hashlib.sha256(b"the base of the digests of lists").digest()[:15], "big")
_sha256 = hashlib.sha256
_Ext = msgspec.msgpack.Ext


class Digests:
    """Digests of the state that one tracker keeps."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._packer = tracker.packer
        self._before: dict[int, bytes] = {}

    def by_attribute(self) -> dict[str, bytes]:
        """The digest of each attribute, after `settle`."""
        self.settle()
        return {name: self._of_attribute(value) for name, value in sorted(self._tracker.root.values.items())}

    def _of_attribute(self, value: Any) -> bytes:
        node = self._tracker.node_of(value)
        digest: bytes = _sha256(b"leaf" + self._packer.dumps(value)).digest() if node is None else node.digest
        return digest[:DIGEST_BYTES]

    def settle(self) -> None:
        """Bring the digests of all containers up to date."""
        tracker = self._tracker
        soiled, tracker.soiled, tracker.changes = tracker.soiled, [], 0
        tracker.root.dirty.clear()
        depths: dict[int, int | None] = {}
        levels: list[list[Any]] = []
        for node in soiled:
            depth = self._depth(node, depths)
            if depth is not None:
                while len(levels) <= depth:
                    levels.append([])
                levels[depth].append(node)
        for depth in range(len(levels) - 1, 0, -1):
            for node in levels[depth]:
                if node.dirty is not None:
                    self._update(node, levels[depth - 1])
        self._before.clear()

    def _depth(self, node: Any, depths: dict[int, int | None]) -> int | None:
        """How many owners a node has, the attributes among them; None if it is not attached to them."""
        root = self._tracker.root
        path = []
        depth: int | None = 0
        while node is not root:
            if id(node) in depths:
                depth = depths[id(node)]
                break
            if node is None or node.count == 0:
                depth = None
                break
            depths[id(node)] = None  # what is its own owner is not attached
            path.append(node)
            node = node.owner
        for owner in reversed(path):
            depth = None if depth is None else depth + 1
            depths[id(owner)] = depth
        return depth

    def _update(self, node: Any, owners: list[Any]) -> None:
        before = node.digest
        if type(node) is Hold:
            node.total = 0
            node.digest = _sha256(b"object" + node.image).digest()[:DIGEST_BYTES]
        elif type(node) in LISTS:
            self._update_list(node)
        else:
            self._update_sum(node)
        node.dirty = None
        if before == node.digest:
            return
        if before is not None:
            self._before[id(node)] = before
        owner = node.owner
        if owner is not self._tracker.root and owner.total is not None:
            if owner.dirty is None:
                owner.dirty = {}
                owners.append(owner)
            owner.dirty.setdefault(node.slot, node)

    def _update_sum(self, node: Any) -> None:
        is_dict = type(node) in DICTS
        total = node.total
        if total is None:
            total = 0
            if is_dict:
                for key, value in dict.items(node):
                    total += self._entry(key, value)
            else:
                for element in node.order:
                    total += self._entry(element, None)
        else:
            for slot, old in node.dirty.items():
                new = node.at(slot)
                # What stands there now may be equal to what stood there, and of another type.
                if is_dict:
                    key = slot if node.stored is None else node.stored.get(slot, slot)
                    total -= 0 if old is ABSENT else self._entry(slot, old, is_old=True)
                    total += 0 if new is ABSENT else self._entry(key, new)
                else:
                    total -= 0 if old is ABSENT else self._entry(old, None)
                    total += 0 if new is ABSENT else self._entry(new, None)
        node.total = total = total & SUM_MASK
        node.digest = _final(b"dict" if is_dict else b"set", len(node), total)

    def _update_list(self, node: Any) -> None:
        total = node.total
        if total is None:
            total = 0
            for value in list.__reversed__(node):
                total = (total * BASE + self._item(value)) % PRIME
            total = total * pow(BASE, node.base, PRIME) % PRIME
        else:
            for slot, old in node.dirty.items():
                new = node.at(slot)
                change = 0 if new is ABSENT else self._item(new)
                if old is not ABSENT:
                    change -= self._item(old, is_old=True)
                total += change * pow(BASE, slot, PRIME)
            total %= PRIME
        node.total = total
        node.digest = _final(b"list", len(node), total * pow(BASE, -node.base, PRIME) % PRIME)

    def _entry(self, key: Any, value: Any, *, is_old: bool = False) -> int:
        """The hash of an entry of a dict, or with no value of an element of a set."""
        if type(key) in SCALARS and type(value) in SCALARS:
            try:
                return int.from_bytes(_sha256(encode((key, value))).digest(), "big")
            except OverflowError:  # an int of more than 64 bits
                pass
        data = encode((self._packer.pack(key), self._part(value, is_old)))
        return int.from_bytes(_sha256(data).digest(), "big")

    def _item(self, value: Any, *, is_old: bool = False) -> int:
        return int.from_bytes(_sha256(encode(self._part(value, is_old))).digest(), "big")

    def _part(self, value: Any, is_old: bool) -> Any:
        node = value if type(value) is Hold or type(value) in TRACKED else self._tracker.holds.get(id(value))
        if node is None:
            return self._packer.pack(value)
        digest: Any = self._before.get(id(node), node.digest) if is_old else node.digest
        return _Ext(CHILD, digest)


def _final(kind: bytes, size: int, total: int) -> bytes:
    return _sha256(kind + size.to_bytes(8, "big") + total.to_bytes(32, "big")).digest()[:DIGEST_BYTES]
