"""What simulated clients call: methods of a replicated class, with arguments made from their annotations.

Values come from small pools, so that calls meet in the same places. A class may say better what is called: a static or
class method ``workload(rng)`` that yields ``(method, args, kwargs)``, which is asked again when it ends.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from quorate.machines.objects.definition import COMMAND, READ, Replicated, marked
from quorate.sim.options import OptionsError
from quorate.sim.workload import Answer, Generator, Op

DEPTH_MAX: Final = 4
"""Of arguments in arguments."""
ITEMS_MAX: Final = 3
OMITTED: Final = 0.3
"""How often an argument with a default is left out."""
POOLS: Final[dict[Any, tuple[Any, ...]]] = {
    int: (0, 1, 2, 3, 5, 10, -1, 1000),
    float: (0.0, 0.5, 1.0, -1.5, 1e6),
    bool: (False, True),
    str: ("a", "b", "c", "alice", "bob", "", "\u00e9"),
    bytes: (b"", b"a", b"\x00\xff"),
    type(None): (None,),
    complex: (1.0,),
    datetime: (datetime(2024, 2, 29, 12, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)),
    date: (date(2024, 2, 29), date(2025, 1, 1)),
    timedelta: (timedelta(), timedelta(seconds=1.5), timedelta(days=1)),
    Decimal: (Decimal(0), Decimal("0.10"), Decimal(-3)),
    UUID: (UUID(int=1), UUID(int=2)),
}
PLAIN: Final = ("a", "b", 1, 2, 0, 3)
"""For an argument of which nothing is known."""
_LISTS: Final = (list, Sequence, Iterable, Collection)
_KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY
_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class ObjectGenerator(Generator):
    """Calls as operations: of a command a write, of a read a read, with ``(args, kwargs)`` as the value."""

    __slots__ = ("_commands", "_parameters", "_reads", "_share", "_source")

    def __init__(self, rng: Random, kind: type[Replicated]) -> None:
        super().__init__(rng, 1)
        self._commands = sorted(marked(kind, COMMAND))
        self._reads = sorted(marked(kind, READ))
        self._parameters = {name: _parameters(kind, name) for name in (*self._commands, *self._reads)}
        self._share = rng.uniform(0.1, 0.5) if self._reads else 0.0
        source = _workload(kind)
        self._source = None if source is None else self._named(source, kind)
        self._keys = tuple(name for name in self._reads if not _needed(self._parameters[name]))

    def next(self) -> Op:
        """As the class's workload has it, or any marked method."""
        if self._source is not None:
            return next(self._source)
        rng = self._rng
        names = self._reads if rng.random() < self._share else self._commands
        name = rng.choice(names)
        return self._op(name, *made_arguments(self._parameters[name], rng))

    def saw(self, op: Op, answer: Answer) -> None:
        """Nothing is learnt."""

    def _op(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Op:
        return Op("read" if name in self._reads else "write", name, (list(args), dict(kwargs)))

    def _named(self, source: Callable[[Random], Any], kind: type[Replicated]) -> Iterator[Op]:
        while True:
            count = 0
            for step in source(self._rng):
                count += 1
                match step:
                    case (str(name), [*args], dict(kwargs)) if name in self._parameters:
                        yield self._op(name, args, kwargs)
                    case _:
                        raise OptionsError(
                            f"{kind.__name__}.workload yields {step!r}: yield (method, args, kwargs), such as "
                            f"({self._commands[0]!r}, (), {{}})"
                        )
            if not count:
                raise OptionsError(f"{kind.__name__}.workload yields nothing: yield (method, args, kwargs)")


def _workload(kind: type[Replicated]) -> Callable[[Random], Any] | None:
    for owner in kind.__mro__:
        found = vars(owner).get("workload")
        if found is not None:
            return found.__get__(None, kind) if isinstance(found, staticmethod | classmethod) else None
    return None


def _parameters(kind: type[Replicated], name: str) -> list[tuple[inspect.Parameter, Any]]:
    """Those of a method without self, each with its annotation, or ``PLAIN`` if there is none that can be known."""
    method = vars(kind).get(name) or getattr(kind, name)
    try:
        hints = typing.get_type_hints(method)
    except Exception:  # a name that only a type checker knows
        hints = {}
    _, *rest = inspect.signature(method).parameters.values()
    return [(one, hints.get(one.name, PLAIN)) for one in rest]


def _needed(parameters: Sequence[tuple[inspect.Parameter, Any]]) -> bool:
    return any(one.default is one.empty and one.kind not in _VARIADIC for one, _ in parameters)


def made_arguments(
    parameters: Sequence[tuple[inspect.Parameter, Any]], rng: Random
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments for one call."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    by_name = False
    for one, hint in parameters:
        if one.kind is inspect.Parameter.VAR_POSITIONAL:
            if not by_name:
                args += [made_value(hint, rng) for _ in range(rng.randrange(ITEMS_MAX))]
        elif one.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        elif one.default is not one.empty and rng.random() < OMITTED:
            by_name = True
        elif one.kind is _KEYWORD or (by_name and one.kind is not inspect.Parameter.POSITIONAL_ONLY):
            kwargs[one.name] = made_value(hint, rng)
        elif not by_name:
            args.append(made_value(hint, rng))
    return args, kwargs


def made_value(hint: Any, rng: Random, depth: int = 0) -> Any:
    """A value of an annotated type, as far as it can be made; a plain one otherwise."""
    if isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    pool = POOLS.get(hint) if isinstance(hint, type) else None
    if pool is not None:
        return rng.choice(pool)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return made_value(inner[0], rng, depth)
    if origin is Literal:
        return rng.choice(inner)
    if origin in (typing.Union, types.UnionType):
        return made_value(rng.choice(inner), rng, depth)
    made = _container(origin or hint, inner or (PLAIN, PLAIN), rng, depth)
    if made is not None:
        return made
    if isinstance(hint, type) and depth < DEPTH_MAX:
        return _instance(hint, rng, depth + 1)
    return rng.choice(PLAIN)


def _container(kind: Any, inner: tuple[Any, ...], rng: Random, depth: int) -> Any:
    """A list, dict, set or tuple; None for other types."""
    size = rng.randrange(ITEMS_MAX + 1) if depth < DEPTH_MAX else 0
    if kind in _LISTS:
        return [made_value(inner[0], rng, depth + 1) for _ in range(size)]
    if kind in (dict, Mapping, MutableMapping):
        key, value = inner
        return {made_value(key, rng, depth + 1): made_value(value, rng, depth + 1) for _ in range(size)}
    if kind in (set, frozenset):
        return kind(made_value(inner[0], rng, depth + 1) for _ in range(size))
    if kind is tuple:
        if inner[-1] is Ellipsis:
            return tuple(made_value(inner[0], rng, depth + 1) for _ in range(size))
        return tuple(made_value(one, rng, depth + 1) for one in inner)
    return None


def _instance(kind: type[Any], rng: Random, depth: int) -> Any:
    """Of an Enum, or a class that lists its fields; a plain value for other classes, and where it cannot be made."""
    try:
        if issubclass(kind, enum.Enum):
            return rng.choice(list(kind))
        fields: list[str] = []
        if dataclasses.is_dataclass(kind):
            fields = [field.name for field in dataclasses.fields(kind) if field.init]
        elif issubclass(kind, msgspec.Struct):
            fields = [field.name for field in msgspec.structs.fields(kind)]
        elif issubclass(kind, tuple) and "_fields" in vars(kind):
            fields = list(vars(kind)["_fields"])
        if fields:
            hints = typing.get_type_hints(kind)
            return kind(**{name: made_value(hints.get(name, PLAIN), rng, depth) for name in fields})
    except Exception:  # its own __init__ or __post_init__ refuses what was made
        return rng.choice(PLAIN)
    return rng.choice(PLAIN)
