"""What all containers of one state share: the undo log, what is adopted, and who owns what.

In a command every change is noted here before it is made, and can be taken back in reverse. What is put into the state
is adopted: plain lists, dicts and sets as tracked copies, deep; objects under a `Hold`; leaves as they are; anything
else is refused where it is put. At the end of a command, `commit` judges what cannot be judged on the way:

- an object that was handed out and changed has changed the state;
- a container or object with two places would be two after a restore: an alias, refused (moves and swaps are none);
- a plain container that was changed after it had been adopted: the change would be lost, refused.

Places are counted when something is put and taken; ``owner`` and ``slot`` are where it was put last, and where there
was another place before, ``former`` has it for the length of the command. Outside of commands every change is refused.
"""

from __future__ import annotations

import decimal
import operator
import weakref
from collections.abc import Callable
from typing import Any

from quorate.machines.objects.capture import Capture
from quorate.machines.objects.containers import ABSENT, LEAVES, QUICK, SURE, WHOLE, TrackedDict, TrackedList, TrackedSet
from quorate.machines.objects.holding import HOLDING, Hold, HoldingDict, HoldingList
from quorate.machines.objects.kinds import EnumShape, Kinds, NamedTupleShape
from quorate.machines.objects.ordered_set import OrderedSet, in_order
from quorate.machines.objects.values import DEPTH_MAX, TOO_DEEP, Packer, Unpacker, check_text

UndoEntry = tuple[Any, Any, Any]
IMAGE = None
"""The slot of a Hold."""
DICTS = frozenset({TrackedDict, HoldingDict})
LISTS = frozenset({TrackedList, HoldingList})
TRACKED = DICTS | LISTS | {TrackedSet}
_PLAIN: dict[type, type] = {
    dict: dict,
    list: list,
    set: set,
    OrderedSet: set,
    TrackedDict: dict,
    HoldingDict: dict,
    TrackedList: list,
    HoldingList: list,
    TrackedSet: set,
}


class Attributes:
    """The root: the attributes of the instance, by name."""

    __slots__ = ("dirty", "name", "total", "values")

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self.name = name
        self.values = values
        self.dirty: dict[Any, Any] = {}
        self.total = 0

    def at(self, slot: str) -> Any:
        """The value of an attribute, or ABSENT."""
        return self.values.get(slot, ABSENT)

    def plain(self) -> dict[str, Any]:
        """A shallow copy."""
        return self.values.copy()

    def undo(self, slot: str, old: Any) -> None:
        """Take back a change."""
        if old is ABSENT:
            del self.values[slot]
        else:
            self.values[slot] = old

    def swap(self, slot: str, value: Any) -> None:
        """Put an equal value into a slot."""
        self.values[slot] = value


class Tracker:
    """The bookkeeping of one state, whose attributes are ``root``."""

    def __init__(self, kinds: Kinds, root: Attributes) -> None:
        self.kinds = kinds
        self.root = root
        self.packer = Packer(kinds, is_strict=True)
        self.unpacker = Unpacker(kinds)
        self.note: Callable[[UndoEntry], None] = self.refuse
        self.log: list[UndoEntry] | None = None
        self.reads = False
        self.handed: list[Any] = []
        self.holds: dict[int, Hold] = {}
        self.always: dict[int, Hold] = {}
        self.soiled: list[Any] = []
        self.changes = 0
        self._captures: list[weakref.ref[Capture]] = []
        self._adopted: dict[int, tuple[Any, Any, Any]] = {}
        self._former: list[tuple[Any, Any, Any]] = []
        self._fresh: list[Any] = []
        self._inner: dict[int, tuple[Any, Hold]] = {}

    # --- modes ---

    def refuse(self, change: UndoEntry) -> None:
        """The note of a change where none is allowed."""
        if self.reads:
            raise TypeError(f"a @read changes nothing, but this one changes {self.root.name}: mark it @command")
        raise TypeError(f"{self.root.name} is replicated: only its @command methods change it, called through the log")

    def begin(self) -> None:
        """A command starts."""
        log: list[UndoEntry] = []
        self.log = log
        self.note = log.append
        if self._captures:
            self._captures = [ref for ref in self._captures if (capture := ref()) is not None and not capture.is_done]
            if self._captures:
                self.note = self._note_for_captures

    def commit(self) -> None:
        """The command has succeeded. Raises TypeError if its state cannot be kept; `undo` is to follow."""
        log = self.log
        assert log is not None
        if self.handed or self.always:
            self._take_images()
        if self._former:
            self._check_aliases()
        if self._adopted:
            self._check_originals()
        for node in self._fresh:
            # Of what was refused half-way, and the command went on, some is nowhere.
            if not self._is_at(node, node.owner, node.slot):
                node.count = 0
        for node, slot, old in log:
            if node.total is None:
                continue
            if slot is WHOLE:
                node.total = None
            dirty = node.dirty
            if dirty is None:
                dirty = node.dirty = {}
                self.soiled.append(node)
            if slot not in dirty:
                dirty[slot] = old if type(old) in LEAVES else self.node_of(old) or old
        self.changes += len(log)
        if self._fresh:
            self.soiled += self._fresh
            self.changes += len(self._fresh)
        self._end()

    def undo(self) -> None:
        """Take back all changes of the command."""
        log = self.log
        assert log is not None
        for node, slot, old in reversed(log):
            if type(node) is Hold or type(node) is TrackedSet:
                node.undo(slot, old)
            elif slot is WHOLE:
                self._count_all(node, -1)
                node.undo(slot, old)
                self._count_all(node, 1)
            else:
                self._count(node.at(slot), -1)
                node.undo(slot, old)
                self._count(old, 1)
                self.place(old, node, slot)
        self._put_back()
        self._restore_images()
        self._end()

    def begin_read(self) -> None:
        """A read starts."""
        self.reads = True

    def end_read(self) -> None:
        """The read is over. Raises TypeError if it changed an object of the state; the change is taken back."""
        self.reads = False
        if self.handed or self.always:
            changed = self._restore_images()
            self.handed.clear()
            if changed is not None:
                where = self.path(changed.owner, changed.slot)
                raise TypeError(f"a @read changes nothing, but this one changes {where}: mark it @command")

    def _end(self) -> None:
        self.note, self.log = self.refuse, None
        if self.handed:
            for value in self.handed:
                hold = self.holds.get(id(value))
                if hold is not None and hold.count == 0:
                    self._drop(hold)
            self.handed.clear()
        if self._adopted:
            self._adopted.clear()
        if self._former:
            self._former.clear()
        if self._fresh:
            self._fresh = []

    # --- captures ---

    def capture(self) -> Capture:
        """The state as it is, for a writer in another thread. Containers are copied when they are first changed."""
        made = Capture(self.root.plain(), self.holds)
        self._captures.append(weakref.ref(made))
        return made

    def _note_for_captures(self, change: UndoEntry) -> None:
        node = change[0]
        if node is not self.root:
            for ref in self._captures:
                if (capture := ref()) is not None:
                    capture.save(node)
        assert self.log is not None
        self.log.append(change)

    # --- adoption ---

    def adopt(self, value: Any, owner: Any, slot: Any, levels: int = DEPTH_MAX) -> Any:
        """What is put at that slot for a value; raises TypeError for what cannot be state."""
        if self.log is None:
            self.refuse((owner, slot, None))
        kind = type(value)
        if kind in QUICK:
            return value
        if kind in TRACKED and value.ctx is self:
            self._put(value, owner, slot)
            return value
        plain = _PLAIN.get(kind)
        try:
            if plain is None:
                return value if self.is_leaf(value) else self._hold(value, owner, slot)
            if levels <= 0:
                raise TypeError(TOO_DEEP)
            known = self._adopted.get(id(value))
            if known is not None:
                self._put(known[1], owner, slot)
                return known[1]
        except TypeError as error:
            raise TypeError(f"{self.path(owner, slot)}: {error}") from None
        if plain is list:
            return self._adopt_list(value, owner, slot, levels)
        if plain is dict:
            return self._adopt_dict(value, owner, slot, levels)
        return self._adopt_set(value, owner, slot)

    def new(self, made: Any, owner: Any, slot: Any) -> None:
        """Set up a new container at a place."""
        made.ctx, made.owner, made.slot = self, owner, slot
        made.count, made.digest, made.total, made.dirty = 1, None, None, {}
        if type(made) is TrackedList:
            made.base = 0
        elif type(made) is TrackedDict:
            made.only, made.stored = None, None
        self._fresh.append(made)

    def _adopt_list(self, value: list[Any], owner: Any, slot: Any, levels: int) -> TrackedList:
        made = TrackedList()
        self.new(made, owner, slot)
        copy = list(value)
        self._adopted[id(value)] = value, made, copy
        for index, item in enumerate(copy):
            list.append(made, item if type(item) in QUICK else self.adopt(item, made, index, levels - 1))
        return made

    def _adopt_dict(self, value: dict[Any, Any], owner: Any, slot: Any, levels: int) -> TrackedDict:
        made = TrackedDict()
        self.new(made, owner, slot)
        copy = dict(value)
        self._adopted[id(value)] = value, made, copy
        for key in copy:
            if type(key) is not str or not key.isascii():
                self._check_part(key, owner, slot)
        types = set(map(type, copy))
        if len(types) == 1 and types <= SURE:
            made.only = types.pop()
        elif types:
            made.stored = {key: key for key in copy}
        for key, item in copy.items():
            dict.__setitem__(made, key, item if type(item) in QUICK else self.adopt(item, made, key, levels - 1))
        return made

    def _adopt_set(self, value: set[Any], owner: Any, slot: Any) -> TrackedSet:
        made = TrackedSet()
        self.new(made, owner, slot)
        self._adopted[id(value)] = value, made, set(value)
        for element in in_order(value):
            self._check_part(element, owner, slot)
            made.fill(element)
        return made

    def _check_part(self, value: Any, owner: Any, slot: Any) -> None:
        try:
            self.check_key(value)
        except TypeError as error:
            raise TypeError(f"{self.path(owner, slot)}: {error}") from None

    def check_key(self, key: Any) -> None:
        """Raises TypeError for what cannot be a key or an element."""
        if type(key) not in QUICK and not self.is_leaf(key):
            raise TypeError(f"a {type(key).__name__} cannot be a key or an element: use frozen values")

    def is_leaf(self, value: Any, levels: int = DEPTH_MAX) -> bool:
        """Whether nothing in it can change. False for a container or object; TypeError for what cannot be state."""
        kind = type(value)
        if kind in QUICK:
            return True
        if kind is str:
            if not value.isascii():
                check_text(value)
            return True
        if kind is float or kind is decimal.Decimal:
            if value.is_nan() if kind is decimal.Decimal else value != value:
                raise TypeError("NaN cannot be state: it is not equal to itself. Use None")
            return True
        if kind is tuple or kind is frozenset:
            if levels <= 0:
                raise TypeError(TOO_DEEP)
            for part in value:
                if not self.is_leaf(part, levels - 1):
                    what = f"a {type(part).__name__} in a {kind.__name__}"
                    raise TypeError(
                        f"{what} could be changed unseen: use a {kind.__name__} of frozen values, or a list"
                    )
            return True
        if kind in SURE:
            return True
        if kind in _PLAIN:
            return False
        shape = self.kinds.of(kind)
        if shape is None:
            self.packer.pack(value)  # raises TypeError for what does not travel
            return True
        if isinstance(shape, EnumShape):
            return True
        if not shape.is_frozen:
            return False
        content = shape.take(value)
        if all(self.is_leaf(part, levels - 1) for part in content.values()):
            return True
        if isinstance(shape, NamedTupleShape):
            raise TypeError(f"a {shape.name} whose fields can be changed unseen: use frozen values, or a dataclass")
        return False

    # --- places ---

    def node_of(self, value: Any) -> Any:
        """The container or Hold of a value of the state; None for a leaf."""
        if type(value) in TRACKED:
            return value
        return self.holds.get(id(value))

    def place(self, value: Any, owner: Any, slot: Any) -> None:
        """A value of the state is at another slot of its owner."""
        node = self.node_of(value) if type(value) not in LEAVES else None
        if node is not None:
            if node.owner is not owner:
                self._former.append((node, node.owner, node.slot))
            node.owner, node.slot = owner, slot

    def release(self, value: Any) -> None:
        """The value is taken from its slot."""
        if type(value) in TRACKED:
            value.count -= 1
        elif (hold := self.holds.get(id(value))) is not None:
            hold.count -= 1
            self.handed.append(value)

    def _put(self, node: Any, owner: Any, slot: Any) -> None:
        self._former.append((node, node.owner, node.slot))
        node.owner, node.slot = owner, slot
        node.count += 1

    def _put_back(self) -> None:
        """After undo: what was put somewhere is where it was before, and what is new is nowhere."""
        fresh = {id(node) for node in self._fresh}
        nodes, former = self._moves()
        for key, node in nodes.items():
            places = [] if key in fresh else self._places(node, former[key])
            places = [place for place in places if id(place[0]) not in fresh]
            node.count = len(places[:1])
            if places:
                node.owner, node.slot = places[0]

    def _moves(self) -> tuple[dict[int, Any], dict[int, list[tuple[Any, Any]]]]:
        """The nodes that were put somewhere in this command, and where each was before."""
        nodes: dict[int, Any] = {}
        former: dict[int, list[tuple[Any, Any]]] = {}
        for node, owner, slot in self._former:
            nodes[id(node)] = node
            former.setdefault(id(node), []).append((owner, slot))
        return nodes, former

    def _count(self, value: Any, by: int) -> None:
        node = self.node_of(value) if type(value) not in LEAVES else None
        if node is not None:
            node.count += by

    def _count_all(self, owner: Any, by: int) -> None:
        """Count, and place, everything in a container whose whole content goes or comes back."""
        for slot, value in _slots(owner):
            if type(value) not in LEAVES:
                self._count(value, by)
                self.place(value, owner, slot)

    def path(self, owner: Any, slot: Any) -> str:
        """A place as a person would write it."""
        parts: list[str] = []
        seen = set()
        while owner is not None and id(owner) not in seen and len(parts) < DEPTH_MAX:
            if owner is self.root:
                return f"{self.root.name}.{slot}" + "".join(reversed(parts))
            seen.add(id(owner))
            parts.append(f"[{slot - owner.base if type(owner) in LISTS else slot!r}]")
            owner, slot = owner.owner, owner.slot
        return "..." + "".join(reversed(parts))

    def _is_attached(self, node: Any, former: dict[int, list[tuple[Any, Any]]]) -> bool:
        """Whether a node can be reached from the attributes, by any of the places that it had in this command."""
        seen = set()
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if node is self.root:
                return True
            if node is not None and node.count and id(node) not in seen:
                seen.add(id(node))
                waiting += [owner for owner, _ in self._places(node, former.get(id(node), []))]
        return False

    def _places(self, node: Any, former: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Where a node is, of the place where it was put last and those before."""
        found: list[tuple[Any, Any]] = []
        for owner, slot in [(node.owner, node.slot), *former]:
            for at in _slots_of(owner, node) if type(owner) in LISTS else [slot]:
                if self._is_at(node, owner, at) and not any(o is owner and s == at for o, s in found):
                    found.append((owner, at))
        return found

    def _check_aliases(self) -> None:
        nodes, former = self._moves()
        for key, node in nodes.items():
            if node.count > 1 or (node.count and not self._is_at(node, node.owner, node.slot)):
                places = self._places(node, former[key])
                found = [place for place in places if self._is_attached(place[0], former)]
                if len(found) > 1:
                    first, second = (self.path(owner, slot) for owner, slot in reversed(found[:2]))
                    what = f"the same {_called(node)}, and after a restart two"
                    raise TypeError(f"{first} and {second} would be {what}: put a copy")
                node.count = len(found)
                if found:
                    node.owner, node.slot = found[0]

    def _is_at(self, node: Any, owner: Any, slot: Any) -> bool:
        if owner is None:
            return False
        value = owner.at(slot)
        return value is node or (type(node) is Hold and value is node.value)

    def _check_originals(self) -> None:
        for original, made, copy in self._adopted.values():
            if type(original) in (list, dict, *LISTS, *DICTS):
                same = len(original) == len(copy) and all(map(operator.is_, original, copy))
                if same and type(copy) is dict:
                    same = all(map(operator.is_, original.values(), copy.values()))
            else:
                same = original == copy
            if not same and self._is_attached(made, {}):
                where = self.path(made.owner, made.slot)
                raise TypeError(
                    f"a {type(copy).__name__} was put into {where} as a copy and changed after that, which would be "
                    f"lost: change {where} instead, or put it when it is complete"
                )

    # --- objects ---

    def _hold(self, value: Any, owner: Any, slot: Any) -> Any:
        hold = self.holds.get(id(value))
        if hold is None:
            inner: list[Any] = []
            hold = Hold(value, self.packer.dumps_noting(value, inner), inner)
            self._check_inner(hold, inner)
            self._keep(hold)
            self._fresh.append(hold)
        if owner is self.root:
            self.always[id(value)] = hold
        elif type(owner) in HOLDING:
            owner.__class__ = HOLDING[type(owner)]
        self._put(hold, owner, slot)
        self.handed.append(value)
        return value

    def load_hold(self, value: Any, owner: Any, slot: Any) -> None:
        """An object of a snapshot, at its place. Raises TypeError if it is not one."""
        if not self.is_leaf(value):
            self._hold(value, owner, slot)

    def _check_inner(self, hold: Hold, inner: list[Any]) -> None:
        """What an object holds may be held by no other."""
        seen = {id(hold.value)}
        for part in inner:
            if part is hold.value:
                continue
            known = self._inner.get(id(part))
            other = self.holds.get(id(part))
            if (known is not None and known[1] is not hold) or other is not None or id(part) in seen:
                raise TypeError(f"a {type(part).__name__} in it belongs to another part of the state: put a copy")
            if id(part) in self._adopted:
                raise TypeError(f"a {type(part).__name__} in it was put into the state elsewhere too: put a copy")
            seen.add(id(part))

    def _keep(self, hold: Hold) -> None:
        self.holds[id(hold.value)] = hold
        for part in hold.inner:
            if part is not hold.value:
                self._inner[id(part)] = part, hold

    def _drop(self, hold: Hold) -> None:
        for ref in self._captures:
            if (capture := ref()) is not None:
                capture.dropped[id(hold.value)] = hold.value, hold
        self.holds.pop(id(hold.value), None)
        self.always.pop(id(hold.value), None)
        for part in hold.inner:
            self._inner.pop(id(part), None)

    def _suspects(self) -> list[Hold]:
        found = {id(value): hold for value in self.handed if (hold := self.holds.get(id(value))) is not None}
        found.update(self.always)
        return list(found.values())

    def _take_images(self) -> None:
        """Encode again what was handed out. What has changed is a change of the state."""
        for hold in self._suspects():
            if hold.count == 0:
                continue
            inner: list[Any] = []
            try:
                image = self.packer.dumps_noting(hold.value, inner)
                self._check_inner(hold, inner)
            except TypeError as error:
                raise TypeError(f"{self.path(hold.owner, hold.slot)}: {error}") from None
            if image != hold.image:
                self.note((hold, IMAGE, hold.image))
                hold.image = image
            if inner != hold.inner or any(map(operator.is_not, inner, hold.inner)):
                for part in hold.inner:
                    self._inner.pop(id(part), None)
                hold.inner = inner
                self._keep(hold)

    def _restore_images(self) -> Hold | None:
        """Put back each object that was handed out and no longer is what its image says; return one of them."""
        changed = None
        for hold in self._suspects():
            if hold.count == 0:
                continue
            try:
                same = self.packer.dumps(hold.value) == hold.image
            except (TypeError, ValueError):
                same = False
            if not same:
                changed = hold
                self._drop(hold)
                hold.inner = []
                hold.value = self.unpacker.loads(hold.image)
                self.packer.dumps_noting(hold.value, hold.inner)
                self._keep(hold)
                if hold.owner is self.root:
                    self.always[id(hold.value)] = hold
                hold.owner.swap(hold.slot, hold.value)
        return changed


def _slots(node: Any) -> Any:
    if type(node) in LISTS:
        return enumerate(list.__iter__(node), node.base)
    return dict.items(node) if type(node) in DICTS else ()


def _slots_of(owner: Any, node: Any) -> list[Any]:
    value = node.value if type(node) is Hold else node
    return [slot for slot, item in _slots(owner) if item is value]


def _called(node: Any) -> str:
    return type(node.value).__name__ if type(node) is Hold else _PLAIN[type(node)].__name__
