"""Which rule looks at which file."""

from collections.abc import Callable, Iterator, Mapping

from . import calls, imports, objects, shape, text
from .circles import circles
from .docstrings import called_docstrings
from .links import links
from .names import double_names
from .scopes import package_facts
from .sets import LAYERS, set_iteration
from .tree import Violation, files, layer_of, parse, text_of

Rule = Callable[[str, str], Iterator[Violation]]

PYTHON_FOLDERS = ("src/", "tests/", "bench/", "examples/")
PYTHON_RULES: dict[str, Rule] = {
    "layers": imports.layers,
    "equipment-imports": imports.equipment_imports,
    "kernel-imports": imports.kernel_imports,
    "pure-imports": imports.pure_imports,
    "waiting-imports": imports.waiting_imports,
    "serializers": imports.serializers,
    "code-from-strings": calls.code_from_strings,
    "process-dependent": calls.process_dependent,
    "attribute-guesses": calls.attribute_guesses,
    "private-attributes": objects.private_attributes,
    "cores-alone": objects.cores_alone,
    "file-length": shape.file_length,
    "function-length": shape.function_length,
    "handler-argument": shape.handler_argument,
    "module-docstring": shape.module_docstring,
    "kernel-docstrings": shape.kernel_docstrings,
}
TEXT_RULES: dict[str, Rule] = {
    "machine-paths": text.machine_paths,
    "index-addresses": text.index_addresses,
    "conflict-markers": text.conflict_markers,
}
PackageRule = Callable[[Mapping[str, str]], Iterator[Violation]]
PACKAGE_RULES: dict[str, PackageRule] = {
    "import-circles": circles,
    "double-names": double_names,
    "called-docstrings": called_docstrings,
}
"""They look at all files of the package at once, by path."""
NAMES = (*PYTHON_RULES, *PACKAGE_RULES, "set-iteration", *TEXT_RULES, "links")


def check(name: str) -> list[Violation]:
    """Every violation of one rule in this checkout."""
    if name == "links":
        return _check_links()
    if name in TEXT_RULES:
        return [found for path, source in _texts() for found in TEXT_RULES[name](path, source)]
    python = {path: source for path, source in _texts() if path.endswith(".py") and path.startswith(PYTHON_FOLDERS)}
    broken = [found for path, source in python.items() for found in syntax(path, source)]
    if broken:
        return broken
    if name in PACKAGE_RULES:
        package = {path: source for path, source in python.items() if layer_of(path) is not None}
        return list(PACKAGE_RULES[name](package))
    if name == "set-iteration":
        facts = package_facts([source for path, source in python.items() if layer_of(path) in LAYERS])
        return [found for path, source in python.items() for found in set_iteration(path, source, facts)]
    return [found for path, source in python.items() for found in PYTHON_RULES[name](path, source)]


def syntax(path: str, source: str) -> Iterator[Violation]:
    """What does not parse cannot be checked."""
    try:
        parse(source)
    except SyntaxError as error:
        yield Violation(path, error.lineno or 1, "syntax", f"does not parse, {error.msg}", "mend it")


def _texts() -> Iterator[tuple[str, str]]:
    for path in files():
        if (source := text_of(path)) is not None:
            yield path, source


def _check_links() -> list[Violation]:
    names = files()
    folders = {"/".join(name.split("/")[:depth]) for name in names for depth in range(1, name.count("/") + 1)}
    known = frozenset({*names, *folders, "."})
    pages = [(name, source) for name in names if name.endswith(".md") and (source := text_of(name)) is not None]
    return [found for path, source in pages for found in links(path, source, known, text_of)]
