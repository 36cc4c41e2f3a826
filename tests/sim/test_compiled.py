"""The compiled package does what the sources do (``bench/compiled.py``)."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.compiled import PACKAGE, ROOT, build, missing
from bench.compiled_modules import BEYOND, PLACES, chosen, prepared
from tests.sim.compiled_runs import COPIED, PROTOCOLS, seed_lines
from tests.sim.compiled_runs import copied as copied_turn
from tests.sim.golden_runs import FILE

RECORDED = FILE.read_text().splitlines()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(bool(missing()), reason=f"cannot compile: {missing()}")
def test_compiled_runs_are_those_of_the_sources(tmp_path: Path) -> None:
    package = tmp_path / "compiled"
    build(package, optimized=0)
    command = [sys.executable, "-m", "tests.sim.compiled_runs"]
    environment = {**os.environ, "PYTHONPATH": f"{package}:{ROOT}"}
    found = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    where, *runs = found.stdout.splitlines()
    assert where.startswith(str(package / "quorate" / "kernel" / "host."))
    assert not where.endswith(".py")
    golden = [line for line in RECORDED if line.split()[0] in PROTOCOLS]
    seeds = list(seed_lines(1))
    copied = [f"{protocol} copied: {copied_turn(protocol)}" for protocol in COPIED]
    assert runs == [*golden, *seeds, *seeds, *copied]
    assert len(golden) > 30


def test_what_is_named_is_there() -> None:
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert [place for place in PLACES if not any(path.startswith(place) for path in paths)] == []
    assert sorted(BEYOND.keys() - paths.keys()) == []
    compiled = chosen({path: ast.parse(file.read_text()) for path, file in paths.items()})
    assert {"kernel/host.py", "protocols/raft/core.py", "protocols/pbft/core.py", "sim/node.py"} <= set(compiled)
    assert "kernel/turn.py" not in compiled  # Structs


BASES = {
    "kernel/a.py": "class A(msgspec.Struct, frozen=True):\n    x: int\nclass B:\n    y = 1\nclass C:\n    pass\n",
    "kernel/b.py": "from quorate.kernel.a import B\nclass D(B):\n    pass\n",
    "kernel/c.py": "from quorate.kernel.b import D as E\nclass F(E):\n    pass\n",
    "kernel/d.py": "from quorate.kernel.a import C\nclass G(C):\n    pass\n",
    "cli/e.py": "class H:\n    pass\n",
}


def test_a_class_on_an_interpreted_one_with_fields_is_not_compiled() -> None:
    trees = {path: ast.parse(source) for path, source in BASES.items()}
    assert chosen(trees) == ["kernel/d.py"]


SOURCE = '''"""A module."""

from __future__ import annotations

import dataclasses


class Port(Interface):
    def one(self) -> int: ...


@dataclasses.dataclass
class Core(Base):
    def on_a(self, sender: int) -> None:
        self.a = sender

    on_b = on_a


class Wrong(ValueError):
    pass
'''
PREPARED = '''"""A module."""

from __future__ import annotations
from mypy_extensions import mypyc_attr as _mypyc_attr

import dataclasses


class Port(Interface):
    def one(self) -> int: ...


@_mypyc_attr(allow_interpreted_subclasses=True)
@dataclasses.dataclass
class Core(Base):
    def on_a(self, sender: int) -> None:
        self.a = sender

    def on_b(self, sender: int) -> None:
        self.a = sender


@_mypyc_attr(native_class=False)
class Wrong(ValueError):
    pass
'''


def test_what_mypyc_reads() -> None:
    assert prepared(SOURCE) == PREPARED
