"""Calls that are banned: what runs a string as code, and what differs from one process to the next."""

import ast
from collections.abc import Iterator

from .tree import PURE_LAYERS, Violation, layer_of, parse

CODE_FROM_STRINGS = frozenset({"eval", "exec"})
PROCESS_DEPENDENT = frozenset({"id", "hash"})
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
