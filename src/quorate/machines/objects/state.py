"""The state of one replicated object: an instance under control.

The instance is of a subclass of the user's class, made here, which notes every assignment of an attribute; a plain
``Counter()`` in a user's own test stays plain. ``__init__`` runs uncontrolled, and what it leaves is adopted. The
instance's ``__dict__`` is shown, not given: it is read-only.

A snapshot is loaded over a fresh instance, so an attribute that its class did not have yet keeps its default, and what
it digests to is compared with what the snapshot says.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, BinaryIO

from quorate.machines.objects.containers import ABSENT, LEAVES, QUICK
from quorate.machines.objects.definition import Definition, Replicated
from quorate.machines.objects.digests import Digests
from quorate.machines.objects.snapshot import StateReader, StateWriter
from quorate.machines.objects.tracker import Attributes, Tracker

CHANGES_MAX = 4096
"""So many changes are digested at once, that no pause grows with the number of commands between two digests."""
_attributes_of = vars(Replicated)["__dict__"].__get__


class ObjectState:
    """An instance of a class that was looked at. Raises TypeError if what ``__init__`` sets cannot be state."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        kind = definition.kind
        controlled: list[Any] = []

        def attributes(instance: Any) -> Any:
            found = _attributes_of(instance)
            return MappingProxyType(found) if any(instance is one for one in controlled) else found

        namespace = {
            "__slots__": (),
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
            "__dict__": property(attributes),
        }
        metaclass: Any = type(kind)
        made: Any = metaclass(kind.__name__, (kind,), namespace)
        made.__qualname__ = kind.__qualname__
        self.instance: Any = made()
        values: dict[str, Any] = _attributes_of(self.instance)
        self._root = Attributes(kind.__name__, values)
        self.tracker = Tracker(definition.kinds, self._root)
        self._digests = Digests(self.tracker)
        self._adopt_all()
        _take_control(made, self.instance, self._root, self.tracker, definition.settable)
        controlled.append(self.instance)
        self.begin, self.undo = self.tracker.begin, self.tracker.undo

    def _adopt_all(self) -> None:
        tracker, values = self.tracker, self._root.values
        tracker.begin()
        try:
            for name, value in list(values.items()):
                values[name] = tracker.adopt(value, self._root, name)
            tracker.commit()
        except TypeError as error:
            raise TypeError(f"the state of {self._root.name} cannot be replicated: {error}") from None
        self._digests.settle()

    def commit(self) -> None:
        """End a command. Raises TypeError if its state cannot be kept; `undo` is to follow."""
        self.tracker.commit()
        if self.tracker.changes > CHANGES_MAX:
            self._digests.settle()

    def digests(self) -> dict[str, bytes]:
        """The digest of each attribute, by name."""
        return self._digests.by_attribute()

    def snapshot(self) -> Callable[[BinaryIO], None]:
        """Capture the state as it is; the function writes it, in any thread."""
        digests = self.digests()
        writer = StateWriter(self.tracker.capture(), self._definition.kinds)
        version = self._definition.kind.version

        def write(file: BinaryIO) -> None:
            writer.write(file, version, digests)

        return write

    def load(self, file: BinaryIO) -> None:
        """Load what `snapshot` wrote over this state, which must be fresh. Raises ValueError."""
        tracker, values = self.tracker, self._root.values
        tracker.begin()
        try:
            digests = StateReader(file, tracker).read(self._root)
            tracker.commit()
        except (TypeError, KeyError, OverflowError) as error:
            raise ValueError(f"the snapshot of {self._root.name} is corrupt: {error}") from error
        own = self.digests()
        for name, digest in digests.items():
            if name not in values or own[name] != digest:
                raise ValueError(f"the snapshot of {self._root.name} is corrupt: {name} is not as it was written")


def _take_control(made: type[Any], instance: Any, root: Attributes, tracker: Tracker, settable: frozenset[str]) -> None:
    values = root.values
    get = values.get

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if self is not instance or name in settable:
            object.__setattr__(self, name, value)
            return
        old = get(name, ABSENT)
        if old is ABSENT and name.startswith("__"):
            raise TypeError(f"{name} cannot be assigned")
        if type(value) not in QUICK:
            value = tracker.adopt(value, root, name)
        tracker.note((root, name, old))
        if type(old) not in LEAVES:
            tracker.release(old)
        values[name] = value

    def delete_attribute(self: Any, name: str) -> None:
        if self is not instance or name in settable or name not in values:
            object.__delattr__(self, name)
            return
        old = values[name]
        tracker.note((root, name, old))
        if type(old) not in LEAVES:
            tracker.release(old)
        del values[name]

    made.__setattr__ = set_attribute  # type: ignore[assignment]
    made.__delattr__ = delete_attribute  # type: ignore[assignment]
