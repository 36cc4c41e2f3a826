"""The command line as a person has it: a process, its output and its exit code."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any, Self

from tests.cluster import environment

QUORATE = (sys.executable, "-m", "quorate")
TIMEOUT_S = 120.0
TIMED = ("put", "get", "delete", "members", "leader")
PATIENCE = ("--timeout", "60")


class Outcome:
    """How a command ended."""

    def __init__(self, code: int, stdout: bytes, stderr: bytes) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr.decode(errors="replace")

    @property
    def json(self) -> Any:
        """What it printed, as one JSON value."""
        return json.loads(self.stdout)


def quorate(*arguments: str | bytes, stdin: bytes = b"", **env: str) -> Outcome:
    """Run a command to its end."""
    done = subprocess.run(
        [*QUORATE, *arguments], input=stdin, capture_output=True, env=environment(**env), timeout=TIMEOUT_S, check=False
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return Outcome(done.returncode, done.stdout, done.stderr)


def done(*arguments: str, **env: str) -> Outcome:
    """A command that must succeed, and may take long where the machine is busy."""
    is_timed = arguments[0] in TIMED and "--timeout" not in arguments
    outcome = quorate(*arguments, *(PATIENCE if is_timed else ()), **env)
    assert outcome.code == 0, outcome.stderr
    return outcome


class Up:
    """`quorate up --json` with the arguments given; a context manager that kills it if it still runs."""

    def __init__(self, *arguments: str | Path, as_json: bool = True) -> None:
        command = [*QUORATE, "up", *map(str, arguments), *(["--json"] if as_json else [])]
        pipe = subprocess.PIPE
        # A process group of its own, as a shell gives to what it starts.
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment(), process_group=0)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: list[str] = []
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._lines.put), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._errors.append), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self, file: IO[bytes], take: Any) -> None:
        for line in file:
            take(line.decode())
        if file is self.process.stdout:
            take(None)

    def line(self) -> str:
        """The next line on stdout. Fails if there is none within two minutes, or ever."""
        line = self._lines.get(timeout=TIMEOUT_S)
        assert line is not None, f"it ended: {self.errors()}"
        return line

    def event(self, name: str) -> Any:
        """The next event of that name; there must be no other before it."""
        event = json.loads(self.line())
        assert event["event"] == name
        return event

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)

    def interrupt(self) -> int:
        """As Ctrl-C in a terminal: SIGINT to the whole process group; the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(TIMEOUT_S)

    def errors(self) -> str:
        """All that it printed on stderr, once it has ended."""
        self.process.wait(TIMEOUT_S)
        self._threads[1].join(TIMEOUT_S)
        return "".join(self._errors)
