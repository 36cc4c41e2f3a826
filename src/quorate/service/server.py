"""Server: one node that serves clients. A Node, a Replica over a state machine, and the client port.

The frames of one read are decoded and handed to the Replica together; what they submit joins the node's next turn.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from quorate.runtime.codec import Codec
from quorate.runtime.framing import FrameTooLarge
from quorate.runtime.handshake import LocalNode
from quorate.runtime.listener import ClientConnection, ClientListener
from quorate.runtime.node import Node
from quorate.service.config import NodeConfig
from quorate.service.kv.machine import KvMachine
from quorate.service.machine import StateMachine
from quorate.service.replica import Replica
from quorate.service.requests import (
    DECODE_ERRORS,
    AskStatus,
    Code,
    Failure,
    Query,
    Response,
    Status,
    decode_request,
    encode,
)

log = logging.getLogger("quorate.server")


def kv_machine(data: Path) -> StateMachine:
    """The key-value store, with its working files in the node's data folder."""
    return KvMachine(data / "kv")


class Server:
    """One node of a cluster. ``machine(data)`` makes the state machine it replicates."""

    def __init__(self, config: NodeConfig, machine: Callable[[Path], StateMachine] = kv_machine) -> None:
        entry = config.entry
        self.config = config
        self.machine = machine(config.data)
        self.replica = Replica(self.machine)
        self.node = Node(
            node=config.node,
            cluster=config.cluster,
            protocol=entry.name,
            addresses=config.peer_addresses(),
            make=entry.make(config.options if config.options is not None else entry.config()),
            codec=Codec(entry.core),
            app=self.replica,
            reply=self._reply,
            data=config.data,
        )
        me = LocalNode(config.cluster, entry.name, config.node, frozenset(config.nodes))
        host, port = config.client_address()
        self.listener = ClientListener(host, port, me, lambda _: None, self._on_frames, lambda _, __: None)

    async def start(self) -> None:
        """Recover and serve. Raises StorageError, OSError."""
        try:
            await self.node.start()
            await self.listener.start()
        except BaseException:
            await self.node.stop()
            self.machine.close()
            raise
        log.info("node %d serves clients at %s:%d", self.config.node, self.listener.host, self.listener.port)

    async def wait(self) -> None:
        """Return when the server was stopped; raise what makes it unable to go on."""
        await self.node.wait()

    async def stop(self) -> None:
        """Answer what can be answered, make durable what is queued, close the files."""
        await self.listener.stop()
        try:
            await self.node.stop()
        finally:
            self.machine.close()

    def status(self, request: int = 0) -> Status:
        """This node's view of itself. A protocol without terms is in term 0; one without roles has a leader at most."""
        core = self.node.host.root
        leader: int | None = getattr(core, "leader", self.replica.leader)
        role = "leader" if leader == self.config.node else "follower"
        return Status(
            id=request,
            node=self.config.node,
            protocol=self.config.protocol,
            role=getattr(core, "role", role),
            leader=leader,
            term=getattr(core, "term", 0),
            commit_index=getattr(core, "commit_index", self.replica.applied_index),
            applied_index=self.replica.applied_index,
            pid=os.getpid(),
            stalled=self.node.stalled_why,
        )

    def _on_frames(self, connection: ClientConnection, frames: list[bytes]) -> None:
        request_of, take = decode_request, self.replica.request
        for frame in frames:
            try:
                request = request_of(frame)
            except DECODE_ERRORS as error:
                connection.cut(f"sent no request: {error}")
                return
            if type(request) is AskStatus:
                self._reply(connection, self.status(request.id))
            elif type(request) is Query and request.serializable and self.node.is_loading:
                # However old an answer may be: what was here before the restart is not gone.
                self._reply(connection, Failure(request.id, Code.UNAVAILABLE, "a snapshot is being loaded"))
            else:
                take(connection, request)
        self.node.wake()

    def _reply(self, client: ClientConnection, response: Response) -> None:
        try:
            client.reply(encode(response))
        except FrameTooLarge as error:
            client.reply(encode(Failure(response.id, Code.TOO_LARGE, f"the answer: {error}; ask for less at once")))
        client.done()
