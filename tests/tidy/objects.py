"""Objects that stand alone: none touches another's private attributes, and no core hands itself to its parts."""

import ast
from collections.abc import Iterator

from .tree import Violation, layer_of, parse

NAMED_TUPLE = frozenset({"_asdict", "_fields", "_make", "_replace"})
OF_PYTHON = frozenset({"os._exit", "sys._current_frames"})
"""Public, whatever its name begins with."""


def private_attributes(path: str, source: str) -> Iterator[Violation]:
    """What begins with an underscore is touched through self, cls or super() alone."""
    if layer_of(path) is None:
        return
    for node in ast.walk(parse(source)):
        if not isinstance(node, ast.Attribute) or ast.unparse(node) in OF_PYTHON:
            continue
        if _is_private(node.attr) and not _is_own(node.value):
            cure = "give that object a public attribute or a method that says what is wanted"
            yield Violation(path, node.lineno, "private-attributes", f"touches {ast.unparse(node)}", cure)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


def _is_own(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return node.id in ("self", "cls")
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def cores_alone(path: str, source: str) -> Iterator[Violation]:
    """In a protocol no object hands itself on, so no part has the core: it gets what it needs when it is made."""
    if layer_of(path) != "protocols":
        return
    for node in ast.walk(parse(source)):
        for given in _given(node):
            if isinstance(given, ast.Starred):
                given = given.value
            for name in given.elts if isinstance(given, ast.Tuple | ast.List) else [given]:
                if isinstance(name, ast.Name) and name.id == "self":
                    cure = "give it Env, config and the few objects or callables that it needs"
                    yield Violation(path, name.lineno, "cores-alone", "hands on the whole of self", cure)


def _given(node: ast.AST) -> list[ast.expr]:
    """What a call passes on, or an assignment stores."""
    if isinstance(node, ast.Call):
        return [*node.args, *(keyword.value for keyword in node.keywords)]
    return [node.value] if isinstance(node, ast.Assign | ast.AnnAssign) and node.value else []
