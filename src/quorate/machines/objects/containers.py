"""Lists, dicts and sets of a replicated state that tell of every change before they make it.

They are subclasses, so `==`, `isinstance`, iteration and `json.dumps` treat them as the plain ones; copies, slices and
what operators give are plain. Each change is noted as ``(container, slot, old)`` with the `Tracking` that all
containers of one state share; ``undo`` takes one back. Slots are keys of dicts, elements of sets, and for lists
absolute indexes: index 0 is slot ``base``, so what is appended or taken from either end moves nothing. What moves the
middle of a list, and ``clear``, notes the whole content as the slot WHOLE, at a cost that grows with the container.

A dict knows which key stands in it where equal ones of other types exist (1, True and 1.0; a str and a member of a str
Enum): ``only`` is the type of all its keys where those can be told by type, otherwise ``stored`` has them.
An entry that was deleted and comes back by undo is the last in the order of iteration, on every node the same.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, SupportsIndex

from quorate.machines.objects.ordered_set import OrderedSet, in_order


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


class _Whole:
    def __repr__(self) -> str:
        return "everything"


ABSENT: Final = _Absent()
"""What was, or is, at a slot where there is nothing."""
WHOLE: Final = _Whole()
"""The slot that stands for all of a container."""
QUICK: Final = frozenset({type(None), bool, int, bytes})
"""Types of values of which all may be state."""
LEAVES: Final = QUICK | {float, str}
"""Types of values that no container owns, for a quick look."""
SURE: Final = frozenset({str, bytes, int, bool, type(None), uuid.UUID, datetime.date, datetime.timedelta})
"""Types whose values are the same if they are equal."""
ALL: Final = slice(None)

_get = dict.get
_put = dict.__setitem__
_drop = dict.__delitem__


class Tracking(Protocol):
    """What the containers of one state share."""

    note: Callable[[tuple[Any, Any, Any]], None]
    handed: list[Any]

    def adopt(self, value: Any, owner: Any, slot: Any) -> Any:
        """What is put at that slot for a value; raises TypeError for what cannot be state."""

    def release(self, value: Any) -> None:
        """The value is taken from its slot."""

    def check_key(self, key: Any) -> None:
        """Raises TypeError for what cannot be a key or an element."""

    def place(self, value: Any, owner: Any, slot: Any) -> None:
        """A value of the state is at another slot of its owner."""


class TrackedDict(dict[Any, Any]):
    """A dict of the state."""

    __slots__ = ("count", "ctx", "digest", "dirty", "only", "owner", "slot", "stored", "total")
    ctx: Tracking
    only: type[Any] | None
    stored: dict[Any, Any] | None

    # --- what a tracker asks ---

    def at(self, slot: Any) -> Any:
        """The value at a slot, or ABSENT."""
        return _get(self, slot, ABSENT)

    def plain(self) -> dict[Any, Any]:
        """A shallow copy."""
        return dict.copy(self)

    def undo(self, slot: Any, old: Any) -> None:
        """Take back a change."""
        if slot is WHOLE:
            dict.clear(self)
            dict.update(self, old)
            self.only, self.stored = None, {key: key for key in old}
        elif old is ABSENT:
            _drop(self, slot)
            if self.stored is not None:
                del self.stored[slot]
        else:
            self.fill(slot, old)

    def fill(self, key: Any, value: Any) -> None:
        """Set an entry without a note: to undo, and to load."""
        if type(key) is not self.only:
            key = self.settle(key)
        _put(self, key, value)
        if self.stored is not None:
            self.stored[key] = key

    def settle(self, key: Any) -> Any:
        """The key that stands in the dict for this one."""
        if self.stored is None:
            kind = type(key)
            if self.only is None and kind in SURE and not len(self):
                self.only = kind
                return key
            # Also if it is empty again: since the last digest there may have been equal keys of the other type.
            self.only, self.stored = None, {stored: stored for stored in self}
        return self.stored.get(key, key)

    def swap(self, slot: Any, value: Any) -> None:
        """Put an equal value into a slot, without a note."""
        _put(self, slot, value)

    # --- changes ---

    def __setitem__(self, key: Any, value: Any) -> None:
        ctx = self.ctx
        old = _get(self, key, ABSENT)
        if old is ABSENT and (type(key) is not str or not key.isascii()):
            ctx.check_key(key)
        if type(key) is not self.only:
            key = self.settle(key)
        if type(value) not in QUICK:
            value = ctx.adopt(value, self, key)
        ctx.note((self, key, old))
        if type(old) not in LEAVES and old is not ABSENT:
            ctx.release(old)
        _put(self, key, value)
        if self.stored is not None:
            self.stored[key] = key

    def __delitem__(self, key: Any) -> None:
        self._take(key)

    def _take(self, key: Any) -> Any:
        old = dict.__getitem__(self, key)  # raises KeyError
        if type(key) is not self.only:
            key = self.settle(key)
        self.ctx.note((self, key, old))
        if type(old) not in LEAVES:
            self.ctx.release(old)
        _drop(self, key)
        if self.stored is not None:
            del self.stored[key]
        return old

    def pop(self, key: Any, *default: Any) -> Any:
        """As dict.pop."""
        if default and key not in self:
            return dict.pop(self, key, *default)
        return self._take(key)

    def popitem(self) -> tuple[Any, Any]:
        """The entry that was added last."""
        for key in reversed(self):
            return key, self._take(key)
        raise KeyError("popitem(): dictionary is empty")

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """As dict.setdefault; what is returned is part of the state."""
        if key not in self:
            self[key] = default
        return dict.__getitem__(self, key)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As dict.update."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def clear(self) -> None:
        """As dict.clear."""
        self.ctx.note((self, WHOLE, self.plain()))
        for value in dict.values(self):
            if type(value) not in LEAVES:
                self.ctx.release(value)
        dict.clear(self)
        self.only, self.stored = None, None

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return dict, (dict(self),)


class TrackedList(list[Any]):
    """A list of the state."""

    __slots__ = ("base", "count", "ctx", "digest", "dirty", "owner", "slot", "total")
    ctx: Tracking

    # --- what a tracker asks ---

    def at(self, slot: Any) -> Any:
        """The value at a slot, or ABSENT."""
        index = slot - self.base
        return list.__getitem__(self, index) if 0 <= index < len(self) else ABSENT

    def plain(self) -> list[Any]:
        """A shallow copy."""
        return list.__getitem__(self, ALL)

    def undo(self, slot: Any, old: Any) -> None:
        """Take back a change."""
        if slot is WHOLE:
            items, self.base = old
            list.__setitem__(self, ALL, items)
            return
        index, size = slot - self.base, len(self)
        if old is not ABSENT:
            self.fill(index, old)
        elif index == size - 1:
            list.pop(self)
        else:
            list.pop(self, 0)
            self.base += 1

    def fill(self, index: int, value: Any) -> None:
        """Set an item without a note; one beyond either end is added there."""
        if index == len(self):
            list.append(self, value)
        elif index < 0:
            list.insert(self, 0, value)
            self.base -= 1
        else:
            list.__setitem__(self, index, value)

    def swap(self, slot: Any, value: Any) -> None:
        """Put an equal value into a slot, without a note."""
        list.__setitem__(self, slot - self.base, value)

    # --- changes at the ends and in place ---

    def append(self, value: Any) -> None:
        """As list.append."""
        ctx = self.ctx
        slot = self.base + len(self)
        if type(value) not in QUICK:
            value = ctx.adopt(value, self, slot)
        ctx.note((self, slot, ABSENT))
        list.append(self, value)

    def extend(self, values: Iterable[Any]) -> None:
        """As list.extend."""
        for value in in_order(values):
            self.append(value)

    def __iadd__(self, values: Iterable[Any]) -> Any:  # type: ignore[misc]
        self.extend(values)
        return self

    def pop(self, index: SupportsIndex = -1) -> Any:
        """As list.pop. At either end it costs the same for every length."""
        old = list.__getitem__(self, index)  # raises IndexError
        self._remove_at(index.__index__(), old)
        return old

    def _remove_at(self, index: int, old: Any) -> None:
        size = len(self)
        if index < 0:
            index += size
        if index == size - 1:
            self.ctx.note((self, self.base + index, old))
            list.pop(self)
        elif index == 0:
            self.ctx.note((self, self.base, old))
            list.pop(self, 0)
            self.base += 1
        else:
            self._note_whole()
            list.pop(self, index)
            self._moved()
        if type(old) not in LEAVES:
            self.ctx.release(old)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        """As list.insert. At either end it costs the same for every length."""
        at, size = index.__index__(), len(self)
        at = max(at + size, 0) if at < 0 else at
        if at >= size:
            self.append(value)
            return
        value = self.ctx.adopt(value, self, self.base - 1)
        if at == 0:
            self.ctx.note((self, self.base - 1, ABSENT))
            list.insert(self, 0, value)
            self.base -= 1
        else:
            self._note_whole()
            list.insert(self, at, value)
            self._moved()

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(index) is slice:
            self._set_slice(index, value)
            return
        ctx = self.ctx
        old = list.__getitem__(self, index)  # raises IndexError and TypeError
        at = index.__index__()
        slot = self.base + (at if at >= 0 else at + len(self))
        if type(value) not in QUICK:
            value = ctx.adopt(value, self, slot)
        ctx.note((self, slot, old))
        if type(old) not in LEAVES:
            ctx.release(old)
        list.__setitem__(self, index, value)

    # --- changes that move others ---

    def _note_whole(self) -> None:
        self.ctx.note((self, WHOLE, (self.plain(), self.base)))

    def _moved(self) -> None:
        """Everything may be at another index: count slots from 0 again."""
        self.base = 0
        if LEAVES.issuperset(map(type, list.__iter__(self))):
            return
        for slot, value in enumerate(list.__iter__(self)):
            if type(value) not in LEAVES:
                self.ctx.place(value, self, slot)

    def _set_slice(self, index: slice, values: Iterable[Any]) -> None:
        given = list(values)
        wanted = len(range(*index.indices(len(self))))
        if index.step not in (None, 1) and len(given) != wanted:
            raise ValueError(f"attempt to assign sequence of size {len(given)} to extended slice of size {wanted}")
        adopted = [value if type(value) in QUICK else self.ctx.adopt(value, self, 0) for value in given]
        self._note_whole()
        for old in list.__getitem__(self, index):
            if type(old) not in LEAVES:
                self.ctx.release(old)
        list.__setitem__(self, index, adopted)
        self._moved()

    def __delitem__(self, index: Any) -> None:
        if type(index) is slice:
            self._set_slice(index, []) if index.step in (None, 1) else self._delete_slice(index)
        else:
            self.pop(index)

    def _delete_slice(self, index: slice) -> None:
        self._note_whole()
        for old in list.__getitem__(self, index):
            if type(old) not in LEAVES:
                self.ctx.release(old)
        list.__delitem__(self, index)
        self._moved()

    def remove(self, value: Any) -> None:
        """As list.remove."""
        self.pop(list.index(self, value))

    def clear(self) -> None:
        """As list.clear."""
        self[:] = ()

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        """As list.sort."""
        ordered = sorted(list.__iter__(self), key=key, reverse=reverse)
        self._note_whole()
        list.__setitem__(self, ALL, ordered)
        self._moved()

    def reverse(self) -> None:
        """As list.reverse."""
        self._note_whole()
        list.reverse(self)
        self._moved()

    def __imul__(self, times: SupportsIndex) -> Any:
        if times.__index__() <= 0:
            self.clear()
        else:
            self.extend(self.plain() * (times.__index__() - 1))
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return list, (list(self),)


class TrackedSet(OrderedSet):
    """A set of the state. Elements own nothing, so only the undo log and the digest care."""

    __slots__ = ("count", "ctx", "digest", "dirty", "owner", "slot", "total")
    ctx: Tracking

    # --- what a tracker asks ---

    def at(self, slot: Any) -> Any:
        """The element at a slot, which is itself, or ABSENT."""
        return self.order.get(slot, ABSENT)

    def plain(self) -> dict[Any, Any]:
        """The elements as keys, in their order."""
        return self.order.copy()

    def undo(self, slot: Any, old: Any) -> None:
        """Take back a change."""
        if slot is WHOLE:
            self.order = old
            set.clear(self)
            set.update(self, old)
        elif old is ABSENT:
            del self.order[slot]
            set.discard(self, slot)
        else:
            self.fill(slot)

    def fill(self, element: Any) -> None:
        """Add an element without a note."""
        self.order[element] = element
        set.add(self, element)

    # --- changes ---

    def add(self, element: Any) -> None:
        """As set.add."""
        if element not in self.order:
            self.ctx.check_key(element)
            self.ctx.note((self, element, ABSENT))
            self.fill(element)

    def discard(self, element: Any) -> None:
        """As set.discard."""
        stored = self.order.get(element, ABSENT)
        if stored is not ABSENT:
            self.ctx.note((self, stored, stored))
            del self.order[stored]
            set.discard(self, stored)

    def clear(self) -> None:
        """As set.clear."""
        self.ctx.note((self, WHOLE, self.order))
        self.order = {}
        set.clear(self)
