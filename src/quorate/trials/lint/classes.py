"""Which classes of a file are replicated, and which of its functions their marked methods reach.

A class counts if it derives from a name ``Replicated``, or from one that begins so and is from elsewhere, directly or
through classes of the same file. What a method calls in other files is not looked at: no file is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from quorate.trials.lint.findings import Finding, finding
from quorate.trials.lint.methods import FunctionNode, FunctionRules, is_mutable, is_set_annotation
from quorate.trials.lint.names import imported

MARKS: Final = frozenset({"command", "read", "invariant"})
ROOTS_UNMARKED: Final = frozenset({"__init__", "migrate"})


def findings_of(source: str | bytes, path: str = "<file>") -> list[Finding]:
    """Every finding, in the order of lines. Raises SyntaxError, and ValueError for bytes that are not text."""
    tree = ast.parse(source, path)
    names = imported(tree)
    functions = {node.name: node for node in tree.body if isinstance(node, FunctionNode)}
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found: set[Finding] = set()
    for kind in classes.values():
        if _is_replicated(kind, classes, names, ()):
            found |= set(_of_class(kind, classes, functions, names))
    for outer in ast.walk(tree):
        if isinstance(outer, FunctionNode):
            for kind in (node for node in ast.walk(outer) if isinstance(node, ast.ClassDef)):
                if _is_replicated(kind, classes, names, ()):
                    found |= set(_closures(outer, kind))
    return _longest(found)


def _longest(found: set[Finding]) -> list[Finding]:
    """Of `os.environ` and `os.environ.get` at one place the latter."""
    best: dict[tuple[int, int, str], Finding] = {}
    for one in sorted(found):
        place = (one.line, one.column, one.rule)
        if place not in best or len(best[place].what) < len(one.what):
            best[place] = one
    return sorted(best.values())


def _is_replicated(
    kind: ast.ClassDef, classes: dict[str, ast.ClassDef], names: dict[str, str], seen: tuple[str, ...]
) -> bool:
    for base in kind.bases:
        if isinstance(base, ast.Subscript):
            base = base.value
        name = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
        name = names.get(name, name).rpartition(".")[2]
        if name == "Replicated" or (name.startswith("Replicated") and name not in classes):
            return True
        if name in classes and name not in seen and _is_replicated(classes[name], classes, names, (*seen, name)):
            return True
    return False


def _of_class(
    kind: ast.ClassDef, classes: dict[str, ast.ClassDef], functions: dict[str, FunctionNode], names: dict[str, str]
) -> Iterator[Finding]:
    methods: dict[str, FunctionNode] = {}
    for owner in _with_bases(kind, classes, ()):
        for node in owner.body:
            if isinstance(node, FunctionNode):
                methods.setdefault(node.name, node)
        yield from _attributes(owner)
    sets = frozenset(_set_attributes(kind, methods, classes))
    marks = {name: _mark(node, names) for name, node in methods.items()}
    for name, function in methods.items():
        if marks[name] and isinstance(function, ast.AsyncFunctionDef):
            yield finding(function, "async", f"{name} is async")
    todo = [(node, marks[name]) for name, node in methods.items() if marks[name] or name in ROOTS_UNMARKED]
    done: set[tuple[str, int, str]] = set()
    while todo:
        function, mark = todo.pop()
        if (key := (function.name, function.lineno, mark)) in done:
            continue
        done.add(key)
        yield from FunctionRules(function, names, sets).check(mark)
        todo += [(callee, mark) for callee in _callees(function, methods, functions)]


def _with_bases(kind: ast.ClassDef, classes: dict[str, ast.ClassDef], seen: tuple[str, ...]) -> Iterator[ast.ClassDef]:
    yield kind
    for base in kind.bases:
        if isinstance(base, ast.Name) and base.id in classes and base.id not in seen:
            yield from _with_bases(classes[base.id], classes, (*seen, base.id))


def _attributes(kind: ast.ClassDef) -> Iterator[Finding]:
    for node in kind.body:
        if isinstance(node, ast.Assign):
            targets, value = [target for target in node.targets if isinstance(target, ast.Name)], node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            if target.id == "__slots__":
                yield finding(node, "slots", "__slots__")
            elif is_mutable(value):
                yield finding(node, "class-attribute", f"the mutable class attribute {target.id}")


def _set_attributes(
    kind: ast.ClassDef, methods: dict[str, FunctionNode], classes: dict[str, ast.ClassDef]
) -> Iterator[str]:
    """Attributes annotated as sets. A node keeps these in the order of insertion; another process may not."""
    for owner in _with_bases(kind, classes, ()):
        for node in owner.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                if is_set_annotation(node.annotation):
                    yield node.target.id
    for function in methods.values():
        for inner in ast.walk(function):
            if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Attribute):
                if is_set_annotation(inner.annotation):
                    yield inner.target.attr


def _mark(function: FunctionNode, names: dict[str, str]) -> str:
    for decorator in function.decorator_list:
        node = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        name = names.get(name, name).rpartition(".")[2]
        if name in MARKS:
            return name
    return ""


def _callees(
    function: FunctionNode, methods: dict[str, FunctionNode], functions: dict[str, FunctionNode]
) -> Iterator[FunctionNode]:
    """Methods and functions of the file that this one names: called, or handed on."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in methods:
            if (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")) or isinstance(
                node.value, ast.Call
            ):
                yield methods[node.attr]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in functions:
            yield functions[node.id]


def _closures(outer: FunctionNode, kind: ast.ClassDef) -> Iterator[Finding]:
    """Names of an enclosing function that methods use."""
    inside = {id_ for node in ast.walk(kind) for id_ in _stored(node)}
    around = {id_ for node in _outside_of(outer, kind) for id_ in _stored(node)}
    for node in ast.walk(kind):
        if isinstance(node, FunctionNode):
            for name in ast.walk(node):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load) and name.id in around - inside:
                    yield finding(name, "closure", f"{name.id} of {outer.name}()")


def _outside_of(node: ast.AST, hidden: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if child is not hidden:
            yield child
            yield from _outside_of(child, hidden)


def _stored(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
