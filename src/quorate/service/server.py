"""Server: one node that serves clients. A Node, a Replica over a state machine, and the client port.

The frames of one read are decoded and handed to the Replica together; what they submit joins the node's next turn.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from quorate.machines.kv.machine import KvMachine
from quorate.machines.kv.table_reader import heads_apart
from quorate.machines.none import NoMachine
from quorate.machines.state_machine import StateMachine
from quorate.parts.log.configuration import InForce, Reconfigurable
from quorate.parts.log.replicated import KeepsLog
from quorate.protocols.traits import Belief, Traits, Value
from quorate.release import release
from quorate.runtime.address import format_address
from quorate.runtime.codec import Codec
from quorate.runtime.descriptors import limit_now, shares
from quorate.runtime.errors import DiskHangs
from quorate.runtime.folder import Beginning
from quorate.runtime.framing import FrameTooLarge
from quorate.runtime.handshake import Bears, LocalNode
from quorate.runtime.incarnations import NEVER_AGAIN
from quorate.runtime.listener import ClientConnection, ClientLimits, ClientListener
from quorate.runtime.memory import MemoryBudget
from quorate.runtime.node import Node
from quorate.runtime.peer_links import PeerLimits
from quorate.runtime.watchdog import Watchdog
from quorate.service.audits import Audits
from quorate.service.backup.giving import Backups
from quorate.service.config import NodeConfig, check_config
from quorate.service.descriptions import describe_cluster
from quorate.service.presence import why_not_forget
from quorate.service.reconfiguration import Membership
from quorate.service.replica import IS_WITNESS, Replica
from quorate.service.requests import (
    DECODE_ERRORS,
    AskCluster,
    AskStatus,
    BackupBegun,
    BackupPiece,
    Code,
    Command,
    Description,
    Failure,
    Query,
    Reconfigure,
    Response,
    Result,
    Results,
    Status,
    TakeBackup,
    TakePiece,
    TransferLeadership,
    decode_request,
    encode,
)
from quorate.service.sessions import stamped
from quorate.service.signed import SignedReplica

log = logging.getLogger("quorate.server")
TOO_MANY = "too many requests wait at this node"
REPAIR = f"{NEVER_AGAIN}, unless by `quorate node --repair`, with nothing where its folder should be"
REPLACE = (
    f"{NEVER_AGAIN}: have a new node join under another number (`quorate members add`), and take its place (`quorate "
    "members replace`)"
)
LEDGER = "this cluster keeps a ledger: its blocks are their own backup, and any node that joins fetches them"
UNREAD = "too many answers wait at this node for clients that do not read them"


TABLES = "kv"
"""The folder of the store's tables, in that of the node."""


def machine_of_config(config: NodeConfig, data: Path) -> StateMachine:
    """What the configuration says that the cluster keeps: a ledger, or keys and values."""
    if config.ledger is None:
        return kv_machine(data)
    from quorate.machines.chain.ledger_machine import LedgerMachine  # most nodes have none

    return LedgerMachine(data / "chain", config.ledger)


def kv_machine(data: Path) -> StateMachine:
    """The key-value store, with its working files in the node's data folder."""
    return KvMachine(data / TABLES, read=heads_apart)


class Unavailable(Exception):
    """Not now, as the text says; a little later perhaps."""


class Caller:
    """A client on the client port: the Requester that the Replica answers. Nobody asks who it is."""

    principal = ""

    def __init__(self, connection: ClientConnection, leads: Callable[[], bool]) -> None:
        """``leads``: whether this node does."""
        self._connection = connection
        self._leads = leads

    def reply(self, response: Response | Description | BackupBegun | BackupPiece) -> None:
        """One answer to one request; a client that is gone is no error.

        A node that led, and was cut off or removed, knows of no leader but itself: it names none, so that clients turn
        to another node.
        """
        if type(response) is Failure and response.leader == self._connection.me.node and not self._leads():
            response = msgspec.structs.replace(response, leader=None)
        payload = encode(response)
        try:
            self._connection.reply(payload)
        except FrameTooLarge:
            most = self._connection.limits.frame_size_bytes_max
            why = f"the answer has {len(payload)} bytes, and a node sends at most {most}"
            self._connection.reply(encode(_too_large(response, why)))
        self._connection.done()


class Server:
    """One node of a cluster. ``machine(data)`` makes the state machine it replicates."""

    def __init__(
        self,
        config: NodeConfig,
        machine: Callable[[Path], StateMachine] | None = None,
        beginning: Beginning = Beginning.EITHER,
    ) -> None:
        """``machine``: None: what the configuration says. ``beginning``: whether the node is new, or has a folder of an
        earlier life.

        Raises ConfigError if the configuration cannot be used, or the keys are not there or not those of this cluster.
        """
        check_config(config)
        entry = config.entry
        self.config = config
        budget = config.memory
        self.keys = keys = config.load_keys() if entry.traits.has_keys else None
        make = partial(machine_of_config, config) if machine is None else machine
        self.machine = NoMachine() if config.witness else make(config.data)
        self._keyring = None if keys is None else keys.keyring
        self.membership = Membership(config)
        is_signed = entry.traits.value is Value.SIGNED_REQUESTS
        # A log of signed requests has no place for what nodes say; there the protocol compares checkpoints.
        audits = Audits(config.node, self._voters) if self.machine.is_audited and not is_signed else None
        clock_of = config.node if self.machine.keeps_time else None
        self.replica = self._signed_replica() if is_signed else Replica(self.machine, audits=audits, clock_of=clock_of)
        client_limits, peer_limits = limits_of(len(config.nodes), budget)
        self.node = Node(
            why_not_forget=partial(why_not_forget, config),
            node=config.node,
            cluster=config.cluster,
            protocol=protocol_of(config),
            addresses=config.peer_addresses(),
            listen_at=config.listen_peer(),
            make=entry.make(
                _within(config.options if config.options is not None else entry.config(), budget),
                keys=None if keys is None else lambda _: keys,
            ),
            codec=Codec(entry.core),
            app=self.replica,
            data=config.data,
            keys=keys,
            peer_limits=peer_limits,
            beginning=beginning,
            on_folder=self._open_files,
        )
        self.node.on_roster = self._on_roster
        self.replica.on_configured = self._know_places
        if entry.core.is_repairable:
            self.node.peers.incarnations.advice = REPAIR
        elif entry.traits.members.can_change:
            self.node.peers.incarnations.advice = REPLACE
        self.watchdog = Watchdog()
        bears = self._bears(len(config.nodes))
        if bears is not None and not bears.liars:
            log.warning("%d nodes bear no lying node: it takes 4 to bear one", len(config.founders))
        me = LocalNode(config.cluster, entry.name, config.node, frozenset(config.nodes), bears)
        host, port = config.listen_client()
        self._callers: dict[ClientConnection, Caller] = {}
        self._backups = Backups(self._begin_backup)
        self._transfers: set[asyncio.Task[None]] = set()
        """Of leadership, under way."""
        self.listener = ClientListener(
            host, port, me, self._on_connect, self._on_frames, self._on_close, client_limits, self._on_busy
        )

    def _signed_replica(self) -> SignedReplica:
        return SignedReplica(self.machine)

    def _open_files(self) -> None:
        """The node has its folder for itself. Raises OSError, StorageError."""
        self.machine.open()

    @property
    def awaits(self) -> str:
        """As of a ChainServer: a start waits for nothing but this node's files."""
        return ""

    async def start(self) -> None:
        """Recover and serve. Raises StorageError, OSError."""
        try:
            await self.node.start()
            self._know_places()  # without them it might find nobody who says that they are so
            await self.listener.start()
            self.watchdog.start()
        except BaseException:
            await self.node.stop()
            self.machine.close()
            raise
        where = format_address(self.listener.host, self.listener.port)
        log.info("node %d serves clients at %s", self.config.node, where)

    async def wait(self) -> None:
        """Return when the server was stopped; raise what makes it unable to go on."""
        await self.node.wait()

    async def stop(self) -> None:
        """Have another node lead, answer what can be answered, make durable what is queued, close the files.

        Raises StorageError as ``Node.stop`` does.
        """
        self.watchdog.stop()
        self._backups.stop()
        await self.node.hand_over()
        await self.listener.stop()
        try:
            await self.node.stop()
        except DiskHangs:
            raise  # a thread may be in the machine's files
        except BaseException:
            self.machine.close()
            raise
        self.machine.close()

    def _bears(self, nodes: int) -> Bears | None:
        """What so many nodes bear: as many liars as those did that the cluster began with.

        A newcomer's file may name few nodes; there are more, or the cluster could not go on.
        """
        return bears_of(self.config.entry.traits, self.membership.faults, nodes)

    def _on_roster(self) -> None:
        """Nodes have come or gone. Clients that count on a number of them are to hear of it before they count again."""
        bears = self._bears(len(self.node.host.roster.peers))
        if bears != self.listener.me.bears:
            self.listener.me = msgspec.structs.replace(self.listener.me, bears=bears)
            for connection in list(self.listener.clients):
                connection.cut("the nodes of this cluster are others now: call again")

        self._know_places()

    def _know_places(self) -> None:
        """The log says where nodes are that joined or moved; once that is decided, also which folder each has."""
        peers, core = self.node.peers, self.node.host.root
        for place in core.places() if isinstance(core, Reconfigurable) else ():
            if place.node in peers.links:
                peers.move(place.node, place.peer)
        for place in self._in_force.nodes.places:
            if place.node in peers.links:
                peers.incarnations.expect(place.node, place.incarnation)

    def status(self) -> Status:
        """This node's view of itself, as it may be told at once."""
        return _told(self._view(), self.node.is_durable)

    def _view(self, request: int = 0) -> Status:
        """In memory. A view counts as a term; a protocol with neither is in term 0."""
        core = self.node.host.root.standing()
        applied_index, in_force = self.replica.applied_index, self._in_force
        if self.replica.is_stateless:
            applied_index = core.commit_index or 0  # so far it follows
        return Status(
            id=request,
            node=self.config.node,
            protocol=self.config.protocol,
            role=core.role,
            leader=core.leader,
            term=core.term,
            commit_index=applied_index if core.commit_index is None else core.commit_index,
            applied_index=applied_index,
            pid=os.getpid(),
            stalled=self.node.stalled_why,
            voters=in_force.voters,
            nodes=self.membership.here(in_force.nodes),
            note=core.note,
        )

    def _describe(self, request: int) -> Description:
        return describe_cluster(request, self.config, self._in_force, self._in_force.keyring or self._keyring)

    def read(self, query: bytes) -> bytes:
        """Ask this node's own state, however old it is. Raises Unavailable while there is none to ask."""
        if self.node.is_loading:
            raise Unavailable("a snapshot is being loaded")
        if self.replica.is_stateless:
            raise Unavailable(IS_WITNESS)
        return self.replica.read(query)

    def _on_connect(self, connection: ClientConnection) -> None:
        self._callers[connection] = Caller(connection, self._leads)

    def _leads(self) -> bool:
        return self.node.host.root.standing().leader == self.config.node

    def _on_close(self, connection: ClientConnection, _: str) -> None:
        caller = self._callers.pop(connection)
        self._backups.closed(caller)
        self.replica.closed(caller)

    def _on_frames(self, connection: ClientConnection, frames: list[bytes]) -> None:
        caller = self._callers[connection]
        request_of, take = decode_request, self.replica.request
        for frame in frames:
            try:
                request = request_of(frame)
            except DECODE_ERRORS as error:
                connection.cut(f"sent no request: {error}")
                return
            if type(request) is AskStatus:
                self.node.after_durable(partial(_tell, caller, self._view(request.id)))
            elif type(request) is TransferLeadership:
                self._begin_transfer(caller, request)
            elif type(request) is AskCluster:
                self.node.after_durable(partial(_tell_cluster, caller, self._describe(request.id)))
            elif type(request) is TakeBackup:
                self._backups.begin(caller, request)
            elif type(request) is TakePiece:
                self._backups.piece(caller, request)
            elif type(request) is Query and request.serializable and self.node.is_loading:
                # However old an answer may be: what was here before the restart is not gone.
                caller.reply(Failure(request.id, Code.UNAVAILABLE, "a snapshot is being loaded"))
            elif type(request) is Reconfigure and (why := self._why_not(request)) is not None:
                caller.reply(Failure(request.id, Code.MALFORMED, why))
            elif type(request) is Query and not self.listener.replies.has_room(connection):
                caller.reply(Failure(request.id, Code.BUSY, UNREAD))
            elif type(request) is Command and (entry := stamped(request.entry, connection.host)) is not request.entry:
                take(caller, msgspec.structs.replace(request, entry=entry))
            else:
                take(caller, request)
        self.node.wake()

    def _on_busy(self, connection: ClientConnection, frames: list[bytes]) -> None:
        """No room for these. Nothing was done with them, so their clients are told that for sure."""
        for frame in frames:
            try:
                request = decode_request(frame)
            except DECODE_ERRORS as error:
                connection.cut(f"sent no request: {error}")
                return
            if type(request) is AskStatus:  # whoever asks this is in need of an answer
                payload = encode(_told(self._view(request.id), self.node.is_durable))
            else:
                payload = encode(Failure(request.id, Code.BUSY, TOO_MANY, self.replica.leader))
            connection.reply(payload)

    def _begin_backup(self, request: TakeBackup) -> tuple[BackupBegun, Callable[[BinaryIO], None]] | Failure:
        """The state as it is now, if there is one that was applied so far."""
        config, replica, machine = self.config, self.replica, self.replica.machine
        if config.ledger is not None:
            return Failure(request.id, Code.MALFORMED, LEDGER)
        if replica.is_stateless:
            return Failure(request.id, Code.STATELESS, IS_WITNESS)
        if self.node.is_loading:
            return Failure(request.id, Code.UNAVAILABLE, "a snapshot is being loaded")
        if replica.applied_index < request.at_least:
            why = f"node {config.node} has applied the log up to {replica.applied_index}, and {request.at_least} is out"
            return Failure(request.id, Code.UNAVAILABLE, why)
        write = replica.backup()
        if isinstance(write, str):
            return Failure(request.id, Code.STORAGE, write)
        standing, (revision, oldest) = self.node.host.root.standing(), machine.history()
        begun = BackupBegun(
            *(request.id, config.cluster, config.protocol, config.node, standing.role, replica.applied_index),
            *(standing.term, machine.kind, revision, oldest, time.time_ns(), release()),
        )
        return begun, write

    def _begin_transfer(self, caller: Caller, request: TransferLeadership) -> None:
        """What cannot come about is refused at once, in words."""
        root, me = self.node.host.root, self.config.node
        standing = root.standing()
        if not root.hands_over:
            why = f"{self.config.protocol} has no transfer of leadership"
            caller.reply(Failure(request.id, Code.MALFORMED, why))
        elif not standing.was_elected:
            caller.reply(Failure(request.id, Code.UNAVAILABLE, f"node {me} does not lead", standing.leader))
        elif request.to == me:
            caller.reply(Result(request.id, b"%d" % me))
        elif (why_not := root.why_not_hand_over(request.to)) is not None:
            caller.reply(Failure(request.id, Code.MALFORMED, f"node {me} leads on: {why_not}"))
        else:
            task = asyncio.get_running_loop().create_task(self._transfer(caller, request))
            self._transfers.add(task)
            task.add_done_callback(self._transfers.discard)

    async def _transfer(self, caller: Caller, request: TransferLeadership) -> None:
        leader, me = await self.node.transfer(request.to), self.config.node
        if leader is None:
            who = "no other node" if request.to is None else f"node {request.to}"
            why = f"{who} took over within an election timeout, so node {me} leads on: nothing has changed"
            caller.reply(Failure(request.id, Code.UNAVAILABLE, why, me))
        else:
            log.info("node %d leads in place of this one, as somebody asked for", leader)
            caller.reply(Result(request.id, b"%d" % leader))

    def _why_not(self, request: Reconfigure) -> str | None:
        in_force = self._in_force
        return self.membership.why_not(request.entry, in_force.nodes, in_force.keyring, in_force.voters)

    def _voters(self) -> tuple[int, ...]:
        """Those whose states are compared: a witness has none."""
        in_force = self._in_force
        return tuple(node for node in in_force.voters.members if node not in in_force.nodes.witnesses)

    @property
    def _in_force(self) -> InForce:
        """Who votes, and which nodes there are; where that never changes, those of the configuration."""
        core = self.node.host.root
        return core.in_force() if isinstance(core, Reconfigurable) else InForce(self.membership.all)


def protocol_of(config: NodeConfig) -> str:
    """What nodes must have alike to talk to each other: the protocol, and the chain if they keep one."""
    return config.entry.name if config.ledger is None else f"{config.entry.name}-ledger-{config.ledger.id.hex()[:16]}"


def bears_of(traits: Traits, faults: int, nodes: int) -> Bears | None:
    """What so many nodes bear, where clients count answers; at least as many nodes as it takes for the faults."""
    if traits.belief is not Belief.VOTES:
        return None
    return Bears(faults, max(nodes, traits.fault_model.nodes(faults)))


def _within(options: Any, budget: MemoryBudget) -> Any:
    return options.within(budget.log_bytes) if isinstance(options, KeepsLog) else options


def limits_of(nodes: int, budget: MemoryBudget) -> tuple[ClientLimits, PeerLimits]:
    """What the budget gives clients, and as many of them as usual, unless there may be too few file descriptors."""
    clients = ClientLimits(
        requests_bytes_max=budget.requests_bytes,
        unfinished_bytes_max=budget.unfinished_bytes,
        replies_bytes_max=budget.replies_bytes,
    )
    peers, limit = PeerLimits(), limit_now()
    wanted = clients.connections_max + clients.refusals_max
    found = shares(limit, nodes, wanted, peers.callers_max)
    if found.clients < wanted:
        refusals_max = min(clients.refusals_max, found.clients // 8)
        most = found.clients - refusals_max
        log.warning("%d file descriptors are enough for %d clients: raise the limit (ulimit -n)", limit, most)
        clients = msgspec.structs.replace(clients, connections_max=most, refusals_max=refusals_max)
    return clients, msgspec.structs.replace(peers, callers_max=found.callers)


def _too_large(response: Response | Description | BackupBegun | BackupPiece, why: str) -> Response:
    if isinstance(response, Results):  # what is too large goes alone
        return Results(response.id, tuple(Failure(answer.id, Code.TOO_LARGE, why) for answer in response.answers))
    return Failure(response.id, Code.TOO_LARGE, why)


def _tell(caller: Caller, view: Status, is_durable: bool) -> None:
    caller.reply(_told(view, is_durable))


def _told(view: Status, is_durable: bool) -> Status:
    """Who votes is told when that is durable: people stop nodes on the strength of it."""
    return view if is_durable else msgspec.structs.replace(view, voters=None, nodes=())


def _tell_cluster(caller: Caller, cluster: Description, is_durable: bool) -> None:
    caller.reply(cluster if is_durable else msgspec.structs.replace(cluster, voters=None))
