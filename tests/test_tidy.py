"""The house rules hold in this checkout, and each of them can fail."""

import textwrap
from collections.abc import Iterator

import pytest

from tests.tidy.circles import circles
from tests.tidy.docstrings import called_docstrings
from tests.tidy.links import links
from tests.tidy.names import double_names
from tests.tidy.rules import NAMES, PACKAGE_RULES, PYTHON_RULES, TEXT_RULES, check, syntax
from tests.tidy.scopes import package_facts
from tests.tidy.sets import set_iteration
from tests.tidy.tree import Violation

KERNEL, PARTS, RAFT = "src/quorate/kernel/x.py", "src/quorate/parts/x.py", "src/quorate/protocols/raft.py"
LEDGER = "src/quorate/ledger/x.py"
SIM, RUNTIME, SERVICE = "src/quorate/sim/x.py", "src/quorate/runtime/x.py", "src/quorate/service/x.py"
TRIALS, MUTANTS = "src/quorate/trials/x.py", "src/quorate/protocols/raft/mutants.py"
ECHO_MUTANTS = "src/quorate/protocols/echo_mutants.py"
CLI, ROOT, TEST, BENCH = "src/quorate/cli/x.py", "src/quorate/__init__.py", "tests/x.py", "bench/x.py"
DOC = '"""Purpose."""\n'

# rule, path, source with `# !` at the end of each line that breaks the rule
PLANTED = [
    ("layers", KERNEL, "from quorate.parts.log.entries import Log  # !"),
    ("layers", KERNEL, "from quorate import parts  # !"),
    ("layers", KERNEL, "from ..parts import log  # !"),
    ("layers", "src/quorate/kernel/__init__.py", "from ..parts import log  # !\nfrom .env import Env"),
    ("layers", PARTS, "if TYPE_CHECKING:\n    from quorate.protocols.raft import Raft  # !"),
    ("layers", PARTS, "def f():\n    import quorate.sim.world  # !"),
    ("layers", LEDGER, "from quorate.parts.crypto import merkle\nfrom quorate.protocols.raft import Raft  # !"),
    ("layers", PARTS, "from quorate.ledger.comet import proto  # !"),
    ("layers", RAFT, "from quorate.ledger.comet import proto\nimport quorate.kernel.env, quorate.runtime.node  # !"),
    ("pure-imports", LEDGER, "import time  # !"),
    ("layers", RAFT, "from quorate.parts import log\nfrom quorate.sim import world  # !"),
    ("layers", SIM, "from quorate.protocols.raft import Raft  # !"),
    ("layers", SIM, "from quorate.runtime import node  # !\nfrom quorate.service import store  # !"),
    ("layers", RUNTIME, "from quorate.protocols import REGISTRY  # !\nfrom quorate.sim import disk  # !"),
    ("layers", RUNTIME, "import importlib\nimportlib.import_module('quorate.cli.main')  # !"),
    ("layers", RUNTIME, "from quorate import __version__  # !"),
    ("layers", SERVICE, "from quorate.runtime import node\nfrom quorate.cli import main  # !"),
    ("layers", SERVICE, "from quorate.trials import campaign  # !"),
    ("layers", TRIALS, "from quorate.service import replica\nfrom quorate.cli import main  # !"),
    ("layers", "src/quorate/extras/x.py", "from quorate.kernel import Env  # !"),
    ("layers", CLI, "from quorate.sim import world\nfrom quorate import __version__"),
    ("layers", ROOT, "from quorate.service import Replica"),
    ("layers", SERVICE, "from quorate.sim import world  # !"),
    ("layers", MUTANTS, "from quorate.sim.mutant import Mutant\nfrom quorate.trials import campaign  # !"),
    ("layers", ECHO_MUTANTS, "from quorate.sim.mutant import Mutant\nfrom quorate.service import replica  # !"),
    *[
        (
            "equipment-imports",
            path,
            "from quorate.protocols.raft.mutants import MUTANTS  # !\n"
            "from quorate.protocols.raft import liars, core  # !\n"
            "import quorate.protocols.echo_equipment  # !\nfrom quorate.protocols.raft import Raft",
        )
        for path in (RAFT, SIM, RUNTIME, SERVICE, CLI, ROOT)
    ],
    ("equipment-imports", SERVICE, "importlib.import_module('quorate.protocols.pbft.invariants')  # !"),
    *[
        ("equipment-imports", path, "from quorate.protocols.raft.mutants import MUTANTS")
        for path in (MUTANTS, ECHO_MUTANTS, TRIALS, TEST)
    ],
    (
        "kernel-imports",
        KERNEL,
        "import msgspec\nimport numpy  # !\nimport logging  # !\nfrom collections.abc import Set",
    ),
    ("kernel-imports", PARTS, "import cryptography"),
    *[("pure-imports", path, "import time  # !\nimport math") for path in (KERNEL, PARTS, RAFT)],
    *[
        ("pure-imports", RAFT, f"from {name} import x  # !")
        for name in ("random", "asyncio", "os.path", "socket", "threading", "datetime", "secrets", "uuid")
    ],
    ("pure-imports", PARTS, "if TYPE_CHECKING:\n    import random  # !"),
    ("pure-imports", PARTS, "__import__('time')  # !"),
    ("pure-imports", SIM, "import random\nimport time"),
    ("waiting-imports", SIM, "import asyncio  # !\nimport socket  # !\nfrom threading import Lock  # !"),
    ("waiting-imports", ROOT, "import asyncio  # !"),
    *[("waiting-imports", path, "import asyncio, socket, threading") for path in (RUNTIME, SERVICE, CLI)],
    *[
        ("serializers", path, "import pickle  # !\nfrom marshal import loads  # !\nimport shelve  # !\nimport json")
        for path in (RUNTIME, TEST, BENCH)
    ],
    ("code-from-strings", SERVICE, "x = eval('1')  # !\nmodel.eval()\nexec('y = 1')  # !\nrun(exec)  # !"),
    ("code-from-strings", TEST, "def f(eval):\n    return eval(1)"),
    ("process-dependent", RAFT, "key = id(x)  # !\nslot = hash(b'a') % 3  # !\nxs.sort(key=id)  # !"),
    (
        "process-dependent",
        KERNEL,
        "class Env:\n    id: int\n    def f(self, id):\n        return self.id + id + env.hash()",
    ),
    ("process-dependent", SIM, "hash(1)"),
    *[
        (
            "private-attributes",
            path,
            "class A(B):\n    def f(self, other):\n        self._x = super()._x\n        other._x = 1  # !\n"
            "        return self.part._x + self.part.x._y()  # !",
        )
        for path in (RAFT, PARTS, KERNEL, SIM, RUNTIME, SERVICE, TRIALS, CLI, ROOT)
    ],
    (
        "private-attributes",
        RAFT,
        "class A:\n    @classmethod\n    def f(cls, pair):\n        return cls._x, pair._replace(x=1), pair.__dict__\n"
        "def g(core):\n    return core._x  # !",
    ),
    ("private-attributes", RUNTIME, "import os\nos._exit(0)\nos._x(0)  # !"),
    ("private-attributes", RUNTIME, "import sys\nsys._current_frames()\nsys._x(0)  # !"),
    (
        "cores-alone",
        RAFT,
        "class A(Core):\n    def f(self):\n        self.part = Part(self)  # !\n        self.part.core = self  # !\n"
        "        Part(*(self.env, self))  # !\n        Part(core=self)  # !\n        Part(self.env, self.leave)",
    ),
    ("cores-alone", PARTS, "class A:\n    def f(self):\n        return Part(self)"),
    (
        "attribute-guesses",
        SERVICE,
        "import os\nx = getattr(core, 'role', '')  # !\ny = getattr(os, 'RWF_DSYNC', None)\nz = getattr(core, name, 0)",
    ),
    ("attribute-guesses", SIM, "def f():\n    return getattr(a.b, 'leader', c)  # !\ngetattr(core, 'role')"),
    ("attribute-guesses", TRIALS, "a = hasattr(config, 'entries_max')  # !\nb = hasattr(cls, handler_name(m))"),
    ("attribute-guesses", SIM, "import os\nx = hasattr(os, 'RWF_DSYNC')"),
    ("attribute-guesses", "src/quorate/sim/adversary/x.py", "getattr(message, 'view', None)"),
    ("attribute-guesses", TEST, "getattr(core, 'role', '')\nhasattr(core, 'role')"),
    ("private-attributes", TEST, "node._x = 1"),
    ("file-length", TEST, "\n" * 800 + "x = 1  # !"),
    ("file-length", TEST, "x = 1\n" * 800),
    ("function-length", BENCH, "async def f():  # !\n" + "    x = 1\n" * 70),
    ("function-length", SIM, "class A:\n    @wrapped\n    def f(self):\n" + "        x = 1\n" * 69),
    (
        "handler-argument",
        RAFT,
        "class A:\n    def on_vote(self, sender, message): ...  # !\n    def on_met(self, sender, m): ...\n"
        "    def on_done(self, key, result): ...\n    def _on_vote(self, sender, vote): ...  # !",
    ),
    ("handler-argument", RUNTIME, "def on_frames(self, sender, frames): ..."),
    ("module-docstring", CLI, "import os  # !"),
    ("module-docstring", TEST, "import os"),
    (
        "kernel-docstrings",
        KERNEL,
        "class A:  # !\n    def f(self): ...  # !\n    def _g(self): ...\n    def __len__(self): ...",
    ),
    ("kernel-docstrings", KERNEL, "if x:\n    def f(): ...  # !\n@overload\ndef g(): ..."),
    ("kernel-docstrings", PARTS, "def f(): ..."),
    *[
        ("machine-paths", "docs/x.md", f"See `/{folder}/ann/x`.  # !\nSee work/x, https://example.org/home/x, /rooted.")
        for folder in ("home", "root", "work")
    ],
    ("index-addresses", "Makefile", f"pip install --{'index'}-url x  # !\npip compile --no-emit-index-url"),
    ("index-addresses", "x.md", f"pip config set global.index-url x\n--extra-{'index'}-url=x  # !"),
    ("index-addresses", "requirements/dev.txt", f"# {'https'}://mirror.example.org/x  # !\nmsgspec==0.22"),
    ("index-addresses", "x.md", f"from {'py'}pi.org  # !\nfrom https://example.org/simple-minded"),
    ("conflict-markers", "x.md", f"a\n{'<' * 7} HEAD  # !\nb\n{'=' * 7}\nc\n{'>' * 7} main  # !\n{'<' * 8} d"),
]

# Bodies of functions and classes; lines that end with `# !` iterate over a set.
SET_ITERATION = [
    "for x in {1, 2}: ...  # !\nfor x in sorted({1, 2}): ...",
    "names = set(xs)\ny = [x for x in names]  # !\nz = sorted(x for x in names)\nw = {x for x in names}",
    "a = list(set(xs))  # !\nb = tuple(frozenset(xs))  # !\n"
    "for i, x in enumerate({1}): ...  # !\nc = ','.join({'a'})  # !",
    "def f(votes: frozenset[int], acks: 'set[int] | None', log: list[int]):\n"
    "    for v in votes: ...  # !\n    for a in acks or (): ...  # !\n    for e in log: ...",
    "def f(a: set[int], b: list[int]):\n    for x in a | set(b): ...  # !\n    for x in a.union(b): ...  # !\n"
    "    for x in sorted(a - {1}): ...\n    x, y = a  # !\n    z = [*a]  # !\n    w = {*a, 1}\n    b.extend(a)  # !\n"
    "    a.pop()  # !\n    b.pop()\n    yield from a  # !",
    "def f(a: dict[int, int], b: dict[int, int]):\n    for k in a: ...\n    for k in a.keys(): ...\n"
    "    for k in a.keys() & b.keys(): ...  # !\n    for k, v in (a | b).items(): ...",
    "def f(acks: dict[int, set[int]]):\n    for slot, nodes in acks.items():\n        for n in nodes: ...  # !\n"
    "    for n in acks[3]: ...  # !\n    for n in acks.get(3, ()): ...  # !\n"
    "    return [n for nodes in acks.values() for n in nodes]  # !",
    "acks = defaultdict(set)\nfor n in acks[1]: ...  # !\nother = {}\nfor n in other.setdefault(1, set()): ...  # !",
    "class A:\n    votes: set[int]\n    def __init__(self, peers: frozenset[int]):\n        self.peers = peers\n"
    "        self.log = []\n    def f(self):\n        for v in self.votes: ...  # !\n"
    "        for p in self.peers: ...  # !\n"
    "        for e in self.log: ...",
    "class A:\n    @property\n    def live(self) -> set[int]: ...\n    def all(self) -> frozenset[int]: ...\n"
    "    def f(self, other: A):\n        for x in self.live: ...  # !\n        for x in other.all(): ...  # !",
    "Nodes = frozenset[int]\ndef voters() -> Nodes: ...\nfor n in voters(): ...  # !",
    "class B:\n    voters: frozenset[int]\ndef f(config):\n    return dict.fromkeys(config.voters)  # !",
    "class B:\n    voters: frozenset[int]\nclass C(B):\n    def f(self):\n        return next(iter(self.voters))  # !",
    "def f(s: set[int]):\n    ok = any(x > 1 for x in s) and len(s) > 1\n"
    "    least = min(s)\n    return min(s, key=g)  # !",
    "def f(s: set[int]):\n    def g():\n        return lambda: [x for x in s]  # !\n    return g",
    "def f(s: set[int]):\n    return [x for s in [[1]] for x in s]",
]


def expected(source: str) -> list[int]:
    """The numbers of the lines that end with `# !`."""
    return [number for number, line in enumerate(source.splitlines(), 1) if line.endswith("# !")]


def lines(violations: Iterator[Violation]) -> list[int]:
    """Where the violations are."""
    return sorted({violation.line for violation in violations})


@pytest.mark.slow
@pytest.mark.parametrize("rule", NAMES)
def test_this_checkout_obeys(rule: str) -> None:
    violations = check(rule)
    assert not violations, "\n" + "\n".join(map(str, violations))


@pytest.mark.parametrize(("rule", "path", "source"), PLANTED)
def test_a_planted_violation_is_found_and_nothing_else(rule: str, path: str, source: str) -> None:
    found = list({**PYTHON_RULES, **TEXT_RULES}[rule](path, source))
    assert lines(iter(found)) == expected(source)
    for violation in found:
        assert str(violation).startswith(f"{path}:{violation.line}: {rule}: ")
        assert violation.cure in str(violation)


@pytest.mark.parametrize("source", SET_ITERATION)
@pytest.mark.parametrize("path", [KERNEL, PARTS, RAFT, SIM])
def test_iteration_over_a_set_is_found_and_nothing_else(path: str, source: str) -> None:
    assert lines(set_iteration(path, source)) == expected(source)


def test_iteration_over_a_set_is_free_in_the_runtime() -> None:
    assert lines(set_iteration(RUNTIME, "for x in {1}: ...")) == []


def test_a_set_is_known_across_modules() -> None:
    config = "class Config:\n    voters: frozenset[int]\ndef everyone() -> set[int]: ..."
    holder = "class Holder:\n    config: Config"
    user = "def f(h: Holder):\n    for v in h.config.voters: ...  # !\n    for v in everyone(): ...  # !"
    package = package_facts([holder, config, user])
    assert lines(set_iteration(RAFT, user, package)) == expected(user)


def test_a_file_that_does_not_parse_is_a_violation() -> None:
    assert [str(found) for found in syntax(SIM, "x = 1\ny = (")] == [
        f"{SIM}:2: syntax: does not parse, '(' was never closed. Cure: mend it."
    ]


CIRCLES = {
    "a plain circle": {
        "a": "from quorate.sim.b import B  # !",
        "b": "from quorate.sim.a import A",
        "c": "from quorate.sim.a import A",
    },
    "one half for types alone": {
        "a": "from __future__ import annotations\nif TYPE_CHECKING:\n    from quorate.sim.b import B  # !",
        "b": "import quorate.sim.a",
    },
    "one half in a function": {
        "a": "def f():\n    from . import b  # !",
        "b": "import importlib\nimportlib.import_module('quorate.sim.a')",
    },
    "through a third": {
        "a": "from quorate.sim.b import B  # !",
        "b": "x = 1\nfrom quorate.sim.c import C",
        "c": "from quorate.sim.a import A",
    },
    "through the package that is around another": {
        "a": "from quorate.sim.p.low import L  # !",
        "p/__init__": "from quorate.sim.p.low import L\nfrom quorate.sim.a import A",
        "p/low": "",
    },
    "with the package around it": {
        "p/__init__": "from quorate.sim.p.low import L  # !",
        "p/low": "from quorate.sim.p import M",
    },
}
NO_CIRCLES = {
    "a facade over its own modules": {
        "p/__init__": "from quorate.sim.p.high import H\nfrom quorate.sim.p.low import L",
        "p/high": "from quorate.sim.p.low import L\nfrom . import low",
        "p/low": "import quorate.kernel",
        "a": "from quorate.sim.p import H",
    },
    "a diamond": {
        "a": "from quorate.sim.b import B\nfrom quorate.sim.c import C",
        "b": "from quorate.sim.d import D",
        "c": "from quorate.sim.d import D",
        "d": "from quorate import __version__",
    },
}


def package_of(modules: dict[str, str]) -> dict[str, str]:
    """The files of a small package by path."""
    root = {"src/quorate/__init__.py": "", "src/quorate/sim/__init__.py": ""}
    return root | {f"src/quorate/{name}.py": source for name, source in modules.items()}


def sim_of(modules: dict[str, str]) -> dict[str, str]:
    """The same, all in one layer."""
    return package_of({f"sim/{name}": source for name, source in modules.items()})


@pytest.mark.parametrize("modules", CIRCLES.values(), ids=CIRCLES)
def test_a_circle_of_imports_is_found(modules: dict[str, str]) -> None:
    (found,) = circles(sim_of(modules))
    where = [(path, line) for path, source in sim_of(modules).items() for line in expected(source)]
    assert [(found.path, found.line)] == where
    assert found.what.count("sim.a") == 2 or found.what == "a circle of imports: sim.p -> sim.p.low -> sim.p"


@pytest.mark.parametrize("modules", NO_CIRCLES.values(), ids=NO_CIRCLES)
def test_what_only_looks_like_a_circle_is_none(modules: dict[str, str]) -> None:
    assert list(circles(sim_of(modules))) == []


def test_two_circles_are_two_violations_and_a_tangle_is_one() -> None:
    apart = {"a": "import quorate.sim.b", "b": "import quorate.sim.a"}
    apart |= {"c": "import quorate.sim.d", "d": "import quorate.sim.c"}
    assert len(list(circles(sim_of(apart)))) == 2
    (tangle,) = circles(sim_of(apart | {"b": "import quorate.sim.a, quorate.sim.c", "d": "from . import c, b"}))
    assert "in a tangle of 4 modules" in tangle.what


PLAIN = {"parts/a": "class Ann:\n    pass", "sim/b": "def b(): ...", "protocols/raft/core": "X = 1\nclass Raft: ..."}
"""Nothing here has the name of anything else."""


@pytest.mark.parametrize(
    "more",
    [
        {"sim/c": "class Ann: ..."},
        {"runtime/c": "x = 1\nasync def b(): ..."},
        {"service/c": "Ann: TypeAlias = int"},
        {"kernel/c": "Raft = int | str"},
    ],
)
def test_a_name_that_is_two_things_is_found_at_both(more: dict[str, str]) -> None:
    found = list(double_names(package_of(PLAIN | more)))
    assert len(found) == 2
    assert {violation.path for violation in found} & {f"src/quorate/{name}.py" for name in more}
    assert all(violation.rule == "double-names" for violation in found)


@pytest.mark.parametrize(
    "more",
    [
        {"sim/c": "class _Ann: ...\nX = 2\n_b = 1\nlog = 1"},
        {"sim/c": "class Ann(Struct, frozen=True, tag=True): ..."},
        {"protocols/raft/messages": "class Ann: ...\ndef b(): ..."},
        {"kernel/inputs": "class Ann: ..."},
        {"cli/c": "@members.command('b')\ndef b(): ..."},
        {"sim/c": "class C:\n    def b(self): ...\n    class Ann: ..."},
    ],
)
def test_what_may_have_the_name_of_another_may(more: dict[str, str]) -> None:
    assert list(double_names(package_of(PLAIN | more))) == []


def test_files_are_named_alike_twice_at_most() -> None:
    twice = {"sim/store": "", "runtime/store": "", "cli/store": "", "protocols/a/core": "", "protocols/b/core": ""}
    assert list(double_names(package_of(twice))) == []
    (found,) = double_names(package_of(twice | {"service/store": "", "protocols/c/core": ""}))
    assert found.what.startswith("3 files are called store.py: src/quorate/runtime/store.py, ")


CALLED = {
    "runtime/a": """
class A:
    def documented(self, x):
        '''Says what x is.'''
    def silent(self, x): ...  # !
    def plain(self): ...
    @classmethod
    def make(cls): ...
    def _private(self, x): ...
class _B:
    def f(self, x): ...
def g(x): ...  # !
def h(): ...
async def k(*, size_bytes): ...  # !
""",
    "service/b": """
class C(D[int]):
    def documented(self, x): ...
    def other(self, x): ...  # !
    @x.setter
    def x(self, value): ...
class E(asyncio.Protocol):
    def data_received(self, data): ...
""",
    "kernel/d": "class D(A): ...",
    "parts/e": "def f(x): ...",
}
"""In b the documented method overrides that of A, through D."""


def test_what_takes_parameters_and_says_nothing_of_them_is_found() -> None:
    package = package_of(CALLED)
    where = [(path, line) for path, source in package.items() for line in expected(source)]
    assert sorted((found.path, found.line) for found in called_docstrings(package)) == sorted(where)


def test_every_rule_was_planted() -> None:
    broken = {rule for rule, _, source in PLANTED if expected(source)}
    assert broken | set(PACKAGE_RULES) | {"set-iteration", "links"} == set(NAMES)


def test_dead_links_are_found_and_nothing_else() -> None:
    page = textwrap.dedent("""\
        # A page
        ## What is it?
        ## What is it?
        [here](#what-is-it) [second](#what-is-it-1) [out](https://example.org) [file](../README.md "title")
        [heading](../README.md#start-here) [folder](adr) [root](/README.md) ![image](gone.png)
        [gone](adr/0001.md) `[code](gone.md)`
        [third](#what-is-it-2) [heading](../README.md#gone)
        [reference]: gone.md
        ```
        [fenced](gone.md)
        ```
        [outside](../../gone.md)
        """)
    known = frozenset({"README.md", "docs", "docs/adr", "docs/page.md", "."})
    found = list(links("docs/page.md", page, known, {"README.md": "# Start *here*\n"}.get))
    assert [violation.line for violation in found] == [5, 6, 7, 7, 8, 12]
