"""One word one thing: public names and files that are named alike are not two things.

Who reads `Replica` in one file and finds another class of that name by search has lost half an hour. So no class,
function or type of the package has the public name of another. Free are the modules of messages and records, whose
class names are tags on a wire or in a journal and never change, or names in a format that others have set; constants,
which a module reads beside where it defines them; commands, which `quorate` names; and the replicated objects that
users import from quorate.objects, which have the names that everybody knows such things by.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from .shape import is_repeat
from .tree import Violation, layer_of, parse

MESSAGE_MODULES = (
    "kernel/inputs.py",
    "kernel/replay.py",
    "kernel/turn.py",
    "parts/log/chain.py",
    "parts/log/replicated.py",
    "ledger/comet/votes.py",
    "runtime/handshake.py",
    "machines/kv/commands.py",
    "service/requests.py",
)
"""Besides every messages.py, and every class with a tag."""
FOR_USERS = "src/quorate/objects/"
EVERYWHERE = frozenset(
    ["__init__.py", "core.py", "entry.py", "equipment.py", "invariants.py", "liars.py", "messages.py", "mutants.py"]
)
"""Files that many protocols have, each its own."""
FILES_MAX = 2


def double_names(sources: Mapping[str, str]) -> Iterator[Violation]:
    """A public class, function or type with the name of another, and files of one name in three places or more."""
    defined = _defined(sources)
    for name, places in sorted(defined.items()):
        if len(places) > 1:
            for path, line in places:
                others = ", ".join(other for other, _ in places if other != path)
                cure = "give it a name that says which it is"
                yield Violation(path, line, "double-names", f"{name} is public in {others} as well", cure)
    yield from _files(sources)


def _files(sources: Mapping[str, str]) -> Iterator[Violation]:
    alike: dict[str, list[str]] = defaultdict(list)
    for path in sorted(sources):
        if layer_of(path) != "cli":  # a file a command
            alike[path.rpartition("/")[2]].append(path)
    for name, paths in alike.items():
        if len(paths) > FILES_MAX and name not in EVERYWHERE:
            what = f"{len(paths)} files are called {name}: {', '.join(paths)}"
            yield Violation(paths[0], 1, "double-names", what, "name each after what sets it apart")


def _defined(sources: Mapping[str, str]) -> Mapping[str, Sequence[tuple[str, int]]]:
    """By name, where it is defined."""
    defined: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for path, source in sorted(sources.items()):
        if path.endswith(("messages.py", *MESSAGE_MODULES)) or path.startswith(FOR_USERS):
            continue
        for node in parse(source).body:
            if (name := _name_of(node)) and not name.startswith("_"):
                defined[name].append((path, node.lineno))
    return defined


def _name_of(node: ast.stmt) -> str:
    """What a statement of a module defines, if that is a class without a tag, a function, or a type."""
    match node:
        case ast.ClassDef():
            return "" if any(keyword.arg == "tag" for keyword in node.keywords) else node.name
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return "" if _is_command(node) or is_repeat(node) else node.name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name if name[0].isupper() and not name.isupper() else ""
    return ""


def _is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("command(" in ast.unparse(decorator) for decorator in node.decorator_list)
