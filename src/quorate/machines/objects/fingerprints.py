"""Fingerprints of methods: whether two nodes run the same code, told before their states differ.

A fingerprint is a hash of the method's syntax tree and of those methods of the class that it calls by name, however
indirectly. Comments, docstrings, annotations, decorators, the method's own name and the layout do not count. The tree
is written out here, field by field, leaving out what is empty: neither `ast.dump` nor `ast.unparse` writes the same in
all versions of Python. A method without source (typed into an interpreter, or compiled only) has no fingerprint, and is
not compared. Functions of the module that a method calls do not count: the audits of the state find those.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
import types
from collections.abc import Iterator
from typing import Any

FINGERPRINT_BYTES = 8
_UNREAD = frozenset({"annotation", "ctx", "decorator_list", "kind", "returns", "type_comment", "type_params"})


def fingerprint(kind: type[Any], name: str) -> bytes | None:
    """Of a method of a class; None if there is no source to see."""
    method = _function(kind, name)
    tree = None if method is None else _tree(method)
    if tree is None:
        return None
    seen = {name}
    parts = [_written(tree)]
    waiting = _called(tree)
    while waiting:
        called = waiting.pop(0)
        if called in seen:
            continue
        seen.add(called)
        helper = _function(kind, called)
        if helper is None:
            continue
        tree = _tree(helper)
        if tree is None:
            return None
        parts.append(called + _written(tree))
        waiting += _called(tree)
    return hashlib.blake2b("\n".join([parts[0], *sorted(parts[1:])]).encode(), digest_size=FINGERPRINT_BYTES).digest()


def _function(kind: type[Any], name: str) -> types.FunctionType | None:
    for owner in kind.__mro__:
        if name in vars(owner):
            value = vars(owner)[name]
            if isinstance(value, staticmethod | classmethod):
                value = value.__func__
            elif isinstance(value, property):
                value = value.fget
            return value if isinstance(value, types.FunctionType) else None
    return None


def _tree(function: types.FunctionType) -> ast.FunctionDef | None:
    inner = inspect.unwrap(function)
    try:
        found = ast.parse(textwrap.dedent(inspect.getsource(inner))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    # A file that was edited since it was imported has other lines at that place.
    return found if isinstance(found, ast.FunctionDef) and found.name == inner.__code__.co_name else None


def _called(tree: ast.AST) -> list[str]:
    """What the method may use of its own class; not what it calls of its base classes."""
    return sorted(node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and not _is_super(node.value))


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _written(tree: ast.FunctionDef) -> str:
    body = tree.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and type(body[0].value.value) is str:
        body = body[1:]
    return "".join(_pieces([tree.args, *body]))


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for field in value._fields:
            inner = getattr(value, field)
            if field not in _UNREAD and inner is not None and inner != []:
                yield f"{field}="
                yield from _pieces(inner)
        yield ")"
    elif isinstance(value, list):
        yield "["
        for item in value:
            yield from _pieces(item)
        yield "]"
    else:
        yield f"{type(value).__name__}:{value!r},"
