"""Handles: what stands for the object in a program. Marked methods are called on the nodes; there is nothing else.

``Handle`` blocks until the answer is there. To type checkers it is the class itself. ``Async`` is awaited; its methods
take any arguments as far as type checkers know, ``await counter.add(5)``, and calling the handle with a method is
checked in full: ``await counter(Counter.add, 5)``. With the plugin ``quorate.mypy_plugin`` mypy checks both.

All names but those with double underscores are the user's, so nothing else of a cluster is to be had from a handle: who
leads, what its node does and reads of a local state are with the Replication that gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, cast

from quorate.machines.objects.machine import Replicated
from quorate.service.objects.methods import Methods

R = TypeVar("R", bound=Replicated)
P = ParamSpec("P")
T = TypeVar("T")

Ask = Callable[[str, tuple[Any, ...], Mapping[str, Any]], Any]
"""Calls a method by name; the value, or a coroutine of it."""


class _Base:
    """What both kinds of handle are: no state of their own, and no copies."""

    __slots__ = ("__calls", "__methods", "__text", "__weakref__")
    __calls: dict[str, Callable[..., Any]]
    __methods: Methods
    __text: str

    def __init__(self, methods: Methods, ask: Ask, text: str) -> None:
        calls = {name: _bound(methods, name, ask) for name in methods.names}
        object.__setattr__(self, "_Base__calls", calls)
        object.__setattr__(self, "_Base__methods", methods)
        object.__setattr__(self, "_Base__text", text)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__calls[name]
        except KeyError:
            raise self.__methods.missing(name) from None

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise self.__methods.unchangeable(name, "set")

    def __delattr__(self, name: str) -> NoReturn:
        raise self.__methods.unchangeable(name, "deleted")

    def __repr__(self) -> str:
        return self.__text

    def __dir__(self) -> list[str]:
        return sorted({*(name for name in object.__dir__(self) if name.startswith("__")), *self.__calls})

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        kind = self.__methods.kind.__name__
        raise TypeError(
            f"a handle of {kind} is neither copied nor pickled, as its connections belong to this process: call a "
            f'@read method for the state, or write connect({kind}, "host:port,...") in the other process'
        )


class Handle(_Base):
    """Looks like the object; its marked methods go to the cluster and block until the answer is there."""

    __slots__ = ()


class Async(_Base, Generic[R]):
    """The object in a coroutine: ``await handle.method(...)``, or ``await handle(Kind.method, ...)``."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        return cast(Callable[..., Coroutine[Any, Any, Any]], super().__getattr__(name))

    def __call__(
        self, method: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]:
        """Call a marked method, which is given as ``Counter.add``."""
        calls: dict[str, Callable[..., Any]] = self._Base__calls  # type: ignore[assignment]
        for call in calls.values():
            if call.__wrapped__ is method:  # type: ignore[attr-defined]
                return cast(Coroutine[Any, Any, T], call(*args, **kwargs))
        raise TypeError(f"{method!r} is not a marked method of {self!r}: write its class and its name, as Counter.add")


def handle_of(kind: type[R], methods: Methods, ask: Ask, text: str) -> R:
    """A blocking handle. Its class has the marked special methods, so that ``len(handle)`` works, and the like."""
    special = {name: _special(methods, name) for name in methods.names if name.startswith("__")}
    made = type(kind.__name__, (Handle,), {"__slots__": (), "__doc__": kind.__doc__, **special})
    return cast(R, made(methods, ask, text))


def _bound(methods: Methods, name: str, ask: Ask) -> Callable[..., Any]:
    @wraps(getattr(methods.kind, name))
    def call(*args: Any, **kwargs: Any) -> Any:
        return ask(name, args, kwargs)

    call.__signature__ = methods.signature(name)  # type: ignore[attr-defined]
    return call


def _special(methods: Methods, name: str) -> Callable[..., Any]:
    @wraps(getattr(methods.kind, name))
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.__getattr__(name)(*args, **kwargs)

    return call
