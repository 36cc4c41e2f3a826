"""A replicated class from a file, ``counter.py:Counter``, loaded anew for each life of each simulated node.

What a class or its module keeps beside the object's state is lost with a real process; so each life has a module of its
own. Modules that the file imports are shared by all nodes of the simulation: what they keep is not put to the test, and
types that need ``register_type`` belong there.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

from quorate.machines.objects.machine import ObjectMachine, Replicated
from quorate.service.client.loop_thread import no_loop_threads
from quorate.sim.options import OptionsError
from quorate.trials.files import ONLY_AS_A_PROGRAM, is_file, line_of, load_module
from quorate.trials.objects.rewriting import names_for, rewritten

MODULE: Final = "quorate_object"


class ObjectFile:
    """A file with a replicated class in it."""

    def __init__(self, path: Path, name: str, code: CodeType) -> None:
        self.path = path
        self.name = name
        self._code = code

    def load(self, salt: bytes) -> type[Replicated]:
        """The class as one process has it. ``salt`` decides what differs between processes. Raises OptionsError."""
        module = _run(self.path, self._code, salt)
        found: Any = vars(module).get(self.name)
        if not _is_replicated(found):
            raise OptionsError(f"{self.path} has no replicated class {self.name!r} every time it is loaded")
        return found  # type: ignore[no-any-return]


def object_file_of(name: str) -> ObjectFile | None:
    """The file and the class if ``name`` is a replicated class in a file; None if it is something else.

    Raises OptionsError where it is one that cannot be replicated, or the file cannot be loaded.
    """
    return _find(name) if is_file(name) else None


@cache
def _find(name: str) -> ObjectFile | None:
    text, _, wanted = name.rpartition(":") if ":" in name else (name, "", "")
    path = Path(text)
    if not path.is_file() or path.suffix != ".py":
        return None  # whoever looks for a core says what is wrong
    first = load_module(path, "class")
    found: Any = vars(first).get(wanted)
    if found is None:
        known = [one for one, value in vars(first).items() if _is_replicated(value) and _is_of(value, first)]
        if known:
            raise OptionsError(f"which class of {path}? Write {path}:Class; it has {', '.join(known)}")
    if not _is_replicated(found):
        return None
    try:
        ObjectMachine(found)
    except Exception as error:  # by its __init__ too: its author wants to read it
        raise OptionsError(f"{wanted} in {path} cannot be replicated: {error}") from None
    full = path.resolve()
    return ObjectFile(full, wanted, compile(rewritten(full.read_bytes(), str(full)), str(full), "exec"))


def _is_of(value: type[Any], module: ModuleType) -> bool:
    return value.__module__ == module.__name__


def module_name(path: Path) -> str:
    """The same for every life: it may show in texts."""
    return f"{MODULE}_{path.stem}"


def _is_replicated(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Replicated) and value is not Replicated


class _Loader(SourceFileLoader):
    """Runs code that is compiled already, and leaves no file of it."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        """What was given."""
        return self._code


def _run(full: Path, code: CodeType, salt: bytes) -> ModuleType:
    """A fresh module. The last one stands in ``sys.modules``, where dataclasses and type hints look names up."""
    name = module_name(full)
    spec = spec_from_loader(name, _Loader(name, str(full), code))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    vars(module).update(names_for(salt))
    sys.modules[name] = module
    if (folder := str(full.parent)) not in sys.path:
        sys.path.append(folder)
    try:
        with no_loop_threads(ONLY_AS_A_PROGRAM):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the file raises, its author wants to read
        raise OptionsError(f"{full} cannot be loaded: {type(error).__name__}: {error}{line_of(error, full)}") from None
    return module
