"""The processes of a local cluster, one a node.

How it works. Each node is its own process group, so that a Ctrl-C in the terminal reaches `quorate up` alone, which
then stops the nodes in order. Each inherits the reading end of a pipe whose writing end only `quorate up` has: however
that process ends, the kernel closes the pipe, and a node that sees it closed stops.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Final, Self

from quorate.runtime.files import FILE_MODE

STOP_GRACE_S: Final = 10.0
TAIL_LINES: Final = 8
TAIL_BYTES_MAX: Final = 8192


def node_command(config_path: Path, node: int, parent_fd: int, is_new: bool = False) -> list[str]:
    """What starts a node that stops when the pipe ``parent_fd`` is closed. ``is_new``: it makes its data folder."""
    # -P: a file `logging.py` in the current folder is not the one that Python means.
    module = [sys.executable, "-P", "-m", "quorate", "node"]
    options = ["--config", str(config_path), "--node", str(node), "--stop-with-parent", str(parent_fd)]
    return [*module, *options, *(["--bootstrap"] if is_new else [])]


class NodeProcess:
    """One node. ``ended`` is done with the exit code when its process has ended."""

    def __init__(self, node: int, process: Process, log_path: Path, log_start: int) -> None:
        self.node = node
        self.name = f"n{node}"
        self.pid = process.pid
        self.log_path = log_path
        self.ended = asyncio.ensure_future(process.wait())
        self._process = process
        self._log_start = log_start

    @property
    def lives(self) -> bool:
        """Whether its end has not been seen yet."""
        return not self.ended.done()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; none if it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    def log_tail(self) -> list[str]:
        """The last lines of what this process logged."""
        try:
            with self.log_path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, size - TAIL_BYTES_MAX))
                return file.read(TAIL_BYTES_MAX).decode(errors="replace").splitlines()[-TAIL_LINES:]
        except OSError as error:
            return [f"({self.log_path} cannot be read: {error.strerror})"]


class Processes:
    """All nodes; an asynchronous context manager that leaves none behind."""

    def __init__(self, config_path: Path) -> None:
        self._config_path = config_path
        self.nodes: list[NodeProcess] = []

    async def __aenter__(self) -> Self:
        self._child_end, self._own_end = os.pipe()  # neither is inherited unless a spawn says so
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            node.signal(signal.SIGKILL)
        await asyncio.gather(*(node.ended for node in self.nodes))
        os.close(self._child_end)
        os.close(self._own_end)

    async def spawn(self, node: int, log_path: Path, is_new: bool = False) -> NodeProcess:
        """Start a node; its output is appended to a file. ``is_new``: it makes its data folder. Raises OSError."""
        with os.fdopen(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE), "ab") as log:
            start = log.seek(0, os.SEEK_END)
            process = await asyncio.create_subprocess_exec(
                *node_command(self._config_path, node, self._child_end, is_new),
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                pass_fds=(self._child_end,),
                process_group=0,
            )
        found = NodeProcess(node, process, log_path, start)
        self.nodes.append(found)
        return found

    @property
    def living(self) -> Sequence[NodeProcess]:
        """Those that have not ended."""
        return [node for node in self.nodes if node.lives]

    async def stop(self, hurry: Awaitable[object]) -> list[NodeProcess]:
        """Ask all to stop; kill those that have not after a while, or once ``hurry`` is done. The killed."""
        asked = self.living
        for node in asked:
            node.signal(signal.SIGTERM)
        all_ended = asyncio.gather(*(node.ended for node in asked))
        hurrying = asyncio.ensure_future(hurry)
        await asyncio.wait((all_ended, hurrying), timeout=STOP_GRACE_S, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        late = self.living
        for node in late:
            node.signal(signal.SIGKILL)
        await all_ended
        return [node for node in late if node.ended.result() == -signal.SIGKILL]  # others ended unseen before that
