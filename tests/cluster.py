"""LocalCluster: real node processes for tests, to be started, killed, paused and started again one by one.

    with LocalCluster(tmp_path) as cluster:
        leader = cluster.leader()
        cluster.kill(leader)
        with cluster.client() as client:
            client.put(b"k", b"v")

Nothing sleeps for a fixed time: what takes a while is polled until it is so, or a generous time-out says what is not.
However the tests end, the nodes end too: they watch a pipe of this process.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from quorate.cli.folder import ADMIN_FILE, Layout, make_keys
from quorate.cli.processes import node_command
from quorate.runtime.key_files import read_private_key
from quorate.runtime.keys import Ed25519Signer
from quorate.service.client.sync import Client
from quorate.service.requests import Status

from tests.ports import free_base_port

SOURCE = Path(__file__).parents[1] / "src"
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
STATUS_TIMEOUT_S = 5.0
"""Of one poll: a node that is cut off holds it up for so long."""
POLL_S = 0.02

T = TypeVar("T")


def environment(**more: str) -> dict[str, str]:
    """The environment for a process that runs this checkout."""
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **more}


def until(found: Callable[[], T | None], what: str, timeout_s: float = READY_TIMEOUT_S) -> T:
    """Poll until ``found`` gives something true. Raises AssertionError that says what did not happen."""
    deadline = time.monotonic() + timeout_s
    while not (value := found()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(POLL_S)
    return value


class LocalCluster:
    """Nodes 1 to ``nodes``, each a process with its folder ``folder/n<i>`` and its log ``folder/n<i>.log``.

    ``options`` are further lines of the configuration, such as ``[raft]\\nheartbeat_s = 0.05``; ``env`` is added to the
    environment of the processes; ``prefix`` is put before their command (``("prlimit", "--fsize=1000000")``).
    """

    layout_type: type[Layout] = Layout
    """Where the nodes are; a subclass may have them elsewhere than on the loopback."""

    def __init__(
        self,
        folder: Path,
        nodes: int = 3,
        protocol: str = "raft",
        options: str = "",
        env: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.layout = self.layout_type(f"test-{folder.name}", nodes, protocol, free_base_port(nodes))
        self.ids = range(1, nodes + 1)
        self.config_path = folder / "cluster.toml"
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.paused: set[int] = set()
        self._env = environment(**(env or {}))
        self._prefix = prefix
        folder.mkdir(parents=True, exist_ok=True)
        admin = make_keys(self.layout, folder)
        if admin:
            section = f"[{protocol}]"
            options = f'{section}\nadmins = ["{admin}"]\n{options.replace(section, "")}'
        self.config_path.write_text(f"{self.layout.toml()}\n{options}\n")
        self._child_end, self._own_end = os.pipe()
        self._repaired: set[int] = set()
        """Those that start with --repair the next time."""
        self._begun = {node for node in self.ids if (self.data(node) / "journal").exists()}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- all nodes ---

    def start(self) -> None:
        """Start every node that does not run, and wait for a leader."""
        for node in self.ids:
            if node not in self.processes:
                self.start_node(node, wait=False)
        self.leader()

    def stop(self) -> dict[int, int]:
        """Stop every node in order; their exit codes. The data stays, and ``start`` finds it again."""
        for node in sorted(self.processes):
            self.resume(node)
            self.processes[node].terminate()
        return {node: self._ended(node) for node in sorted(self.processes)}

    def close(self) -> None:
        """Kill what still runs."""
        for node in sorted(self.processes):
            self.kill(node)
        os.close(self._child_end)
        os.close(self._own_end)

    # --- one node ---

    def start_node(self, node: int, wait: bool = True) -> None:
        """Start one node, and wait until it serves clients; not whether there is a leader."""
        self.processes[node] = self._spawn(node)
        if wait:
            until(lambda: self._must_run(node) and node in self.statuses(), f"node {node} serves")

    def stop_node(self, node: int) -> int:
        """Stop a node in order; its exit code."""
        self.resume(node)
        self.processes[node].terminate()
        return self._ended(node)

    def kill(self, node: int) -> int:
        """SIGKILL, in whatever state the node is; its exit code."""
        self.processes[node].kill()
        return self._ended(node)

    def restart(self, node: int) -> None:
        """Kill a node if it runs, start it again, and wait until it serves clients."""
        if node in self.processes:
            self.kill(node)
        self.start_node(node)

    def pause(self, node: int) -> None:
        """SIGSTOP: the process is alive and does nothing."""
        self.processes[node].send_signal(signal.SIGSTOP)
        self.paused.add(node)

    def resume(self, node: int) -> None:
        """Let it go on; nothing where it is not paused."""
        if node in self.paused:
            self.processes[node].send_signal(signal.SIGCONT)
            self.paused.discard(node)

    def pid(self, node: int) -> int:
        """Of the process of a node that runs."""
        return self.processes[node].pid

    def log(self, node: int) -> str:
        """All that a node ever logged."""
        return (self.folder / f"n{node}.log").read_text(errors="replace")

    def admin_key(self) -> Ed25519Signer | None:
        """Whose word changes the members, where nodes have keys."""
        path = self.folder / ADMIN_FILE
        return read_private_key(path) if path.exists() else None

    def data(self, node: int) -> Path:
        """The folder of a node: journal, snapshots, kv."""
        return self.folder / f"n{node}"

    # --- what clients see ---

    @property
    def endpoints(self) -> list[str]:
        """Where clients reach the nodes, by id."""
        return [self.layout.client(node) for node in self.ids]

    @contextmanager
    def client(self, *nodes: int, **options: Any) -> Iterator[Client]:
        """A blocking client of all nodes, or of those given; as patient as the tests, unless told otherwise."""
        options = {"timeout_s": READY_TIMEOUT_S, **options}
        with Client([self.layout.client(node) for node in nodes or self.ids], **options) as client:
            yield client

    def statuses(self) -> dict[int, Status]:
        """Of each node that runs, is not paused, and answers."""
        asked = [node for node in self.processes if node not in self.paused]
        if not asked:
            return {}
        with self.client(*asked, timeout_s=STATUS_TIMEOUT_S) as client:
            return {status.node: status for _, status in client.statuses() if isinstance(status, Status)}

    def status(self, node: int) -> Status:
        """Of one node, as soon as it answers."""
        return until(lambda: self.statuses().get(node), f"a status of node {node}; logs in {self.folder}")

    def leader(self, everyone: bool = False) -> int:
        """The node that it and a majority take for the leader; waits until there is one.

        ``everyone``: until all nodes that run and are not paused do, such as one that has just been started again.
        """

        def agreed() -> int | None:
            statuses = self.statuses()
            needed = len(self.processes) - len(self.paused) if everyone else self.layout.nodes // 2 + 1
            for node in statuses:
                led = [other for other in statuses.values() if other.leader == node]
                if statuses[node].leader == node and len(led) >= needed:
                    return node
            return None

        return until(agreed, f"a leader; logs in {self.folder}")

    def lose(self, node: int) -> None:
        """Of a node that does not run: its folder, so that the next start is that of a new node."""
        shutil.rmtree(self.data(node))
        self._begun.discard(node)

    def repair(self, node: int) -> None:
        """Start one that does not run, and whose folder has lost something; wait until it counts again."""
        self._repaired.add(node)
        self.start_node(node, wait=False)
        roles = ("follower", "leader", "primary", "backup")
        what = f"node {node} counts again; log in {self.folder}/n{node}.log"
        until(lambda: (status := self.statuses().get(node)) and self._must_run(node) and status.role in roles, what)

    def command(self, node: int) -> list[str]:
        """What starts a node; one that was never started makes its folder."""
        is_new, self._begun = node not in self._begun, self._begun | {node}
        if node in self._repaired:
            self._repaired.discard(node)
            return [*node_command(self.config_path, node, self._child_end, False), "--repair"]
        return node_command(self.config_path, node, self._child_end, is_new)

    def environment(self, node: int) -> dict[str, str]:
        """Of a node's process."""
        return self._env

    def _spawn(self, node: int) -> subprocess.Popen[bytes]:
        with (self.folder / f"n{node}.log").open("ab") as log:
            return subprocess.Popen(
                [*self._prefix, *self.command(node)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(node),
                pass_fds=(self._child_end,),
                process_group=0,
            )

    def _must_run(self, node: int) -> bool:
        code = self.processes[node].poll()
        assert code is None, f"node {node} ended with exit code {code}:\n{self.log(node)}"
        return True

    def _ended(self, node: int) -> int:
        self.paused.discard(node)
        code = self.processes.pop(node).wait(STOP_TIMEOUT_S)
        if not any((self.data(node) / "journal").glob("*.journal")):
            self._begun.discard(node)  # it was killed before it had made its folder
        return code
