"""The class of a replicated object: its marks, and what is looked at before an instance is made.

State is the attributes of the instance. Whatever else a method could change would be lost with the process, or shared
by what should be apart, so it is refused here: slots, mutable attributes of the class, closures. So are methods that
could not run at once (coroutines, generators), and functions of `heapq`, which change a list without its knowledge.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import reprlib
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar, overload

from quorate.machines.objects.kinds import Kinds, classes_of
from quorate.machines.objects.tracker import Attributes, Tracker
from quorate.machines.objects.versions import VersionMark, Versions

F = TypeVar("F", bound=Callable[..., Any])
ATTRIBUTE_MARK = "__quorate__"
VERSION_MARK = "__quorate_versions__"
COMMAND, READ, INVARIANT = "command", "read", "invariant"
PAST_METHODS = frozenset({"heappush", "heappop", "heapify", "heapreplace", "heappushpop"})
OWN_ACCESS = ("__setattr__", "__delattr__", "__getattribute__")
_UNCHANGING = (type, re.Pattern, types.ModuleType, TypeVar)
_BY_DATACLASS = frozenset({"<string>", dataclasses.__file__, reprlib.__file__})
"""Where the functions come from that the decorator writes; those of ``__repr__`` from ``reprlib`` since 3.13."""
_OF_PYTHON = frozenset({"_abc_impl", "_is_protocol"})


class Replicated:
    """Base of a replicated class. ``__init__`` takes no arguments: every node begins in the same state.

    ``version`` is the class's. Raise it with every change of what a command does, and see `command` and `migrate`.
    """

    version: ClassVar[int] = 1

    @classmethod
    def migrate(cls, state: dict[str, Any], from_version: int) -> dict[str, Any]:
        """The attributes as the next version after ``from_version`` has them: called for each version in between.

        ``state`` is a copy, with what ``__init__`` sets where it had nothing. It runs on every node at the same entry
        of the log, when the last member has announced the version, so it must depend on nothing but ``state``.
        """
        return state


@overload
def command(method: F, /) -> F: ...


@overload
def command(*, since: int = 1, before: Mapping[int, str] | None = None) -> Callable[[F], F]: ...


def command(
    method: F | None = None, /, *, since: int = 1, before: Mapping[int, str] | None = None
) -> F | Callable[[F], F]:
    """VersionMark a method that changes state: it goes through the log, and runs once on every node. Raises TypeError.

    ``since``: the version of the class that has it first; until all members have that, the command is refused.
    ``before``: ``{2: "_add_1"}`` has the method `_add_1` run for entries of the log from before version 2 was active.
    """
    mark = _version_mark(since, {} if before is None else before)

    def marking(function: F) -> F:
        found = _marked(function, COMMAND)
        setattr(found, VERSION_MARK, mark)
        return found

    return marking if method is None else marking(method)


def _version_mark(since: Any, before: Any) -> VersionMark:
    if type(since) is not int or since < 1:
        raise TypeError(f"@command(since={since!r}): give the version of the class that has the method first, from 1")
    is_mapping = isinstance(before, Mapping) and all(
        type(limit) is int and isinstance(name, str) for limit, name in before.items()
    )
    if not is_mapping:
        raise TypeError(f'@command(before={before!r}): give versions and names of methods, as {{2: "_add_1"}}')
    return VersionMark(since, dict(before))


def read(method: F) -> F:
    """VersionMark a method that only reads: it runs on one node, on a state at least as new as when it was called."""
    return _marked(method, READ)


def invariant(method: F) -> F:
    """Mark a method that says what always holds: it takes no arguments, changes nothing, and raises or returns False
    where that is broken. `quorate sim` calls it after each command; a cluster does not. Raises TypeError.
    """
    if inspect.isfunction(method) and len(inspect.signature(method).parameters) != 1:
        raise TypeError(f"{method.__qualname__} takes arguments: an @invariant takes only self")
    return _marked(method, INVARIANT)


def _marked(method: F, mark: str) -> F:
    if not inspect.isfunction(method):
        raise TypeError(f"@{mark} goes on a function, not on a {type(method).__name__}: mark the method itself")
    name = method.__qualname__
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(f"{name} is async: a @{mark} runs at once, and the same on every node. Use def")
    if inspect.isgeneratorfunction(method):
        raise TypeError(f"{name} is a generator, of which nothing would run: return a list")
    setattr(method, ATTRIBUTE_MARK, mark)
    return method


def marked(kind: type[Any], mark: str) -> frozenset[str]:
    """The names of the methods with a mark."""
    return frozenset(name for name in dir(kind) if getattr(getattr(kind, name), ATTRIBUTE_MARK, None) == mark)


class Definition:
    """A class that has been looked at. Raises TypeError, in words, for one that cannot be replicated."""

    def __init__(self, kind: type[Any]) -> None:
        name = kind.__name__
        if not (isinstance(kind, type) and issubclass(kind, Replicated)):
            raise TypeError(f"{name} is not a subclass of Replicated: write class {name}(Replicated)")
        self.kind: type[Replicated] = kind
        self.commands = marked(kind, COMMAND)
        self.reads = marked(kind, READ)
        self.invariants = marked(kind, INVARIANT)
        if not self.commands:
            raise TypeError(f"{name} has no method marked with @command: nothing would be replicated")
        if type(kind.version) is not int or kind.version < 1:
            raise TypeError(f"{name}.version is the version of the class, a number from 1, not {kind.version!r}")
        _check_arguments(kind)
        self.versions = Versions(
            kind, {name: vars(getattr(kind, name))[VERSION_MARK] for name in sorted(self.commands)}
        )
        self.kinds = kinds_of(kind)
        leaves = Tracker(self.kinds, Attributes(name, {}))
        for owner in _own_classes(kind):
            _check_class(owner, leaves)
        self.settable = frozenset(
            attribute
            for owner in kind.__mro__
            for attribute, value in vars(owner).items()
            if not attribute.startswith("__") and "__set__" in dir(type(value))
        )
        """Attributes that a property, or another descriptor, sets in its own way."""


def kinds_of(kind: type[Any]) -> Kinds:
    """The classes that a replicated class knows, for its nodes and its callers alike."""
    methods = [getattr(kind, name) for mark in (COMMAND, READ) for name in sorted(marked(kind, mark))]
    return Kinds(classes_of(kind, methods))


def _own_classes(kind: type[Any]) -> Iterator[type[Any]]:
    for owner in kind.__mro__:
        if owner not in (Replicated, object) and owner.__module__ not in ("typing", "abc"):
            yield owner


def _check_arguments(kind: type[Any]) -> None:
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        raise TypeError(
            f"{kind.__name__}.__init__ takes no arguments, so that every node begins alike: {error}. "
            "Set it up with a @command"
        ) from None


def _check_class(owner: type[Any], leaves: Tracker) -> None:
    slots = vars(owner).get("__slots__", ())
    if set([slots] if isinstance(slots, str) else slots) - {"__dict__", "__weakref__"}:
        raise TypeError(f"{owner.__name__} has __slots__, which a snapshot would not see: leave them out")
    for name in OWN_ACCESS:
        if name in vars(owner):
            raise TypeError(f"{owner.__name__} defines {name}, but changes must be seen: use properties or methods")
    for name, value in list(vars(owner).items()):
        where = f"{owner.__name__}.{name}"
        if isinstance(value, functools.cached_property):
            raise TypeError(f"{where} is a cached_property, which changes the object when it is read: use a method")
        if isinstance(value, property):
            _check_property(where, value)
        for function in _functions(value):
            _check_function(where, function, set())
        is_attribute = not name.startswith("__") and name not in _OF_PYTHON
        if is_attribute and not isinstance(value, _UNCHANGING) and "__get__" not in dir(type(value)):
            _check_constant(where, value, leaves)


def _check_property(where: str, value: property) -> None:
    for function in (value.fget, value.fset, value.fdel):
        if ATTRIBUTE_MARK in dir(function):
            raise TypeError(f"{where} is a property and marked: a call has parentheses, so make it a method")


def _functions(value: Any) -> list[types.FunctionType]:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    parts = (value.fget, value.fset, value.fdel) if isinstance(value, property) else (value,)
    return [part for part in parts if isinstance(part, types.FunctionType)]


def _check_function(where: str, function: types.FunctionType, seen: set[types.CodeType]) -> None:
    code = function.__code__
    if code in seen or code.co_filename in _BY_DATACLASS:
        return
    seen.add(code)
    past = sorted(PAST_METHODS.intersection(code.co_names))
    if past:
        raise TypeError(
            f"{where} uses {past[0]}, which changes a list of the state unseen: use bisect.insort and pop(0)"
        )
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if isinstance(value, types.FunctionType):
            _check_function(where, value, seen)
        elif name != "__class__" and not isinstance(value, _UNCHANGING):
            raise TypeError(
                f"{where} is a closure over {name!r}, which is no state and is lost with the process: "
                "make it an argument, an attribute, or a constant of the module"
            )


def _check_constant(where: str, value: Any, leaves: Tracker) -> None:
    try:
        if leaves.is_leaf(value):
            return
        words = "can be changed"
    except TypeError as error:
        words = str(error)
    raise TypeError(
        f"{where} is an attribute of the class ({type(value).__name__}), shared by all objects and in no snapshot; "
        f"set it in __init__: self.{where.rpartition('.')[2]} = ... ({words})"
    )
