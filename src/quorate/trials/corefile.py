"""A core in a file of one's own, ``./mine.py:Mine``, as an entry that the simulator takes like one of the registry.

How it works. The file is run once a process, as a module that has no name others could import; campaigns in several
processes load it in each. Its folder comes last on the path, so that it may import its neighbours and hides nothing.
The core is made with an Env and no more: whatever else it takes has a default.
"""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from quorate.kernel import Core, Env
from quorate.parts.keys import Keys
from quorate.protocols import Entry
from quorate.sim.options import OptionsError

MODULE = "quorate_corefile"


class FileEntry(Entry, frozen=True):
    """A core that makes its own config."""

    def make(
        self, config: Any, core: type[Core] | None = None, keys: Callable[[int], Keys] | None = None
    ) -> Callable[[Env], Core]:
        """A maker of cores for a Host."""
        return core or self.core


def is_corefile(protocol: str) -> bool:
    """Whether this names a file, and not a line of the registry."""
    return ":" in protocol or protocol.endswith(".py")


@cache
def entry_of_file(protocol: str) -> Entry:
    """The entry for ``path:Class``. Raises OptionsError, which says what is wrong with the file or the class."""
    path, _, name = protocol.rpartition(":") if ":" in protocol else (protocol, "", "")
    module = _load(Path(path))
    found = getattr(module, name, None)
    if found is None or not name:
        cores = [one for one, value in vars(module).items() if _is_core(value) and value.__module__ == module.__name__]
        known = f"it has {', '.join(cores)}" if cores else "it has no Core at all"
        asked = f"no class {name!r}" if name else "to be asked for a class"
        raise OptionsError(f"{path} has {asked}; write {path}:Class; {known}")
    if not _is_core(found):
        raise OptionsError(f"{name} in {path} is not a Core; write class {name}(Core), with Core from quorate.kernel")
    try:
        inspect.signature(found).bind(None)
    except TypeError as error:
        raise OptionsError(
            f"{name} in {path} cannot be made from an Env alone: {error}; give the rest defaults"
        ) from None
    return FileEntry(
        name=name, title=name, core=found, config=msgspec.Struct, simulation=None, tolerates="whatever its author says"
    )


def _is_core(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Core) and value is not Core


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise OptionsError(f"there is no file {path}; a core of your own is named path/to/file.py:Class")
    name = f"{MODULE}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise OptionsError(f"{path} is not a Python file; its name has to end with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # msgspec looks up a struct's types there
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file raises, its author wants to read
        raise OptionsError(f"{path} cannot be loaded: {type(error).__name__}: {error}{_line(error, path)}") from None
    return module


def _line(error: Exception, path: Path) -> str:
    """Where in the file an exception came from; a SyntaxError says so itself."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.resolve()
    ]
    return f" (line {lines[-1]})" if lines else ""
