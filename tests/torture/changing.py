"""A cluster whose nodes come and go, with links to be cut, each on a small disk, with a clock that can be set."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from quorate.cli.common import Code
from quorate.parts.log.configuration import Voters
from quorate.service import tokens
from quorate.service.client.errors import QuorateError
from quorate.service.client.sync import Client

from tests.cluster import SOURCE, until
from tests.torture import clocked, disks
from tests.torture.network import Network, SpreadCluster
from tests.torture.proxies import Proxies

ROOT: Final = Path(__file__).parents[2]
DISK_BYTES: Final = 256 << 20
"""For the journal and the store, which keeps all versions, of half an hour."""
NO_SPACE: Final = re.compile("disk full|No space left on device")
"""How nodes report it: of the journal, or of a snapshot that they are sent."""
PATIENCE_S: Final = 120.0

T = TypeVar("T")


def insist(ask: Callable[[], T], what: str) -> T:
    """Ask again until nothing is wrong; what was asked for says how often it may be. Raises AssertionError."""
    wrong: list[str] = []

    def asked() -> list[T]:
        try:
            return [ask()]
        except QuorateError as error:
            wrong.append(f"{type(error).__name__}: {error}")
            return []

    try:
        return until(asked, what, PATIENCE_S)[0]
    except AssertionError as error:
        raise AssertionError(f"{error}: {wrong[-3:]}") from None


class ChangingCluster(SpreadCluster):
    """Its founders are the nodes of the network; ``ids`` are those that are in it now. ``planted``: a bug they have."""

    def __init__(
        self, network: Network | Proxies, folder: Path, protocol: str, options: str, planted: str = clocked.HEALTHY
    ) -> None:
        super().__init__(network, folder, protocol, options, {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(ROOT)])})
        self.ids: tuple[int, ...] = tuple(network.nodes)  # type: ignore[assignment]
        self._next = max(self.ids) + 1
        self._planted = planted
        self._joins: dict[int, tuple[str, ...]] = {}
        """How those joined who did."""
        self._mounted: set[int] = set()
        self.no_disks = ""
        """Why they are not on disks of their own; empty: they are."""

    def start(self) -> None:
        """On their disks."""
        for node in self.ids:
            self._mount(node)
        super().start()

    def close(self) -> None:
        """The disks, too."""
        try:
            super().close()
        finally:
            for node in sorted(self._mounted):
                self._lose_disk(node)

    def command(self, node: int) -> list[str]:
        if node in self._joins:
            command = [sys.executable, "-P", "-m", "quorate", *self._joins[node]]
            command += ["--stop-with-parent", str(self._child_end)]
        else:
            command = super().command(node)
        module = command.index("quorate")
        return [*command[:module], clocked.__name__, self._planted, *command[module + 1 :]]

    def check_alive(self) -> None:
        """Raises AssertionError if a node has ended by itself."""
        for node in self.processes:
            self._must_run(node)

    # --- members ---

    @contextmanager
    def administrator(self) -> Iterator[Client]:
        """A patient client of the nodes that are in the cluster now."""
        with self.client(timeout_s=PATIENCE_S / 2) as client:
            yield client

    def join(self) -> int:
        """A new node follows, on a disk and in a network of its own; its number."""
        node, self._next = self._next, self._next + 1
        self.network.join(node)
        self._mount(node)
        with self.administrator() as client:
            token = insist(lambda: client.invite(node), f"node {node} is invited")
        self._joins[node] = (
            *("node", "--join", ",".join(self.endpoints), "--name", f"n{node}", "--token", tokens.to_text(token)),
            *("--data", str(self.data(node)), "--listen", self.layout.client(node)),
            *("--listen-peer", self.layout.peer(node)),
        )
        self.start_node(node, wait=False)
        until(lambda: self._has_joined(node), f"node {node} has joined; log in {self.folder}/n{node}.log", PATIENCE_S)
        self.ids = (*self.ids, node)
        return node

    def _has_joined(self, node: int) -> bool:
        if self.processes[node].poll() == Code.UNAVAILABLE:  # it says so: the same command goes on
            self._ended(node)
            self.start_node(node, wait=False)
        self._must_run(node)
        return node in self.statuses()

    def promote(self, node: int) -> Voters:
        """Have it vote."""
        with self.administrator() as client:
            return insist(lambda: client.promote([node]), f"node {node} votes")

    def remove(self, node: int) -> Voters:
        """Have it leave, and switch it off then."""
        with self.administrator() as client:
            voters = insist(lambda: client.remove_nodes([node]), f"node {node} leaves")
        self._forget(node)
        return voters

    def replace(self, old: int, new: int) -> Voters:
        """Have one vote in place of another, whose process is gone."""
        with self.administrator() as client:
            voters = insist(lambda: client.replace_node(old, new), f"node {new} replaces node {old}")
        self._forget(old)
        return voters

    def _forget(self, node: int) -> None:
        self.ids = tuple(other for other in self.ids if other != node)
        if node in self.processes:
            self._must_run(node)
            self.kill(node)
        self.network.leave(node)
        self._lose_disk(node)

    # --- clocks and disks ---

    def set_clock(self, node: int, seconds: float) -> None:
        """By so much; waits until the node reports that, with what its clock shows."""
        report = re.compile(rf"{clocked.WAS_SET} by \{seconds:+.3f} s: it shows (\S+), and before that ([0-9.]+)")
        count = len(report.findall(self.log(node)))
        clocked.jump_path(self.data(node)).write_text(repr(seconds))
        self.processes[node].send_signal(signal.SIGUSR1)
        until(lambda: len(report.findall(self.log(node))) > count, f"node {node} reports that its clock was set")
        shows, before = map(float, report.findall(self.log(node))[-1])
        assert (shows > before) == (seconds > 0), (seconds, before, shows)

    def fill_disk(self, node: int) -> Path:
        """Waits until the node reports a write that failed; what takes the space."""
        data, said = self.data(node), len(NO_SPACE.findall(self.log(node)))

        def fails() -> bool:
            disks.fill(data)  # again: the node may have given space free meanwhile
            return len(NO_SPACE.findall(self.log(node))) > said

        until(fails, f"node {node} says that its disk is full")
        return disks.ballast_of(data)

    def _mount(self, node: int) -> None:
        if node not in self._mounted:
            try:
                disks.mount(self.data(node), DISK_BYTES)
                self._mounted.add(node)
            except disks.NoDisk as error:
                self.no_disks = str(error)

    def _lose_disk(self, node: int) -> None:
        if node in self._mounted:
            disks.unmount(self.data(node))
            self._mounted.discard(node)
        else:
            self.lose(node)
