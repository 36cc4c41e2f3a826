"""`python -m bench.compiled`: builds a second copy of the package, in which what simulated runs spend their time in is
compiled by mypyc. Nothing needs it; runs are the same, and take about half of the CPU time.

    make compiled
    PYTHONPATH=build/compiled quorate sim raft --seeds 0:500

How it works. The package is copied, the chosen modules are prepared (``compiled_modules.py``), and mypyc makes an
extension module of each, beside the others, which stay as they are. The copy is of the moment: build it again after a
change.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from bench.compiled_modules import chosen, prepared

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "quorate"
FOLDER = ROOT / "build" / "compiled"
EXTENSION = "quorate_compiled"
OPTIMIZED = 1
"""With -O2 gcc takes several times as long, and the runs are no faster."""
CHECKS = ("--config-file=", "--ignore-missing-imports")
"""What mypy is told: the sources were checked before, strictly."""


def missing() -> str:
    """What a build lacks on this machine; empty if nothing."""
    for module, cure in (("mypyc", "mypy[mypyc]"), ("setuptools", "setuptools")):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed: python -m pip install {cure!r}"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"the C compiler {compiler} is not installed; as root: apt-get install gcc"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python.h is not installed; as root: apt-get install python3-dev"
    return ""


def build(folder: Path, optimized: int = OPTIMIZED) -> int:
    """Make the copy in this folder, which it replaces; returns how many modules are compiled.

    Raises CalledProcessError if a tool fails, which has said why.
    """
    if folder.exists() and not (folder / "quorate").is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds something else: name a folder that is not there yet")
    shutil.rmtree(folder, ignore_errors=True)
    package = folder / "quorate"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    sources = {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")}
    modules = chosen({path: ast.parse(source) for path, source in sources.items()})
    for path in modules:
        (package / path).write_text(prepared(sources[path]))
    # In a process of its own: mypyc and setuptools work in the current folder, print, and end the process on errors.
    command = [sys.executable, "-m", "bench.compiled", "--extension", str(optimized), *modules]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder / "build")
    shutil.rmtree(folder / ".mypy_cache", ignore_errors=True)
    return len(modules)


def extend(modules: list[str], optimized: int) -> None:
    """Compile these modules of the package in the current folder, in place."""
    from mypyc.build import mypycify
    from setuptools import setup

    extensions = mypycify(
        [*CHECKS, *[f"quorate/{path}" for path in modules]],
        opt_level=str(optimized),
        debug_level="0",
        group_name=EXTENSION,
        multi_file=True,  # one file for all takes gcc five times as long
    )
    setup(name=EXTENSION, packages=[], ext_modules=extensions, script_args=["-q", "build_ext", "--inplace"])


def main() -> int:
    """Build, and say how to use it."""
    parser = argparse.ArgumentParser(prog="python -m bench.compiled", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where; build/compiled by default")
    if sys.argv[1:2] == ["--extension"]:
        extend(sys.argv[3:], int(sys.argv[2]))
        return 0
    folder = parser.parse_args().folder.resolve()
    if lacking := missing():
        print(f"bench.compiled: {lacking}", file=sys.stderr)
        return 1
    try:
        count = build(folder)
    except FileExistsError as error:
        print(f"bench.compiled: {error}", file=sys.stderr)
        return 1
    print(f"{count} modules are compiled. Use them with: PYTHONPATH={folder} quorate sim raft")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
