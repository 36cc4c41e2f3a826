"""Classes of replicated objects: what is refused before there is an instance, in words that say what to do."""

import asyncio
import dataclasses
import enum
import functools
import heapq
import re
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from quorate.machines.objects.calls import Returned, decode_outcome, encode_call
from quorate.machines.objects.machine import ObjectMachine, Replicated, command, kinds_of, read


class Good(Replicated):
    """Class attributes that cannot change, a property with a setter, a helper, a mixin: all allowed."""

    LIMITS: ClassVar[tuple[int, ...]] = (1, 2)
    PATTERN = re.compile("x")
    version = 3
    hits = 0

    def __init__(self) -> None:
        self._level = 1

    @property
    def level(self) -> int:
        return self._level

    @level.setter
    def level(self, value: int) -> None:
        self._level = value * 2

    @staticmethod
    def double(value: int) -> int:
        return value * 2

    @command
    def raise_level(self, by: int) -> int:
        self.level = self.double(by)
        self.hits += 1
        return self.level + len(self.LIMITS)


class Base(Good):
    @command
    def raise_level(self, by: int) -> int:
        return super().raise_level(by) + 1


@dataclasses.dataclass
class Declared(Replicated):
    items: list[int] = dataclasses.field(default_factory=list)
    total: int = 0

    @command
    def add(self, item: int) -> int:
        self.items.append(item)
        self.total += item
        return self.total


class Mood(enum.Enum):
    CALM = 1


class Moody(Replicated):
    def __init__(self) -> None:
        self.mood = Mood.CALM

    @command
    def get(self, mood: Mood) -> Mood:
        return mood if mood is self.mood else Mood.CALM


def call(machine: ObjectMachine, method: str, *args: Any) -> Any:
    return decode_outcome(machine.apply(encode_call(method, args)))


def test_classes_with_constants_properties_helpers_and_bases_work() -> None:
    machine = ObjectMachine(Good)
    assert call(machine, "raise_level", 2) == Returned(10)
    assert dict(vars(machine.instance)) == {"_level": 8, "hits": 1}
    assert Good.hits == 0
    assert call(ObjectMachine(Base), "raise_level", 2) == Returned(11)
    declared = ObjectMachine(Declared)
    assert [call(declared, "add", n) for n in (1, 2)] == [Returned(1), Returned(3)]


def test_the_enumerations_of_the_module_are_known() -> None:
    machine = ObjectMachine(Moody)
    kinds = kinds_of(Moody)
    outcome = decode_outcome(machine.apply(encode_call("get", [Mood.CALM], {}, kinds)), kinds)
    assert outcome == Returned(Mood.CALM)


class Forgotten:
    @command
    def add(self) -> None: ...


class Slots(Replicated):
    __slots__ = ("value",)

    @command
    def add(self) -> None: ...


class Listed(Replicated):
    items: list[int] = []

    @command
    def add(self) -> None: ...


class Shared:
    cache: ClassVar[Any] = {"a": 1}


class Named(Replicated):
    version = "a"  # type: ignore[assignment]

    @command
    def add(self) -> None: ...


class Inherits(Shared, Replicated):
    @command
    def add(self) -> None: ...


class Argument(Replicated):
    def __init__(self, start: int) -> None:
        self.value = start

    @command
    def add(self) -> None: ...


class Property(Replicated):
    @property
    @read
    def value(self) -> int:
        return 1

    @command
    def add(self) -> None: ...


class Cached(Replicated):
    @functools.cached_property
    def value(self) -> int:
        return 1

    @command
    def add(self) -> None: ...


class Own(Replicated):
    def __setattr__(self, name: str, value: Any) -> None: ...

    @command
    def add(self) -> None: ...


class Heap(Replicated):
    def __init__(self) -> None:
        self.heap: list[int] = []

    @command
    def add(self, item: int) -> None:
        heapq.heappush(self.heap, item)


def closure(seen: list[int]) -> type[Replicated]:
    class Closure(Replicated):
        @command
        def add(self) -> None:
            seen.append(1)

    return Closure


def wrapped(seen: list[int]) -> type[Replicated]:
    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any) -> Any:
            seen.append(1)
            return method(*args)

        return call

    class Wrapped(Replicated):
        @command
        @noting
        def add(self) -> None: ...

    return Wrapped


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Forgotten, r"is not a subclass of Replicated: write class Forgotten\(Replicated\)"),
        (Slots, "Slots has __slots__"),
        (Listed, r"Listed.items is an attribute of the class \(list\).*set it in __init__: self.items"),
        (Inherits, r"Shared.cache is an attribute of the class \(dict\)"),
        (Argument, "__init__ takes no arguments.*'start'"),
        (Property, "Property.value is a property and marked"),
        (Cached, "Cached.value is a cached_property"),
        (Named, "Named.version is the version of the class, a number from 1, not 'a'"),
        (Own, "Own defines __setattr__"),
        (Heap, "Heap.add uses heappush.*bisect.insort"),
        (closure([]), "Closure.add is a closure over 'seen'"),
        (wrapped([]), "Wrapped.add is a closure over 'seen'"),
    ],
)
def test_a_class_that_would_lose_state_is_refused(kind: type[Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        ObjectMachine(kind)


def test_methods_that_would_not_run_at_once_are_refused_where_they_are_marked() -> None:
    async def wait(self: Any) -> None:
        await asyncio.sleep(0)

    def produce(self: Any) -> Any:
        yield 1

    for mark in (command, read):
        with pytest.raises(TypeError, match=r"is async: a @.* runs at once"):
            mark(wait)
        with pytest.raises(TypeError, match="is a generator"):
            mark(produce)
        with pytest.raises(TypeError, match="goes on a function, not on a property"):
            mark(property(lambda self: 1))
