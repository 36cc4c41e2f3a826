"""Calls that are banned: what runs a string as code, and what differs from one process to the next."""

import ast
from collections.abc import Iterator

from .tree import PURE_LAYERS, Violation, layer_of, parse

CODE_FROM_STRINGS = frozenset({"eval", "exec"})
PROCESS_DEPENDENT = frozenset({"id", "hash"})
GUESSES = {"getattr": 2, "hasattr": 1}
"""With so many arguments beside the object; getattr without a default is no guess."""
OF_OTHERS = (
    "src/quorate/protocols/pbft/liars.py",
    "src/quorate/sim/adversary/",
    "src/quorate/sim/twins/",
    "src/quorate/trials/files.py",
)
"""What treats the messages of any protocol, or the names in somebody's file, as data."""
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def code_from_strings(path: str, source: str) -> Iterator[Violation]:
    """No eval, no exec."""
    for name in _builtin_names(parse(source), CODE_FROM_STRINGS):
        cure = "decode into a typed msgspec Struct, or use a table of functions"
        yield Violation(path, name.lineno, "code-from-strings", f"uses {name.id}()", cure)


def process_dependent(path: str, source: str) -> Iterator[Violation]:
    """No id() and no hash() in pure code: both change from run to run, and the run must not."""
    layer = layer_of(path)
    if layer not in PURE_LAYERS:
        return
    for name in _builtin_names(parse(source), PROCESS_DEPENDENT):
        cure = "compare by value; for a digest use hashlib over encoded bytes"
        yield Violation(path, name.lineno, "process-dependent", f"{layer} uses the builtin {name.id}()", cure)


def attribute_guesses(path: str, source: str) -> Iterator[Violation]:
    """No `getattr(x, "name", default)`, no `hasattr(x, "name")`: whoever has it says so by its type; guesses misspell.

    What a module of this platform may lack is no guess, and neither is a name that is computed.
    """
    if layer_of(path) is None or path.startswith(OF_OTHERS):
        return
    tree = parse(source)
    imported = {alias.asname or alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in GUESSES:
            of, *rest = node.args
            is_module = isinstance(of, ast.Name) and of.id in imported
            if len(rest) == GUESSES[node.func.id] and isinstance(rest[0], ast.Constant) and not is_module:
                cure = "give the base class a method or a field with a default, as Core.standing, or ask isinstance"
                what = f"guesses that something has a {rest[0].value}"
                yield Violation(path, node.lineno, "attribute-guesses", what, cure)


def _builtin_names(tree: ast.Module, banned: frozenset[str]) -> Iterator[ast.Name]:
    """Uses of a banned builtin, called or handed on (`key=id`), where no local name of the same spelling hides it."""
    yield from _walk(tree, banned, frozenset())


def _walk(node: ast.AST, banned: frozenset[str], hidden: frozenset[str]) -> Iterator[ast.Name]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load) and child.id in banned - hidden:
            yield child
        inner = hidden | _bound(child) if isinstance(child, Function) else hidden
        yield from _walk(child, banned, inner)


def _bound(function: Function) -> frozenset[str]:
    arguments = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    stores = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return frozenset(arguments | stores)
