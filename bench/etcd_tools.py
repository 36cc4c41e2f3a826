"""etcd 3.6 and `benchmark`, the load generator of its authors, built once with Go into build/etcd-VERSION.

Debian has an older etcd, and no `benchmark`; `etcdctl check perf` gives less than half of the load.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

VERSION: Final = "3.6.16"
FOLDER: Final = Path("build") / f"etcd-{VERSION}"
GO_MOD: Final = "module bench\n\ngo 1.24\n"
COMMAND: Final = "package main\n\nimport (\n{imports}\n)\n\nfunc main() {{ {call} }}\n"
SOURCES: Final = {
    "go.mod": GO_MOD,
    "etcd/main.go": COMMAND.format(
        imports='\t"os"\n\n\t"go.etcd.io/etcd/server/v3/etcdmain"', call="etcdmain.Main(os.Args)"
    ),
    "etcdctl/main.go": COMMAND.format(imports='\t"go.etcd.io/etcd/etcdctl/v3/ctlv3"', call="ctlv3.MustStart()"),
    "tools.go": '//go:build tools\n\npackage bench\n\nimport _ "go.etcd.io/etcd/v3/tools/benchmark"\n',
}
MODULES: Final = ("v3@v3.6.8", f"server/v3@v{VERSION}", f"etcdctl/v3@v{VERSION}")
"""The first is that of `benchmark`."""
HOW: Final = (
    "etcd and its `benchmark` are built with Go (1.24 or newer), which is not here. What to do: install Go, or measure "
    "Quorate alone with --skip-etcd"
)


class EtcdTools(NamedTuple):
    """Paths of the programs."""

    etcd: str
    etcdctl: str
    benchmark: str


def etcd_tools() -> EtcdTools | None:
    """Those that were built, or are built now (some minutes); None: there is no Go. Raises RuntimeError if it fails."""
    folder = FOLDER.resolve()
    tools = EtcdTools(*(str(folder / "bin" / name) for name in EtcdTools._fields))
    if all(Path(tool).exists() for tool in tools):
        return tools
    if shutil.which("go") is None:
        return None
    for name, text in SOURCES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    _go(folder, "get", *(f"go.etcd.io/etcd/{module}" for module in MODULES))
    _go(folder, "build", "-o", "bin/", "./etcd", "./etcdctl", "go.etcd.io/etcd/v3/tools/benchmark")
    return tools


def _go(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["go", *arguments], cwd=folder, env=dict(os.environ), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"go {arguments[0]} failed in {folder}: {done.stderr.strip()[-2000:]}")
