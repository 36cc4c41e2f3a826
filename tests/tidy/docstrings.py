"""Docstrings of the layers that people call: whoever takes parameters says what they are.

A public function or method with parameters, in the layers named below, has a docstring: shapes, units, errors. One that
overrides a documented method has it there; one without parameters may say all by its name.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping

from .shape import is_repeat
from .tree import Violation, layer_of, parse

CALLED = frozenset({"runtime", "sim", "machines", "objects", "service", "trials"})
ELSEWHERE = frozenset({"Protocol", "RawIOBase"})
"""Classes of the standard library that document what is overridden here, as `asyncio.Protocol` does."""
DEPTH_MAX = 8
Function = ast.FunctionDef | ast.AsyncFunctionDef
Classes = Mapping[str, list[ast.ClassDef]]


def called_docstrings(sources: Mapping[str, str]) -> Iterator[Violation]:
    """What is public, takes parameters and says nothing of them; `sources` has the package's files by path."""
    classes: dict[str, list[ast.ClassDef]] = defaultdict(list)
    for source in sources.values():
        for node in parse(source).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(node)
    for path, source in sources.items():
        if layer_of(path) in CALLED:
            for node, owner in _public(parse(source).body):
                if not ast.get_docstring(node) and not (owner and _is_documented(node.name, owner, classes, DEPTH_MAX)):
                    name = f"{owner.name}.{node.name}" if owner else node.name
                    what = f"{name} is public, takes parameters and has no docstring"
                    yield Violation(path, node.lineno, "called-docstrings", what, "say shapes, units, errors raised")


def _public(body: list[ast.stmt]) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """Public functions and methods with parameters, each with its class."""
    for node in body:
        if isinstance(node, Function) and not node.name.startswith("_") and _parameters(node):
            if not is_repeat(node):
                yield node, None
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if isinstance(method, Function) and not method.name.startswith("_") and not is_repeat(method):
                    if _parameters(method) - {"self", "cls"}:
                        yield method, node


def _parameters(node: Function) -> set[str]:
    arguments = node.args
    every = (*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg)
    return {argument.arg for argument in every if argument is not None}


def _is_documented(name: str, owner: ast.ClassDef, classes: Classes, depth: int) -> bool:
    """Whether a base has a method of this name that says what it does."""
    for base in owner.bases:
        inner = base.value if isinstance(base, ast.Subscript) else base
        called = inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "id", "")
        if called in ELSEWHERE:
            return True
        for known in classes.get(called, []) if depth else []:
            methods = [node for node in known.body if isinstance(node, Function) and node.name == name]
            if any(ast.get_docstring(node) for node in methods) or _is_documented(name, known, classes, depth - 1):
                return True
    return False
