"""What of the package `bench.compiled` compiles, and what it changes in the copy that mypyc reads.

How it works. What is in PLACES is compiled, but not what runs seldom, and not what mypyc cannot compile by its nature:
a module with a Struct (mypyc passes no keywords to a metaclass), or with a class on an interpreted one that has fields.
Such modules go on as they are, and both kinds call each other.

The sources say nothing of mypyc. In the copy each class of a compiled module is marked so that interpreted ones may be
derived from it (mutants, liars, cores from files), and a handler that is another's alias is written out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

PLACES = (
    *("kernel/", "parts/", "protocols/raft/", "protocols/multipaxos/", "protocols/pbft/"),
    *("sim/clock.py", "sim/digest.py", "sim/disk.py", "sim/ground.py", "sim/network.py", "sim/node.py"),
    *("sim/checkers/base.py", "sim/checkers/log.py", "sim/checkers/once.py", "sim/checkers/validity.py"),
    *("service/replica.py", "service/sessions.py", "service/signed.py", "service/client/"),
    "trials/session_checker.py",
)
"""Where a simulated run spends its time."""
SELDOM = ("equipment.py", "entry.py", "liars.py", "mutants.py", "parts/crypto/", "parts/reliable/")
"""Runs in few trials, or once in each: not worth the time of the compiler."""
REAL = ("client/aio.py", "client/loop_thread.py", "client/sync.py")
"""No part of a simulated run."""
BEYOND = {
    "protocols/pbft/led.py": "a class within a function",
    "service/client/errors.py": "exceptions that programs derive from",
}
"""What mypyc does not take, and why."""
DERIVABLE = "allow_interpreted_subclasses=True"

Trees = Mapping[str, ast.Module]
"""By path below the package, what is in a module."""


def chosen(trees: Trees) -> list[str]:
    """The modules to compile, sorted."""
    paths = {path for path, tree in trees.items() if _is_wanted(path) and not _has_struct(tree)}
    while on_interpreted := {path for path in paths if _has_interpreted_base(path, trees, paths)}:
        paths -= on_interpreted
    return sorted(paths)


def prepared(source: str) -> str:
    """The copy of a module that mypyc reads."""
    tree, lines = ast.parse(source), source.splitlines()
    for node in reversed(tree.body):  # from the end, so that the numbers of earlier lines hold
        if isinstance(node, ast.ClassDef):
            _write_out_aliases(node, lines)
            if not _is_interface(node):
                first = min([node.lineno, *[each.lineno for each in node.decorator_list]])
                lines.insert(first - 1, f"@_mypyc_attr({_attributes_of(node)})")
    lines.insert(_end_of_head(tree), "from mypy_extensions import mypyc_attr as _mypyc_attr")
    return "\n".join([*lines, ""])


def _is_wanted(path: str) -> bool:
    name = path.rpartition("/")[2]
    is_left_out = name == "__init__.py" or path in BEYOND or path.endswith(REAL)
    return path.startswith(PLACES) and not is_left_out and not any(part in path for part in SELDOM)


def _bases(node: ast.ClassDef) -> Iterator[str]:
    for base in node.bases:
        yield ast.unparse(base.value if isinstance(base, ast.Subscript) else base)


def _has_struct(tree: ast.Module) -> bool:
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return any(node.keywords or any("Struct" in base for base in _bases(node)) for node in classes)


def _is_interface(node: ast.ClassDef) -> bool:
    """A typing.Protocol: nothing is derived from it."""
    return any(base in ("Interface", "Protocol") for base in _bases(node))


def _attributes_of(node: ast.ClassDef) -> str:
    """Exceptions but the plainest are none of mypyc's native classes."""
    is_error = any(base.endswith("Error") for base in _bases(node))
    return "native_class=False" if is_error else DERIVABLE


def _has_interpreted_base(path: str, trees: Trees, compiled: Iterable[str]) -> bool:
    """Whether a class is on one with fields that is not compiled: mypyc does not know where these are."""
    classes = [node for node in trees[path].body if isinstance(node, ast.ClassDef)]
    return any(
        home not in compiled and _has_fields(base) for node in classes for home, base in _ancestors(path, node, trees)
    )


def _ancestors(path: str, node: ast.ClassDef, trees: Trees) -> Iterator[tuple[str, ast.ClassDef]]:
    """Those in the package, and where they are."""
    for name in _bases(node):
        home, base = _definition(path, name, trees)
        if base is not None:
            yield home, base
            yield from _ancestors(home, base, trees)


def _definition(path: str, name: str, trees: Trees) -> tuple[str, ast.ClassDef | None]:
    """The class that a module means by a name, and where it is; None: not in the package."""
    for node in trees[path].body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return path, node
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("quorate."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(_path_of(node.module or "", trees), alias.name, trees)
    return path, None


def _path_of(module: str, trees: Trees) -> str:
    path = module.removeprefix("quorate.").replace(".", "/")
    return f"{path}.py" if f"{path}.py" in trees else f"{path}/__init__.py"


def _has_fields(node: ast.ClassDef) -> bool:
    stores = [n for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
    of_self = any(isinstance(n.value, ast.Name) and n.value.id == "self" for n in stores)
    return of_self or any(isinstance(n, ast.Assign | ast.AnnAssign) for n in node.body)


def _write_out_aliases(node: ast.ClassDef, lines: list[str]) -> None:
    """`on_b = on_a` in a class becomes a method of its own: mypyc makes no field of a method."""
    methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
    for each in reversed(node.body):
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Name) and each.value.id in methods:
            method, alias = methods[each.value.id], ast.unparse(each.targets[0])
            body = lines[method.lineno - 1 : method.end_lineno]
            body[0] = body[0].replace(f"def {method.name}(", f"def {alias}(")
            lines[each.lineno - 1 : each.end_lineno] = body


def _end_of_head(tree: ast.Module) -> int:
    """Behind the docstring and what comes from the future."""
    end = 0
    for node in tree.body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_text and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        end = node.end_lineno or end
    return end
