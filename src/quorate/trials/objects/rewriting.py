"""A person's file as another process would run it: sets in an order of their own, and other hashes.

How it works. The hash of a str differs from process to process, and so does the order of a set of them; all simulated
nodes are in one process. So in the file, and nowhere else, what iterates is rewritten to go over plain sets in an order
that a salt decides, and ``hash(x)`` to depend on that salt. Sets of numbers keep their order: there Python's is a
function of what was done to them. So do the sets of an object's state, which have an order of their own.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from hashlib import blake2b
from types import BuiltinMethodType
from typing import Any, Final

ORDERED: Final = "__quorate_ordered__"
HASHED: Final = "__quorate_hash__"
POPPED: Final = "__quorate_pop__"
ITERATING: Final = frozenset({"list", "tuple", "iter", "enumerate", "map", "filter", "zip", "sum", "dict", "reversed"})
"""Builtins whose result depends on the order of what they are given."""
ITERATING_METHODS: Final = frozenset({"join", "extend", "fromkeys"})
_NUMBERS: Final = (int, float, complex)


def rewritten(source: bytes, path: str) -> ast.Module:
    """The file's tree, rewritten. Raises SyntaxError, and ValueError for bytes that are not text."""
    tree: ast.Module = _Rewriter().visit(ast.parse(source, path))
    return ast.fix_missing_locations(tree)


def names_for(salt: bytes) -> dict[str, Any]:
    """What the names that a rewritten file uses mean to one process."""

    def ordered(value: Any) -> Any:
        if type(value) not in (set, frozenset) or all(_is_number(item) for item in value):
            return value
        return sorted(value, key=lambda item: _salted(salt, item))

    def hashed(value: Any) -> int:
        own = hash(value)
        return own if _is_number(value) else int.from_bytes(_salted(salt, value)[:7], "big")

    def popped(pop: Callable[..., Any]) -> Any:
        owner: Any = pop.__self__ if isinstance(pop, BuiltinMethodType) else None
        if type(owner) is not set or not owner:
            return pop()
        item = next(iter(ordered(owner)))
        owner.discard(item)
        return item

    return {ORDERED: ordered, HASHED: hashed, POPPED: popped}


def _is_number(value: Any) -> bool:
    if type(value) in (tuple, frozenset):
        return all(_is_number(item) for item in value)
    return isinstance(value, _NUMBERS)


def _salted(salt: bytes, item: Any) -> bytes:
    return blake2b(repr(item).encode("utf-8", "backslashreplace"), key=salt, digest_size=16).digest()


class _Rewriter(ast.NodeTransformer):
    """Wraps what is iterated. It is wrapped where it stands, so line numbers stay."""

    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        node.iter = _call(ORDERED, node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> Any:
        self.generic_visit(node)
        if not node.is_async:
            node.iter = _call(ORDERED, node.iter)
        return node

    def visit_Starred(self, node: ast.Starred) -> Any:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            node.value = _call(ORDERED, node.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        self.generic_visit(node)
        if any(isinstance(target, ast.Tuple | ast.List) for target in node.targets):
            node.value = _call(ORDERED, node.value)
        return node

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        function = node.func
        if isinstance(function, ast.Name) and function.id == "hash":
            function.id = HASHED
        elif _is_iterating(function):
            node.args = [_wrapped(argument) for argument in node.args]
        elif isinstance(function, ast.Attribute) and function.attr == "pop" and not node.args and not node.keywords:
            return ast.copy_location(_call(POPPED, function), node)
        return node


def _is_iterating(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in ITERATING
    return isinstance(function, ast.Attribute) and function.attr in ITERATING_METHODS


def _wrapped(argument: ast.expr) -> ast.expr:
    return argument if isinstance(argument, ast.Starred) else _call(ORDERED, argument)


def _call(name: str, argument: ast.expr) -> ast.Call:
    call = ast.Call(ast.Name(name, ast.Load()), [argument], [])
    return ast.copy_location(call, argument)
