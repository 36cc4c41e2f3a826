"""Sizes and docstrings: files and functions that fit a reader, and say what they are for."""

import ast
from collections.abc import Iterator

from .tree import PURE_LAYERS, Violation, layer_of, parse

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def file_length(path: str, source: str) -> Iterator[Violation]:
    """A file holds one subject."""
    lines = len(source.splitlines())
    if lines > FILE_LINES_MAX:
        what = f"{lines} lines, {FILE_LINES_MAX} allowed"
        yield Violation(path, FILE_LINES_MAX + 1, "file-length", what, "split it by subject")


def function_length(path: str, source: str) -> Iterator[Violation]:
    """A function fits a screen; decorators are not counted, the docstring is."""
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                what = f"{node.name} has {lines} lines, {FUNCTION_LINES_MAX} allowed"
                yield Violation(path, node.lineno, "function-length", what, "give its steps names of their own")


def module_docstring(path: str, source: str) -> Iterator[Violation]:
    """Every module of the package opens with its purpose."""
    if layer_of(path) is not None and not ast.get_docstring(parse(source)):
        cure = "open it with its purpose and how it works"
        yield Violation(path, 1, "module-docstring", "the module has no docstring", cure)


def handler_argument(path: str, source: str) -> Iterator[Violation]:
    """A handler's message is called m, as its fields stand in every line of it: `m.term`."""
    if layer_of(path) not in PURE_LAYERS:
        return
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.lstrip("_").startswith("on_"):
            names = [argument.arg for argument in node.args.args]
            if names[:2] == ["self", "sender"] and len(names) == 3 and names[2] != "m":
                what = f"{node.name} calls its message {names[2]}"
                yield Violation(path, node.lineno, "handler-argument", what, "call it m, as every handler does")


def kernel_docstrings(path: str, source: str) -> Iterator[Violation]:
    """Everything public in the kernel says what it is; authors of protocols read it first."""
    if layer_of(path) == "kernel":
        yield from _undocumented(path, parse(source).body)


def _undocumented(path: str, body: list[ast.stmt]) -> Iterator[Violation]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _undocumented(path, [*node.body, *node.orelse])
        if not isinstance(node, Definition) or node.name.startswith("_") or is_repeat(node):
            continue
        if not ast.get_docstring(node):
            what = f"{node.name} is public and has no docstring"
            cure = "say shapes, units, errors raised, source; or start its name with _"
            yield Violation(path, node.lineno, "kernel-docstrings", what, cure)
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(path, node.body)


def is_repeat(node: Definition) -> bool:
    """An overload or a property's setter: its docstring stands on the other definition."""
    names = {d.attr if isinstance(d, ast.Attribute) else getattr(d, "id", "") for d in node.decorator_list}
    return bool(names & {"overload", "setter", "deleter", "override"})
