"""What the names of a file mean: imports and their aliases, as dotted names."""

from __future__ import annotations

import ast
from typing import Final

ROOTS: Final = {
    "time": "clock",
    "random": "chance",
    "secrets": "chance",
    "numpy.random": "chance",
    "os.urandom": "chance",
    "uuid": "uuid",
    "os": "environment",
    "platform": "environment",
    "sys.argv": "environment",
    "getpass": "environment",
    "locale": "environment",
    "socket": "network",
    "ssl": "network",
    "http": "network",
    "requests": "network",
    "httpx": "network",
    "aiohttp": "network",
    "urllib": "network",
    "open": "file",
    "io.open": "file",
    "pathlib": "file",
    "shutil": "file",
    "tempfile": "file",
    "glob": "file",
    "input": "file",
    "sqlite3": "file",
    "subprocess": "process",
    "multiprocessing": "process",
    "threading": "concurrency",
    "asyncio": "concurrency",
    "concurrent": "concurrency",
    "queue": "concurrency",
    "math.nan": "nan",
    "numpy.nan": "nan",
    **{f"datetime.{kind}.{name}": "clock" for kind in ("datetime", "date") for name in ("now", "utcnow", "today")},
}
"""Dotted names, and all below them, to the rule that they break."""
PURE: Final = frozenset(
    {
        "random.Random",
        "time.struct_time",
        "time.strptime",
        "uuid.UUID",
        "uuid.uuid3",
        "uuid.uuid5",
        "uuid.NAMESPACE_DNS",
        "uuid.NAMESPACE_URL",
        "os.path.join",
        "os.path.basename",
        "os.path.dirname",
        "os.path.splitext",
        "os.sep",
        "pathlib.PurePath",
        "pathlib.PurePosixPath",
        "pathlib.PureWindowsPath",
        "urllib.parse",
        "http.HTTPStatus",
    }
)
"""What is harmless below those: `random.Random(seed)` is, and without a seed it is looked at apart."""


def imported(tree: ast.Module) -> dict[str, str]:
    """By local name, the dotted name of what every import in the file gives."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    """The full name of ``datetime.now`` or ``dt.datetime.now``; None for what begins with no import or builtin."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    if node.id in names:
        return ".".join([names[node.id], *reversed(parts)])
    return node.id if not parts else None


def rule_of(name: str) -> str | None:
    """The rule that a use of this name breaks; the longest root counts."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        root = ".".join(parts[:length])
        if root in PURE:
            return None
        if root in ROOTS:
            return ROOTS[root]
    return None
