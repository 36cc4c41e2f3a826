"""Programs of examples/, started as their README says and ended with the test, whatever happens in it.

Nothing sleeps for a fixed time: a program is ready when it answers or prints, and one that ended says why.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from quorate.service.client.sync import Client
from quorate.service.requests import Status

from tests.cluster import SOURCE, environment, until
from tests.ports import free_pairs

EXAMPLES = SOURCE.parent / "examples"
PATIENCE_S = 120.0
"""Before a test that waits is a failure; none waits that long when all is well."""
STOP_TIMEOUT_S = 30.0


GUARD = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    number = int(line)
    groups.add(number) if number > 0 else groups.discard(-number)
for group in groups:
    os.killpg(group, signal.SIGKILL)
"""


class Guard:
    """Kills what still runs when this process ends, even by SIGKILL: a process that waits for the end of a pipe."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def watch(self, group: int) -> None:
        """Kill this process group then."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", GUARD], stdin=subprocess.PIPE, text=True, process_group=0
            )
        self._tell(f"{group}")

    def forget(self, group: int) -> None:
        """It has ended."""
        self._tell(f"-{group}")

    def _tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


_GUARD = Guard()


class Program:
    """A process, its children and its output. ``lines`` are those of its stdout; its stderr is in the log."""

    def __init__(self, command: Sequence[str], log: Path, **env: str) -> None:
        self._log = log
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=log.parent,
                env=environment(**env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                process_group=0,
            )
        _GUARD.watch(self.process.pid)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def _read_so_far(self) -> list[str]:
        found: list[str] = []
        while not self._lines.empty():
            found.append(self._lines.get())
        return found

    def new_lines(self) -> list[str]:
        """What was printed since the last call. Raises AssertionError if the process has ended by itself."""
        has_ended = self.process.poll() is not None
        if has_ended:
            self._reader.join(STOP_TIMEOUT_S)
        found = self._read_so_far()
        assert found or not has_ended, f"ended with {self.process.returncode}:\n{self.log()}"
        return found

    def line(self, start: str) -> str:
        """Wait for a line that begins so; lines before it are dropped."""

        def found() -> str | None:
            return next((line for line in self.new_lines() if line.startswith(start)), None)

        return until(found, f"it prints {start!r}", PATIENCE_S)

    def signal(self, number: int) -> None:
        """To the process and its children."""
        os.killpg(self.process.pid, number)

    def suspend(self) -> None:
        """SIGSTOP; returns when it stands still."""
        self.signal(signal.SIGSTOP)
        state = Path(f"/proc/{self.process.pid}/stat")
        until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "it stops")

    def stop(self) -> int:
        """As Ctrl-C; the exit code."""
        self.signal(signal.SIGINT)
        return self.process.wait(STOP_TIMEOUT_S)

    def kill(self) -> list[str]:
        """SIGKILL, whatever state it is in. Returns the lines that nobody has seen yet."""
        if self.process.returncode is None:  # otherwise another process may have the number by now
            self.signal(signal.SIGKILL)
            self.process.wait(STOP_TIMEOUT_S)
        self._reader.join(STOP_TIMEOUT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        _GUARD.forget(self.process.pid)
        return self._read_so_far()

    def log(self) -> str:
        """All that it wrote to stderr."""
        return self._log.read_text(errors="replace")


@contextmanager
def program(*command: str, log: Path, **env: str) -> Iterator[Program]:
    """``python *command`` as long as the block lasts."""
    started = Program(command, log, **env)
    try:
        yield started
    finally:
        started.kill()


@contextmanager
def nodes(kind: str, folder: Path, count: int = 3) -> Iterator[str]:
    """A cluster of examples/node.py processes; the value is the endpoints of its clients."""
    ports = free_pairs(count)
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
    with ExitStack() as running:
        started = [
            running.enter_context(
                program(
                    f"{EXAMPLES / 'node.py'}",
                    kind,
                    f"{node}",
                    f"--nodes={addresses}",
                    f"--data={folder / f'n{node}'}",
                    log=folder / f"n{node}.log",
                )
            )
            for node in range(1, count + 1)
        ]
        for node in started:
            node.line("node ")
        endpoints = ",".join(f"127.0.0.1:{port + 1}" for port in ports)
        with Client(endpoints) as client:
            until(lambda: any(isinstance(told, Status) and told.leader for _, told in client.statuses()), "a leader")
        yield endpoints
