"""What a researcher brings in a file: a core, ``./mine.py:Mine``, with what belongs to it, and liars.

How it works. A file is run once a process, as a module that has no name others could import; campaigns in several
processes load it in each. Its folder comes last on the path, so that it may import its neighbours and hides nothing.

The core is made with an Env and no more: whatever else it takes has a default. What stands beside it in the file says
the rest, as the entry and the equipment of a protocol of the REGISTRY do; each name may be left out:

- ``TRAITS``, or ``traits`` in the class: by default it tolerates crashes. Where nodes have keys, the core is made with
  ``keys=`` besides.
- ``SIMULATION``: a config, with which the core is made then, as its second argument. ``ONE_BY_ONE``: the same
  with one log entry a message, for some of the runs.
- ``TAKES_SNAPSHOTS``: True where the core takes some, so that bugs planted in snapshots show.
- ``INVARIANTS``, ``MUTANTS`` and ``LIARS``: Checkers, Mutants and Liars in a tuple.
- ``resign``: how a Byzantine node signs anew what it changed.
"""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

import msgspec

from quorate.kernel import Core, Env
from quorate.parts.crypto.keys import Keys
from quorate.protocols import ProtocolEntry
from quorate.protocols.traits import CRASH, Traits
from quorate.service.client.loop_thread import no_loop_threads
from quorate.sim.adversary import GENERIC
from quorate.sim.adversary.liar import Liar, unsigned
from quorate.sim.checkers.base import Checker
from quorate.sim.equipment import Equipment
from quorate.sim.mutant import Mutant
from quorate.sim.options import OptionsError

MODULE: Final = "quorate_file"

T = TypeVar("T")


class FileEntry(ProtocolEntry, frozen=True):
    """A core whose arguments beside the Env have defaults, but for a config, where the file has one, and keys."""

    def make(
        self, config: Any, core: type[Core] | None = None, keys: Callable[[int], Keys] | None = None
    ) -> Callable[[Env], Core]:
        """A maker of cores for a Host."""
        build: Callable[..., Core] = core or self.core
        rest = () if config is None else (config,)
        if not self.traits.has_keys:
            return lambda env: build(env, *rest)
        if keys is None:
            raise ValueError(f"the nodes of {self.name} need keys")
        return lambda env: build(env, *rest, keys=keys(env.id))


def is_file(name: str) -> bool:
    """Whether this names a class in a file, and not a protocol or a liar that is known by name."""
    return ":" in name or name.endswith(".py")


@cache
def protocol_of_file(protocol: str) -> tuple[ProtocolEntry, Equipment]:
    """Those for ``path:Class``. Raises OptionsError, which says what is wrong with the file or the class."""
    path, module, found = _find(protocol, Core)
    beside = _Beside(path, module)
    traits = getattr(found, "traits", None) or beside.one("TRAITS", Traits, CRASH)
    if not isinstance(traits, Traits):
        raise OptionsError(f"traits of {found.__name__} in {path} is not Traits, from quorate.protocols.traits")
    simulation = beside.one("SIMULATION", msgspec.Struct, None)
    _check_signature(path, found, simulation, traits)
    name = found.__name__
    entry = FileEntry(
        name=name,
        title=name,
        core=found,
        config=msgspec.Struct,
        tolerates="lies" if traits.is_byzantine else "crashes",
        traits=traits,
    )
    equipment = Equipment(
        simulation=simulation,
        one_by_one=beside.one("ONE_BY_ONE", type(simulation), None),
        takes_snapshots=beside.one("TAKES_SNAPSHOTS", bool, False),
        invariants=beside.classes("INVARIANTS", Checker),
        mutants=beside.many("MUTANTS", Mutant),
        liars=tuple(_brought(liar) for liar in beside.classes("LIARS", Liar)),
        resign=getattr(module, "resign", unsigned),
    )
    return entry, equipment


@cache
def liar_of_file(name: str) -> type[Liar]:
    """The Liar ``path:Class``; its class's name is its own, unless it has one. Raises OptionsError."""
    path, _, found = _find(name, Liar)
    if any(liar.name == _brought(found).name for liar in GENERIC):
        raise OptionsError(f"{found.__name__} in {path} is called {found.name!r}, as a built-in liar is: rename it")
    return found


def _brought(liar: type[Liar]) -> type[Liar]:
    """The same, with a name of its own, and known to come from a file."""
    liar.is_brought = True
    if not liar.name:
        liar.name = liar.__name__.lower()
    return liar


def _check_signature(path: Path, core: type[Core], simulation: Any, traits: Traits) -> None:
    keys = {"keys": None} if traits.has_keys else {}
    arguments = (None,) if simulation is None else (None, simulation)
    try:
        inspect.signature(core).bind(*arguments, **keys)
    except TypeError as error:
        what = "an Env" + (", SIMULATION" if simulation is not None else "") + (" and keys" if keys else "")
        cure = "by its TRAITS nodes have keys: let __init__ take keys" if keys else "give the rest defaults"
        raise OptionsError(f"{core.__name__} in {path} cannot be made from {what} alone: {error}; {cure}") from None


class _Beside:
    """What stands in a file beside its core, each looked at before it is believed. Raises OptionsError."""

    def __init__(self, path: Path, module: ModuleType) -> None:
        self._path = path
        self._module = module

    def one(self, name: str, kind: type, default: Any) -> Any:
        """One value of this type."""
        value = getattr(self._module, name, None)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise self._wrong(name, f"a {kind.__name__}")
        return value

    def many(self, name: str, kind: type[T]) -> tuple[T, ...]:
        """Values of this type."""
        values = self._all(name)
        if not all(isinstance(value, kind) for value in values):
            raise self._wrong(name, f"a tuple of {kind.__name__}s")
        return values

    def classes(self, name: str, kind: type[T]) -> tuple[type[T], ...]:
        """Subclasses of this one."""
        values = self._all(name)
        if not all(isinstance(value, type) and issubclass(value, kind) for value in values):
            raise self._wrong(name, f"a tuple of subclasses of {kind.__name__}")
        return values

    def _all(self, name: str) -> tuple[Any, ...]:
        values = getattr(self._module, name, ())
        if not isinstance(values, tuple | list):
            raise self._wrong(name, "a tuple")
        return tuple(values)

    def _wrong(self, name: str, wanted: str) -> OptionsError:
        return OptionsError(f"{name} in {self._path} is not {wanted}")


def _find(name: str, base: type[T]) -> tuple[Path, ModuleType, type[T]]:
    """The class ``path:Class``, which must be a subclass of ``base``. Raises OptionsError."""
    what = base.__name__
    text, _, wanted = name.rpartition(":") if ":" in name else (name, "", "")
    path = Path(text)
    module = load_module(path, what)
    found = getattr(module, wanted, None)
    if found is None or not wanted:
        there = [one for one, value in vars(module).items() if _is(value, base) and value.__module__ == module.__name__]
        known = f"it has {', '.join(there)}" if there else f"it has no {what} at all"
        problem = f"{path} has no class {wanted!r}" if wanted else f"{path} needs a class after it"
        raise OptionsError(f"{problem}; write {path}:Class; {known}")
    if not _is(found, base):
        home = "quorate.kernel" if what == "Core" else base.__module__
        raise OptionsError(f"{wanted} in {path} is not a {what}; write class {wanted}({what}), with {what} from {home}")
    return path, module, found


def _is(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base) and value is not base


ONLY_AS_A_PROGRAM: Final = (
    'this file is loaded for what it defines, and starts nothing: put what runs under `if __name__ == "__main__":`'
)


def load_module(path: Path, what: str) -> ModuleType:
    """The module of a file, run once a process. Raises OptionsError, in words of ``what`` was looked for."""
    if not path.is_file():
        raise OptionsError(f"there is no file {path}; a {what.lower()} of your own is named path/to/file.py:Class")
    return _run(path.resolve(), path)


@cache
def _run(full: Path, path: Path) -> ModuleType:
    """The module of a file, run once."""
    name = f"{MODULE}_{full.stem}"
    while name in sys.modules:  # another folder has a file of that name
        name += "_"
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise OptionsError(f"{path} is not a Python file; its name has to end with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # msgspec looks up a struct's types there
    if (folder := str(full.parent)) not in sys.path:
        sys.path.append(folder)
    try:
        with no_loop_threads(ONLY_AS_A_PROGRAM):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the file raises, its author wants to read
        del sys.modules[name]
        raise OptionsError(f"{path} cannot be loaded: {type(error).__name__}: {error}{line_of(error, full)}") from None
    return module


def line_of(error: BaseException, path: Path) -> str:
    """Where in the file an exception came from; a SyntaxError says so itself."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f" (line {lines[-1]})" if lines else ""
