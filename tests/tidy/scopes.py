"""What names mean: the facts of a module, and the names of one function."""

import ast
from collections.abc import Iterable

from .kinds import (
    PROPERTIES,
    Env,
    Facts,
    Function,
    Kind,
    Members,
    bind,
    infer,
    item_of,
    name_of,
    of_annotation,
    own_bindings,
)
from .tree import parse


def facts_of(source: str, package: Facts | None = None) -> Facts:
    """What a module's own definitions say, read with what is known of the rest of the package."""
    tree = parse(source)
    facts = (package or Facts()).merge(
        Facts({n.name: Members() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)})
    )
    for statement in tree.body:
        _add_alias(statement, facts)
    for statement in tree.body:
        if isinstance(statement, Function):
            facts.functions[statement.name] = of_annotation(statement.returns, facts)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for node in classes:
        _add_declared(node, facts)
    for _ in range(2):  # the second time, attributes that are made from other attributes are known
        for node in classes:
            _add_assigned(node, facts)
    return facts


def package_facts(sources: Iterable[str]) -> Facts:
    """The facts of many modules. A name that two of them define is dropped: no guesses."""
    known = Facts()
    for _ in range(2):  # the second time, a class may have attributes of a class that was read after it
        twice: set[str] = set()
        total = Facts()
        for source in sources:
            own = _own(source, facts_of(source, known))
            twice |= (total.classes.keys() & own.classes.keys()) | (total.functions.keys() & own.functions.keys())
            total = total.merge(own)
        for table in (total.classes, total.functions):
            for name in twice & table.keys():
                del table[name]
        known = total
    return known


def _own(source: str, facts: Facts) -> Facts:
    nodes = list(ast.walk(parse(source)))
    classes = {node.name: facts.classes[node.name] for node in nodes if isinstance(node, ast.ClassDef)}
    names = {node.name for node in parse(source).body if isinstance(node, Function)}
    return Facts(classes, {name: facts.functions[name] for name in names}, dict(facts.aliases))


def _add_alias(node: ast.stmt, facts: Facts) -> None:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        name, value = node.targets[0].id, node.value
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        if name_of(node.annotation) != "TypeAlias":
            return
        name, value = node.target.id, node.value
    else:
        return
    if isinstance(value, ast.Subscript | ast.Name | ast.BinOp) and (kind := of_annotation(value, facts)):
        facts.aliases[name] = kind


def _add_declared(node: ast.ClassDef, facts: Facts) -> None:
    members = facts.classes[node.name]
    members.bases = [name_of(base) for base in node.bases]
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            members.attributes[item.target.id] = of_annotation(item.annotation, facts)
        elif isinstance(item, ast.Assign):
            for target in item.targets:
                members.attributes[name_of(target)] = infer(item.value, {}, facts)
        elif isinstance(item, Function):
            is_property = any(name_of(decorator) in PROPERTIES for decorator in item.decorator_list)
            table = members.attributes if is_property else members.methods
            table[item.name] = of_annotation(item.returns, facts)


def _add_assigned(node: ast.ClassDef, facts: Facts) -> None:
    """What methods store in self."""
    attributes = facts.classes[node.name].attributes
    for method in node.body:
        if not isinstance(method, Function):
            continue
        env = env_of(method, {}, facts, node.name)
        for item in own_bindings(method):
            if not isinstance(item, ast.Assign | ast.AnnAssign):
                continue
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and env.get(name_of(target.value)) == Kind(
                    "object", cls=node.name
                ):
                    declared = of_annotation(item.annotation, facts) if isinstance(item, ast.AnnAssign) else None
                    kind = declared or infer(item.value, env, facts)
                    attributes[target.attr] = attributes.get(target.attr) or kind


def env_of(function: Function, outer: Env, facts: Facts, cls: str = "") -> Env:
    """The names of a function: arguments, what encloses it, what it assigns. `cls` is the class it is a method of."""
    env = dict(outer)
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    for argument in [*positional, *arguments.kwonlyargs]:
        env.pop(argument.arg, None)
        if kind := of_annotation(argument.annotation, facts):
            env[argument.arg] = kind
    if arguments.vararg and (kind := of_annotation(arguments.vararg.annotation, facts)):
        env[arguments.vararg.arg] = Kind("seq", kind)
    if cls and positional and "staticmethod" not in {name_of(d) for d in function.decorator_list}:
        env[positional[0].arg] = Kind("object", cls=cls)
    add_assigned(function, env, facts)
    return env


def add_assigned(scope: Function | ast.Module, env: Env, facts: Facts) -> None:
    """Note what the statements of a scope assign; twice, for names used before the line that makes them sets."""
    for _ in range(2):
        for node in own_bindings(scope):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    bind(target, infer(node.value, env, facts), env)
            elif isinstance(node, ast.AnnAssign):
                bind(node.target, of_annotation(node.annotation, facts) or infer(node.value, env, facts), env)
            elif isinstance(node, ast.NamedExpr):
                bind(node.target, infer(node.value, env, facts), env)
            else:
                bind(node.target, item_of(infer(node.iter, env, facts)), env)
