"""EmbeddedNode: one node of a cluster, on an event loop in a thread of this process.

How it works. The node has a thread of its own, so that a program that computes or waits does not make it late for its
peers. What the program asks of it is asked on that thread. When the node ends by itself (its disk fails, a command
cannot be applied) its ports are closed, its folder is free, and ``failure`` says why.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from quorate.machines.state_machine import StateMachine
from quorate.runtime.errors import StorageError
from quorate.service.client.errors import NodeFailed, NoQuorum
from quorate.service.client.loop_thread import LoopThread
from quorate.service.config import NodeConfig
from quorate.service.requests import Status
from quorate.service.server import Server, Unavailable
from quorate.service.serving import server_of

log = logging.getLogger("quorate.objects")

FAILED = "failed"
STOPPED = "stopped"
"""The role of a node that does not run."""


class EmbeddedNode:
    """``on_change`` and ``on_failure`` are called on its loop, and must not wait."""

    def __init__(
        self,
        config: NodeConfig,
        machine: Callable[[Path], StateMachine],
        on_change: Callable[[Status], object],
        on_failure: Callable[[NodeFailed], object],
    ) -> None:
        self.config = config
        self.failure: NodeFailed | None = None
        self._machine = machine
        self._on_change = on_change
        self._on_failure = on_failure
        self._seen: tuple[str, int | None] | None = None
        self._server: Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self.thread = LoopThread(f"quorate-{config.cluster}-{config.node}", "replication")

    def start(self) -> None:
        """Recover and serve. Blocks. Raises ConfigError, TypeError, StorageError, OSError, and leaves nothing."""
        try:
            self.thread.run(self._start())
        except BaseException:
            self.thread.stop()
            raise

    def stop(self) -> None:
        """Leave in order. Blocks. A second call does nothing. Raises JournalFailed where not all became durable."""
        try:
            if not self.thread.is_over:
                self.thread.run(self._stop())
        finally:
            self.thread.stop()

    def status(self) -> Status:
        """Where the node stands, by its own account. Callable in any thread, and waits for nothing."""
        server = self._server
        if server is not None and self.failure is None:
            return server.status()
        return status_without_node(self.config, self.failure)

    async def read(self, query: bytes) -> bytes:
        """Ask this node's own state, however old, on its loop. Raises NoQuorum where it has none to ask yet."""
        assert self._server is not None
        try:
            return self._server.read(query)
        except Unavailable as error:
            raise NoQuorum(f"node {self.config.node} cannot be asked now: {error}") from None

    async def _start(self) -> None:
        server = server_of(self.config, self._machine)
        server.replica.on_leads = self._look_later
        await server.start()
        self._server = server
        self._watch = asyncio.create_task(self._until_it_ends(server))
        self._look()

    async def _stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        server, self._server = self._server, None
        if server is not None and self.failure is None:
            await server.stop()

    async def _until_it_ends(self, server: Server) -> None:
        try:
            await server.wait()
            return
        except Exception as error:
            what = str(error) or type(error).__name__
            failure = NodeFailed(f"node {self.config.node} in this process has stopped: {what}")
            failure.__cause__ = error
        self.failure = failure
        self._on_failure(failure)
        try:
            await server.stop()
        except (StorageError, OSError) as error:  # most likely the one that ended it
            log.info("node %d: %s", self.config.node, error)
        self._on_change(self.status())

    def _look_later(self) -> None:
        """The core is in the middle of a step."""
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        if self._server is None or self.failure is not None:
            return
        status = self._server.status()
        if (status.role, status.leader) != self._seen:
            self._seen = status.role, status.leader
            self._on_change(status)


def status_without_node(config: NodeConfig, failure: NodeFailed | None) -> Status:
    """That of a node that does not run, or not any more."""
    role, why = (STOPPED, None) if failure is None else (FAILED, str(failure))
    return Status(0, config.node, config.protocol, role, None, 0, 0, 0, os.getpid(), why)
