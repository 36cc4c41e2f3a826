"""No circle among the modules of the package: whoever reads one needs those below it, and never itself.

Every import counts, in a function and under TYPE_CHECKING too: these only move the moment at which Python looks, and
whoever wants to read, test or replace one of the two modules needs the other all the same. What opens a circle is that
the lower module says what it needs, in a `typing.Protocol` of its own (or takes it as an argument), and that a third
module, which knows both, brings them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .tree import Violation, imports_of

Graph = dict[str, dict[str, int]]
"""By module, those that it imports, each with the line that does."""


def circles(sources: Mapping[str, str]) -> Iterator[Violation]:
    """One violation for each group of modules that import each other; `sources` has the package's files by path."""
    graph = graph_of(sources)
    paths = {module_of(path): path for path in sources}
    for group in _components(graph):
        circle = _shortest(graph, group)
        line = graph[circle[0]][circle[1]]
        what = f"a circle of imports: {' -> '.join(name.removeprefix('quorate.') for name in circle)}"
        if len(group) > len(circle) - 1:
            what += f" (in a tangle of {len(group)} modules)"
        cure = "let the lower one state what it needs as a typing.Protocol, and a third bring them together"
        yield Violation(paths[circle[0]], line, "import-circles", what, cure)


def graph_of(sources: Mapping[str, str]) -> Graph:
    """Who imports whom. To import a.b.c runs a.b too, so whoever is not in a.b imports that as well."""
    modules = {module_of(path) for path in sources}
    graph: Graph = {}
    for path, source in sources.items():
        module = module_of(path)
        edges = graph[module] = {}
        for found in imports_of(path, source):
            targets = list(_targets(found.target, modules))
            for target in targets:
                is_around = target != targets[-1] and module.startswith(f"{target}.")
                if target != module and not is_around:
                    edges.setdefault(target, found.line)
    return graph


def module_of(path: str) -> str:
    """src/quorate/a/b.py is quorate.a.b; a package's __init__ has the name of the package."""
    return path.removeprefix("src/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def _targets(dotted: str, modules: set[str]) -> Iterator[str]:
    """The modules that an import of this name runs: the longest that there is, and the packages around it."""
    parts = dotted.split(".")
    for depth in range(1, len(parts) + 1):
        if (name := ".".join(parts[:depth])) in modules:
            yield name


def _components(graph: Graph) -> list[list[str]]:
    """The groups of two or more modules that reach each other (Tarjan 1972), each sorted, in order."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for target in graph[module]:
            if target not in number:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], number[target])
        if low[module] == number[module]:
            at = stack.index(module)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in number:
            visit(module)
    return sorted(found)


def _shortest(graph: Graph, group: list[str]) -> list[str]:
    """A shortest circle among these modules, from a module back to itself."""
    best: list[str] = []
    for start in group:
        before: dict[str, str] = {}
        line = [start]
        for module in line:  # grows while it is walked
            for target in sorted(graph[module]):
                if target in group and target not in before:
                    before[target] = module
                    line.append(target)
        way = [start]
        while len(way) == 1 or way[-1] != start:
            way.append(before[way[-1]])
        if not best or len(way) < len(best):
            best = way[::-1]
    return best
