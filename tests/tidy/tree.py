"""What a rule sees and says: the files of the checkout, parsed source, violations."""

import ast
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SKIPPED_FOLDERS = frozenset({"build", "dist", "data", "__pycache__"})
PURE_LAYERS = frozenset({"kernel", "parts", "ledger", "protocols"})


class Violation(NamedTuple):
    """One broken rule at one line, and what to do about it."""

    path: str
    line: int
    rule: str
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.what}. Cure: {self.cure}."


def files() -> list[str]:
    """Paths, from the root, of every file that git tracks or would offer to track, in order."""
    # safe.directory: CI may run as root in a clone that another user owns.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive: no git, or no repository
        found = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if not _is_skipped(path)]
    return sorted({name for name in found if name and (ROOT / name).is_file()})


def _is_skipped(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return any(part in SKIPPED_FOLDERS or (part[0] == "." and part != ".ci") for part in parts)


def text_of(path: str) -> str | None:
    """The text of a file of the checkout; None if it is binary."""
    raw = (ROOT / path).read_bytes()
    if b"\0" in raw:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=8192)
def parse(source: str) -> ast.Module:
    """The syntax tree of `source`; raises SyntaxError."""
    return ast.parse(source)


def layer_of(path: str) -> str | None:
    """The layer of a file of the package: "kernel", "cli", ...; "" for the package's own root; None outside."""
    parts = path.split("/")
    if parts[:2] != ["src", "quorate"] or not path.endswith(".py"):
        return None
    return parts[2] if len(parts) > 3 else ""


EQUIPMENT = frozenset({"equipment", "invariants", "mutants", "liars", "led"})
"""Files of a protocol that only its trials need; in a folder of its own, or ``echo_mutants.py`` beside ``echo.py``."""


def is_equipment(path: str) -> bool:
    """Whether a file of a protocol is test equipment."""
    return layer_of(path) == "protocols" and _names_equipment(path.split("/")[-1].removesuffix(".py"))


def is_equipment_module(target: str) -> bool:
    """Whether a dotted name leads to test equipment of a protocol."""
    parts = target.split(".")
    return parts[:2] == ["quorate", "protocols"] and any(map(_names_equipment, parts[2:]))


def _names_equipment(name: str) -> bool:
    return name in EQUIPMENT or name.rpartition("_")[2] in EQUIPMENT


class Import(NamedTuple):
    """One module named by an import, absolute: `from .a import b` in quorate.x.y is quorate.x.a, name b."""

    module: str
    name: str
    line: int

    @property
    def target(self) -> str:
        """The dotted path as far as it can name a module."""
        return f"{self.module}.{self.name}" if self.name else self.module


def imports_of(path: str, source: str) -> Iterator[Import]:
    """Every import, wherever it stands: in a function, under TYPE_CHECKING, or by a constant name at run time."""
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", node.lineno)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(path, node)
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.Call) and _called(node) in ("__import__", "import_module"):
            if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                yield Import(node.args[0].value, "", node.lineno)


def _absolute(path: str, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    package = path.removeprefix("src/").split("/")[:-1]  # the folder is the package, for __init__.py too
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""
