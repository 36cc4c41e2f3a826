"""A small static inference: which expression is a set.

It knows annotations, assignments, set operators and methods, what functions and properties return, attributes of the
classes of the package, and sets inside dicts and lists. It follows no control flow: a name that is a set anywhere in a
function is a set everywhere in it (mypy keeps people from reusing a name for another type). Unknown is None.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

SETS = frozenset({"set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet"})
MAPS = frozenset({"dict", "Dict", "defaultdict", "DefaultDict", "Mapping", "MutableMapping", "OrderedDict"})
SEQUENCES = frozenset({"list", "List", "Sequence", "deque", "Iterable", "Iterator", "Collection", "tuple", "Tuple"})
WRAPPERS = frozenset({"Optional", "Final", "ClassVar", "Annotated", "Required", "NotRequired"})
SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
PROPERTIES = frozenset({"property", "cached_property"})
Function = ast.FunctionDef | ast.AsyncFunctionDef
Binding = ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.For | ast.AsyncFor
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(frozen=True)
class Kind:
    """What an expression is: set, map (item: its values), seq, pairs (item: the second of each), object, class."""

    name: str
    item: Kind | None = None
    cls: str = ""


SET = Kind("set")
Env = dict[str, Kind]


@dataclass
class Members:
    """What the members of one class are; a member that is known to be no set is there with None."""

    bases: list[str] = field(default_factory=list)
    attributes: dict[str, Kind | None] = field(default_factory=dict)
    methods: dict[str, Kind | None] = field(default_factory=dict)


@dataclass
class Facts:
    """Classes, functions and aliases by their bare names, of one module or of the whole package."""

    classes: dict[str, Members] = field(default_factory=dict)
    functions: dict[str, Kind | None] = field(default_factory=dict)
    aliases: dict[str, Kind] = field(default_factory=dict)

    def merge(self, other: Facts) -> Facts:
        """Both, `other` winning: a module's own names hide those of the package."""
        return Facts(
            {**self.classes, **other.classes},
            {**self.functions, **other.functions},
            {**self.aliases, **other.aliases},
        )

    def member(self, cls: str, name: str, called: bool, depth: int = 8) -> Kind | None:
        """An attribute's kind, or what a method returns; looks through the bases."""
        members = self.classes.get(cls)
        if members is None or depth == 0:
            return None
        table = members.methods if called else members.attributes
        if name in table:
            return table[name]
        found = (self.member(base, name, called, depth - 1) for base in members.bases)
        return next((kind for kind in found if kind), None)

    def anyones_member(self, name: str, called: bool) -> Kind | None:
        """The kind that every class which has such a member agrees on; for a base of unknown type."""
        tables = ((m.methods if called else m.attributes) for m in self.classes.values())
        kinds = [table[name] for table in tables if name in table]
        return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else None


def of_annotation(node: ast.expr | None, facts: Facts) -> Kind | None:
    """The kind a type annotation promises."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return of_annotation(ast.parse(node.value, mode="eval").body, facts)
        except SyntaxError:
            return None
    if isinstance(node, ast.BinOp):
        return of_annotation(node.left, facts) or of_annotation(node.right, facts)
    if isinstance(node, ast.Subscript):
        return _of_generic(name_of(node.value), node.slice, facts)
    name = name_of(node)
    if name in SETS:
        return SET
    return facts.aliases.get(name) or (Kind("object", cls=name) if name in facts.classes else None)


def _of_generic(name: str, inside: ast.expr, facts: Facts) -> Kind | None:
    arguments = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if name in SETS:
        return SET
    if name in MAPS:
        return Kind("map", of_annotation(arguments[-1], facts))
    if name in SEQUENCES:
        return Kind("seq", of_annotation(arguments[0], facts))
    if name in WRAPPERS:
        return of_annotation(arguments[0], facts)
    return Kind("object", cls=name) if name in facts.classes else None


def infer(node: ast.expr | None, env: Mapping[str, Kind], facts: Facts) -> Kind | None:
    """The kind of an expression."""
    match node:
        case ast.Set() | ast.SetComp():
            return SET
        case ast.Name():
            return env.get(node.id)
        case ast.Attribute():
            return _member(node, env, facts, called=False)
        case ast.Call():
            return _of_call(node, env, facts)
        case ast.BinOp():
            return _of_operator(node, env, facts)
        case ast.IfExp():
            return infer(node.body, env, facts) or infer(node.orelse, env, facts)
        case ast.BoolOp():
            return next((kind for value in node.values if (kind := infer(value, env, facts))), None)
        case ast.NamedExpr() | ast.Await():
            return infer(node.value, env, facts)
        case ast.Subscript():
            base = infer(node.value, env, facts)
            if base and base.name == "seq" and isinstance(node.slice, ast.Slice):
                return base
            return base.item if base and base.name in ("map", "seq") else None
        case ast.List() | ast.Tuple():
            return Kind("seq", next((k for e in node.elts if (k := infer(e, env, facts))), None))
        case ast.Dict():
            return Kind("map", next((k for v in node.values if (k := infer(v, env, facts))), None))
        case ast.ListComp() | ast.GeneratorExp():
            return Kind("seq", infer(node.elt, inside(node, env, facts), facts))
        case ast.DictComp():
            return Kind("map", infer(node.value, inside(node, env, facts), facts))
    return None


def _member(node: ast.Attribute, env: Mapping[str, Kind], facts: Facts, called: bool) -> Kind | None:
    base = infer(node.value, env, facts)
    if base is None:
        return facts.anyones_member(node.attr, called)
    return facts.member(base.cls, node.attr, called) if base.name in ("object", "class") else None


def _of_operator(node: ast.BinOp, env: Mapping[str, Kind], facts: Facts) -> Kind | None:
    if not isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        left = infer(node.left, env, facts)
        return left if left and left.name == "seq" else None
    sides = (node.left, node.right)
    if any(infer(side, env, facts) == SET or is_view(side) for side in sides):
        return SET
    return infer(node.left, env, facts)


def is_view(node: ast.expr) -> bool:
    """d.keys() or d.items(): ordered by itself, but an operator on it makes a set."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items")


def _of_call(node: ast.Call, env: Mapping[str, Kind], facts: Facts) -> Kind | None:
    if isinstance(node.func, ast.Attribute):
        return _of_method(node, node.func, env, facts)
    name = name_of(node.func)
    first = node.args[0] if node.args else None
    if name in ("set", "frozenset"):
        return SET
    if name == "defaultdict":
        made = first.body if isinstance(first, ast.Lambda) else None
        return Kind("map", SET if name_of(first) in ("set", "frozenset") else infer(made, env, facts))
    if name in ("sorted", "list", "tuple", "reversed", "iter", "deque"):
        return Kind("seq", item_of(infer(first, env, facts)))
    if name == "enumerate":
        return Kind("pairs", item_of(infer(first, env, facts)))
    if name == "dict":
        return infer(first, env, facts)
    if name in facts.functions:
        return facts.functions[name]
    return Kind("object", cls=name) if name in facts.classes else None


def _of_method(node: ast.Call, func: ast.Attribute, env: Mapping[str, Kind], facts: Facts) -> Kind | None:
    base = infer(func.value, env, facts)
    if func.attr in SET_METHODS and (base == SET or name_of(func.value) in ("set", "frozenset")):
        return SET
    if base and base.name == "map":
        if func.attr in ("get", "setdefault", "pop"):
            return base.item or (infer(node.args[1], env, facts) if len(node.args) > 1 else None)
        return {"values": Kind("seq", base.item), "items": Kind("pairs", base.item), "copy": base}.get(func.attr)
    if base and base.name == "seq" and func.attr in ("pop", "popleft"):
        return base.item
    return _member(func, env, facts, called=True)


def item_of(kind: Kind | None) -> Kind | None:
    """What iterating gives; of pairs, another kind whose second part is known."""
    if kind is None:
        return None
    if kind.name == "pairs":
        return Kind("pair", kind.item)
    return kind.item if kind.name == "seq" else None


def bind(target: ast.expr, kind: Kind | None, env: Env) -> None:
    """Note what `target` is after `target = <kind>`."""
    if kind is None:
        return
    if isinstance(target, ast.Name):
        env[target.id] = kind if kind.name != "pair" else Kind("seq", kind.item)
    elif isinstance(target, ast.Tuple | ast.List) and kind.name == "pair" and len(target.elts) == 2:
        bind(target.elts[1], kind.item, env)
    elif isinstance(target, ast.Tuple | ast.List) and kind.name == "seq":
        for element in target.elts:
            bind(element, kind.item, env)


def inside(node: Comprehension, env: Mapping[str, Kind], facts: Facts) -> Env:
    """The names as a comprehension sees them."""
    inner = dict(env)
    for generator in node.generators:
        for name in ast.walk(generator.target):
            if isinstance(name, ast.Name):
                inner.pop(name.id, None)
        bind(generator.target, item_of(infer(generator.iter, inner, facts)), inner)
    return inner


def name_of(node: ast.AST | None) -> str:
    """`x` for x and for a.b.x; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


@lru_cache(maxsize=65_536)
def own_bindings(scope: Function | ast.Module) -> tuple[Binding, ...]:
    """What binds names in a scope, and not inside functions, classes, lambdas and comprehensions within it."""
    found: list[Binding] = []
    waiting: list[ast.AST] = list(reversed(scope.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, Binding):
            found.append(node)
        if not isinstance(node, Function | ast.ClassDef | ast.Lambda | Comprehension):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))
    return tuple(found)
