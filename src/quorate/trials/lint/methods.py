"""What one function of a replicated class may not do. Functions inside it count as its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from quorate.trials.lint.findings import Finding, finding
from quorate.trials.lint.names import dotted, rule_of

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
MUTATING: Final = frozenset(
    {
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "popitem",
        "clear",
        "sort",
        "reverse",
        "update",
        "setdefault",
        "add",
        "discard",
        "difference_update",
        "intersection_update",
        "symmetric_difference_update",
        "__setitem__",
        "__delitem__",
        "__setattr__",
    }
)
ORDERED_USES: Final = frozenset({"list", "tuple", "iter", "enumerate", "map", "filter", "zip", "sum", "reversed"})
ORDERED_METHODS: Final = frozenset({"join", "extend", "fromkeys"})
UNORDERED_USES: Final = frozenset({"any", "all", "sorted", "set", "frozenset", "min", "max", "len"})
"""Whose result is the same in every order."""
SET_METHODS: Final = frozenset({"union", "intersection", "difference", "symmetric_difference"})
MUTABLE_CALLS: Final = frozenset({"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"})
_MUTABLE: Final = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_SET_OPERATORS: Final = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)


def is_mutable(node: ast.expr | None) -> bool:
    """Whether this makes something that can be changed."""
    if isinstance(node, ast.Call):
        function = node.func
        name = (
            function.attr
            if isinstance(function, ast.Attribute)
            else function.id
            if isinstance(function, ast.Name)
            else ""
        )
        return name in MUTABLE_CALLS
    return isinstance(node, _MUTABLE)


def is_set_annotation(node: ast.expr | None) -> bool:
    """``set``, ``frozenset[str]``, ``typing.Set[int]``."""
    if isinstance(node, ast.Subscript):
        node = node.value
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in ("set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet")


class FunctionRules:
    """The findings of one function. ``sets``: attributes of self that are known to be plain sets."""

    def __init__(self, function: FunctionNode, names: dict[str, str], sets: frozenset[str]) -> None:
        self._function = function
        self._bound = _bound(function)
        self._names = {
            name: full for name, full in names.items() if name not in self._bound or _is_import(function, name)
        }
        arguments = function.args
        every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        self._sets = {one.arg for one in every if is_set_annotation(one.annotation)}
        self._attributes = sets
        self._unordered = frozenset(_unordered(function))
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and self.is_set(node.value):
                self._sets |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                if is_set_annotation(node.annotation):
                    self._sets.add(node.target.id)

    def check(self, mark: str) -> Iterator[Finding]:
        """All of them; ``mark`` is how the method is marked, if it is."""
        yield from self._defaults()
        for node in ast.walk(self._function):
            yield from self._outside(node)
            yield from self._orders(node)
            if isinstance(node, ast.Global):
                yield finding(node, "global", f"global {', '.join(node.names)}")
            if mark in ("read", "invariant"):
                yield from self._changes(node, f"{mark}-changes")

    def _defaults(self) -> Iterator[Finding]:
        arguments = self._function.args
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None and is_mutable(default):
                yield finding(default, "default-argument", f"a mutable default argument: {ast.unparse(default)}")

    def _outside(self, node: ast.AST) -> Iterator[Finding]:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            return
        if isinstance(node, ast.Name | ast.Attribute):
            yield from self._used(node)
        if isinstance(node, ast.Call) and not node.args and dotted(node.func, self._names) == "random.Random":
            yield finding(node, "chance", "random.Random()")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in self._bound:
            name, first = node.func.id, node.args[0] if node.args else None
            if name == "id":
                yield finding(node, "id", "id()")
            elif name == "hash" and not (isinstance(first, ast.Constant) and isinstance(first.value, int)):
                yield finding(node, "hash", "hash()")
            elif name == "float" and isinstance(first, ast.Constant) and _is_nan(first.value):
                yield finding(node, "nan", ast.unparse(node))

    def _used(self, node: ast.Name | ast.Attribute) -> Iterator[Finding]:
        name = dotted(node, self._names)
        if name is None or (isinstance(node, ast.Name) and node.id in self._bound and node.id not in self._names):
            return
        rule = rule_of(name)
        # A module alone is the beginning of a longer name, which is looked at too.
        if rule is not None and (isinstance(node, ast.Attribute) or "." in name or name in ("open", "input")):
            if isinstance(node, ast.Name) and name.count(".") == 1 and name in ("datetime.datetime", "datetime.date"):
                return
            yield finding(node, rule, name)

    def _orders(self, node: ast.AST) -> Iterator[Finding]:
        if node in self._unordered:
            return
        iterated: list[ast.expr] = []
        if isinstance(node, ast.For | ast.comprehension):
            iterated = [node.iter]
        elif isinstance(node, ast.Starred):
            iterated = [node.value]
        elif isinstance(node, ast.Call):
            iterated = _iterated_by(node)
        for one in iterated:
            if self.is_set(one):
                yield finding(one, "set-order", f"the order of a set: {ast.unparse(one)}")

    def is_set(self, node: ast.expr) -> bool:
        """Whether this is a plain set, as far as the file says."""
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        if isinstance(node, ast.Name):
            return node.id in self._sets
        if isinstance(node, ast.Attribute):
            return _is_self(node.value) and node.attr in self._attributes
        if isinstance(node, ast.BinOp) and isinstance(node.op, _SET_OPERATORS):
            return self.is_set(node.left) or self.is_set(node.right)
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                return node.func.id in ("set", "frozenset") and bool(node.args)
            if isinstance(node.func, ast.Attribute):
                return node.func.attr in SET_METHODS and self.is_set(node.func.value)
        return False

    def _changes(self, node: ast.AST, rule: str) -> Iterator[Finding]:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = list(node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATING:
            of = node.func.value
            if (isinstance(of, ast.Attribute | ast.Subscript) and _is_of_self(of)) or _is_past(node):
                yield finding(node, rule, f"{ast.unparse(node.func)}() in a method that only reads")
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
            for part in parts:
                if isinstance(part, ast.Attribute | ast.Subscript) and _is_of_self(part):
                    yield finding(part, rule, f"{ast.unparse(part)} is changed in a method that only reads")


def _iterated_by(call: ast.Call) -> list[ast.expr]:
    function = call.func
    if isinstance(function, ast.Name):
        return list(call.args) if function.id in ORDERED_USES else []
    if isinstance(function, ast.Attribute):
        if function.attr in ORDERED_METHODS:
            return list(call.args)
        if function.attr == "pop" and not call.args:
            return [function.value]
    return []


def _is_past(node: ast.Call) -> bool:
    """``object.__setattr__(self, ...)``, ``vars(self).update(...)``, ``list.append(self.rows, ...)``."""
    function = node.func
    assert isinstance(function, ast.Attribute)
    first = node.args[0] if node.args else None
    of = function.value
    if isinstance(of, ast.Call):
        return isinstance(of.func, ast.Name) and of.func.id == "vars" and bool(of.args) and _is_of_self(of.args[0])
    return (
        isinstance(of, ast.Name)
        and of.id in ("object", "list", "dict", "set")
        and first is not None
        and _is_of_self(first)
    )


def _is_nan(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower().lstrip("+-") == "nan"


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _is_of_self(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "vars" and node.args:
        node = node.args[0]
    return _is_self(node)


def _unordered(function: FunctionNode) -> Iterator[ast.AST]:
    """The loops of comprehensions of which the order is not seen."""
    for node in ast.walk(function):
        if isinstance(node, ast.SetComp):
            yield from node.generators
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in UNORDERED_USES:
            for argument in node.args:
                if isinstance(argument, ast.GeneratorExp | ast.ListComp):
                    yield from argument.generators


def _bound(function: FunctionNode) -> frozenset[str]:
    arguments = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    stores = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    inner = {node.name for node in ast.walk(function) if isinstance(node, FunctionNode) and node is not function}
    return frozenset(arguments | stores | inner)


def _is_import(function: FunctionNode, name: str) -> bool:
    return any(
        (alias.asname or alias.name.partition(".")[0]) == name
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    )
