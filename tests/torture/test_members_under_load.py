"""Members that shrink, and grow again, while clients write: nobody sees more of it than a retry."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from quorate.service.client.sync import Client

from tests.cli.command import PATIENCE, QUORATE, Up, done
from tests.cluster import READY_TIMEOUT_S, LocalCluster, environment, until
from tests.ports import free_base_port, free_pairs
from tests.torture.protocols import OPTIONS, in_tiers
from tests.torture.verify import check_replicas

pytestmark = [pytest.mark.torture, pytest.mark.timeout(240)]

WRITERS = 4
STEPS = {"multipaxos": (5, [(4, 5), (3,), (2,)]), "pbft": (6, [(5, 6)])}
"""How many nodes, and who is demoted at a time. Of six nodes of PBFT one may lie, which takes four."""


class Writers:
    """Each counts up in a key of its own, with a client of its own that retries as clients do. A context manager."""

    def __init__(self, client: Callable[[], AbstractContextManager[Client]]) -> None:
        self._client = client
        self._written, self._failed, self._is_over = [0] * WRITERS, list[Exception](), threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(i,), daemon=True) for i in range(WRITERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(READY_TIMEOUT_S)

    def _write(self, writer: int) -> None:
        with self._client() as client:
            while not self._is_over.is_set():
                try:
                    client.put(b"writer %d" % writer, b"%d" % (self._written[writer] + 1))
                except Exception as error:
                    self._failed.append(error)
                    return
                self._written[writer] += 1

    def go_on(self) -> None:
        """Wait until each has written more. Raises AssertionError if a write failed."""
        before = list(self._written)

        def all_wrote() -> bool:
            return all(now > then + 3 for now, then in zip(self._written, before, strict=True))

        until(lambda: self._failed or all_wrote(), "writes")
        assert not self._failed, self._failed

    def check(self) -> None:
        """Once they are over: no write failed, and the last of each is there."""
        assert not self._failed, self._failed
        with self._client() as client:
            found = [client.get(b"writer %d" % writer) for writer in range(WRITERS)]
        assert [pair and pair.value for pair in found] == [b"%d" % count for count in self._written]


@pytest.mark.parametrize("protocol", in_tiers(sorted(STEPS), ()))
def test_members_shrink_and_grow_while_clients_write(protocol: str, tmp_path: Path) -> None:
    nodes, steps = STEPS[protocol]
    options = OPTIONS[protocol] + ("\nalpha = 64" if protocol == "multipaxos" else "")
    with LocalCluster(tmp_path / "cluster", nodes, protocol, options) as cluster:
        with Writers(cluster.client) as writers, cluster.client(key=cluster.admin_key()) as admin:
            voters = set(cluster.ids)
            for some in steps:
                writers.go_on()
                voters -= set(some)
                assert admin.demote(some).members == tuple(sorted(voters))
            for some in reversed(steps):
                writers.go_on()
                voters |= set(some)
                assert admin.promote(some).members == tuple(sorted(voters))
            writers.go_on()
        writers.check()
        check_replicas(cluster)


@contextmanager
def joining(node: int, token: str, endpoints: str, folder: Path) -> Iterator[None]:
    """A new node, started as a person starts it."""
    (port,) = free_pairs(1)
    child_end, own_end = os.pipe()  # it ends with this process, however that does
    who = ("--name", f"n{node}", "--token", token, "--data", str(folder / f"n{node}"))
    with (folder / f"n{node}.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(*QUORATE, "node", "--join", endpoints, *who, "--listen", f"127.0.0.1:{port}"),
                *("--stop-with-parent", str(child_end)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(),
            pass_fds=(child_end,),
        )
    try:
        yield
        assert process.poll() is None, (folder / f"n{node}.log").read_text()
    finally:
        process.kill()
        process.wait()
        os.close(child_end)
        os.close(own_end)


def changed(*words: str, **env: str) -> list[int]:
    """Who votes after a change."""
    told = done("members", *words, *PATIENCE, **env).stdout.decode()
    return [int(node) for node in told.strip().split(",")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_five_nodes_become_three_and_five_again_while_clients_write(tmp_path: Path) -> None:
    """Those that leave led: each is removed and switched off, and two nodes join that were not there before."""
    base = str(free_base_port(5))
    with Up("--nodes", "5", "--data", tmp_path, "--base-port", base) as up, ExitStack() as joined:
        ready = up.event("ready")
        endpoints, pids = ",".join(ready["endpoints"]), {row["name"]: row["pid"] for row in ready["nodes"]}
        env, voters = {"QUORATE_ENDPOINTS": endpoints}, [1, 2, 3, 4, 5]
        with Writers(lambda: Client(endpoints, timeout_s=READY_TIMEOUT_S)) as writers:
            for _ in range(2):
                writers.go_on()
                leaver = done("leader", "--json", **env).json["node"]
                voters.remove(leaver)
                assert changed("remove", f"n{leaver}", **env) == voters
                os.kill(pids[f"n{leaver}"], signal.SIGTERM)
                ended = up.event("node_ended")
                assert (ended["name"], ended["exit_code"]) == (f"n{leaver}", 0)
            for node in (6, 7):
                writers.go_on()
                token = done("members", "add", f"n{node}", "--json", **env).json["token"]
                joined.enter_context(joining(node, token, endpoints, tmp_path))
                until(lambda node=node: follows(node, env), f"node {node} follows", 2 * READY_TIMEOUT_S)
                voters.append(node)
                assert changed("promote", f"n{node}", **env) == voters
            writers.go_on()
        writers.check()
        assert up.stop() == 0


def follows(node: int, env: dict[str, str]) -> bool:
    """Whether a node that was invited has joined."""
    rows = {row["id"]: row for row in done("members", "--json", **env).json["nodes"]}
    return bool(rows[node]["role"] == "learner")
