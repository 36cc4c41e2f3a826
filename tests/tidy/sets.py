"""No iteration over a set in code that must run the same everywhere.

The order of a set of str or bytes follows PYTHONHASHSEED, so two replays of one run would differ. `sorted` is the way
out; so is a consumer that cannot see the order (any, all, len, set, a set comprehension).
"""

import ast
from collections.abc import Iterator

from .kinds import SET, Comprehension, Env, Facts, Function, infer, inside
from .scopes import add_assigned, env_of, facts_of
from .tree import PURE_LAYERS, Violation, layer_of, parse

LAYERS = PURE_LAYERS | {"sim"}
ORDER_FREE = frozenset({"sorted", "set", "frozenset", "any", "all", "len", "sum", "min", "max"})
ORDERED_CALLS = frozenset({"list", "tuple", "enumerate", "iter", "zip", "map", "filter", "deque", "chain", "product"})
ORDERED_METHODS = frozenset({"join", "extend", "extendleft", "fromkeys"})


def set_iteration(path: str, source: str, package: Facts | None = None) -> Iterator[Violation]:
    """Loops, comprehensions, conversions and unpackings of what is statically a set."""
    if layer_of(path) not in LAYERS:
        return
    finder = _Finder(facts_of(source, package))
    finder.visit(parse(source))
    for node, how in sorted(finder.found, key=lambda item: (item[0].lineno, item[0].col_offset)):
        what = f"{how} the set `{ast.unparse(node)}`"
        cure = "wrap it in sorted(...), or keep a dict or a bit mask instead"
        yield Violation(path, node.lineno, "set-iteration", what, cure)


class _Finder(ast.NodeVisitor):
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.env: Env = {}
        self.cls = ""
        self.found: list[tuple[ast.expr, str]] = []
        self.harmless: list[ast.expr] = []  # comprehensions whose consumer cannot see an order

    def _flag(self, node: ast.expr, how: str) -> None:
        if infer(node, self.env, self.facts) == SET:
            self.found.append((node, how))

    def visit_Module(self, node: ast.Module) -> None:
        add_assigned(node, self.env, self.facts)
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        before, self.cls = self.cls, node.name
        self.generic_visit(node)
        self.cls = before

    def visit_FunctionDef(self, node: Function) -> None:
        env, cls = self.env, self.cls
        self.env, self.cls = env_of(node, env, self.facts, cls), ""
        self.generic_visit(node)
        self.env, self.cls = env, cls

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._flag(node.iter, "loops over")
        self.generic_visit(node)

    visit_AsyncFor = visit_For

    def _comprehension(self, node: Comprehension) -> None:
        ordered = not isinstance(node, ast.SetComp) and node not in self.harmless
        env, self.env = self.env, inside(node, self.env, self.facts)
        if ordered:
            for generator in node.generators:
                self._flag(generator.iter, "comprehends")
        self.generic_visit(node)
        self.env = env

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        # min and max with a key, and ties, give whichever came first.
        if name in ORDER_FREE and not (name in ("min", "max") and node.keywords):
            self.harmless += node.args[:1]
        elif name in ("min", "max") and len(node.args) == 1:
            self._flag(node.args[0], f"{name} with a key, ties in the order of")
        if name in ORDERED_CALLS or method in ORDERED_METHODS or method in ORDERED_CALLS - {"filter", "map"}:
            for argument in node.args:
                self._flag(argument, f"{name or method}() of")
        if method == "pop" and not node.args and isinstance(node.func, ast.Attribute):
            self._flag(node.func.value, "pop() of any element of")
        self.generic_visit(node)

    def visit_Starred(self, node: ast.Starred) -> None:
        if isinstance(node.ctx, ast.Load):
            self._flag(node.value, "unpacks")
        self.generic_visit(node)

    def visit_Set(self, node: ast.Set) -> None:
        for element in node.elts:  # {*a, *b} is a set again
            self.visit(element.value if isinstance(element, ast.Starred) else element)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Tuple | ast.List) for target in node.targets):
            self._flag(node.value, "unpacks")
        self.generic_visit(node)

    def visit_YieldFrom(self, node: ast.YieldFrom) -> None:
        self._flag(node.value, "yields from")
        self.generic_visit(node)
