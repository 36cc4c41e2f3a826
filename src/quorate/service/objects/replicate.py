"""Run a replicated object in this process: a node of its cluster in a thread, and a handle to call it by."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from quorate.machines.named import NamedMachines
from quorate.machines.objects.calls import encode_raised
from quorate.machines.objects.kinds import Kinds
from quorate.machines.objects.machine import Replicated
from quorate.machines.objects.values import Packer
from quorate.machines.state_machine import StateMachine
from quorate.protocols import REGISTRY
from quorate.runtime.address import format_address
from quorate.runtime.errors import WrongIdentity
from quorate.service.client import aio
from quorate.service.client.errors import NodeFailed
from quorate.service.client.loop_thread import LoopThread, check_process
from quorate.service.config import NodeConfig
from quorate.service.objects.access import Line, ObjectAccess
from quorate.service.objects.callbacks import Callbacks
from quorate.service.objects.embedded import EmbeddedNode, status_without_node
from quorate.service.objects.handles import Async
from quorate.service.objects.sending import machine_of
from quorate.service.objects.settings import ScratchFolder, free_port, keys_for_one, node_config, usable
from quorate.service.requests import Status

R = TypeVar("R", bound=Replicated)
OnStatus = TypeVar("OnStatus", bound=Callable[[Status], object])
OnFailed = TypeVar("OnFailed", bound=Callable[[NodeFailed], object])

PORT_ATTEMPTS: Final = 8
"""Where the port is ours to choose, somebody else may take it between the choice and the start."""


class Replication(ObjectAccess[R]):
    """One node that replicates a ``kind``. A context manager whose value is the handle, typed as the class itself.

    What there is to know of the cluster is here and not at the handle, whose names are those of ``kind``.
    """

    what: ClassVar[str] = "replication"

    def __init__(
        self,
        kinds: Mapping[str, type[Replicated]],
        *,
        node: int = 1,
        nodes: Mapping[int, str] | None = None,
        data: Path | str | None = None,
        cluster: str | None = None,
        protocol: str = "raft",
        protocol_options: Mapping[str, Any] | None = None,
        keys: Path | str | None = None,
        listen: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """Options as of ``replicate``."""
        super().__init__(kinds, timeout_s)
        self._kinds = dict(kinds)
        self._number = node
        self._nodes = nodes
        self._data = data
        self._cluster = self._title if cluster is None else cluster
        self._is_named = cluster is not None
        self._protocol = protocol
        self._options = protocol_options
        self._keys = keys
        self._listen = listen
        self._scratch: ScratchFolder | None = None
        self._node: EmbeddedNode | None = None
        self._end: weakref.finalize[Any, Any] | None = None
        self._changes = Callbacks("quorate-on-change")
        self._failures = Callbacks("quorate-on-failure")
        if keys is None and nodes is None and protocol in REGISTRY and REGISTRY[protocol].traits.has_keys:
            keys = "keys"  # made at the start
        self._config = self._configured("data" if data is None else data, keys)
        machines_of(kinds, has_liars=False)  # a state that cannot be replicated is to be told here, not in a thread

    # --- what there is to know of the node ---

    def status(self) -> Status:
        """Where this node stands, by its own account; of one that has failed: role "failed", and why in ``stalled``.

        It waits for nothing and may be called in any thread.
        """
        if self._node is None:
            return status_without_node(self._config, None)
        check_process(self._node.thread.pid, self.what)
        return self._node.status()

    @property
    def leader(self) -> int | None:
        """The node that leads, as far as this one knows."""
        return self.status().leader

    @property
    def is_leader(self) -> bool:
        """Whether this node takes itself for the leader. It may have been deposed and not know it yet."""
        return self.status().leader == self._config.node

    @property
    def endpoint(self) -> str:
        """Where clients reach this node: what ``connect`` takes. Without ``nodes``, another port at every start."""
        return format_address(*self._config.client_address())

    def on_change(self, function: OnStatus) -> OnStatus:
        """Have a function called with the node's Status when another node leads, or its own role is another.

        It is called in a thread of its own, or on the event loop of `async with`. Stands as a decorator too.
        """
        return self._changes.add(function)

    def on_failure(self, function: OnFailed) -> OnFailed:
        """Have a function called with the reason when the node ends by itself: calls raise it too from then on."""
        return self._failures.add(function)

    # --- as the base says ---

    def _failure(self) -> NodeFailed | None:
        return None if self._node is None else self._node.failure

    def _connection(self) -> aio.Connection:
        members = self._config.nodes
        # Its own node first: the client turns to the leader by itself.
        order = sorted(members, key=lambda n: n != self._config.node)
        faults = self._config.entry.traits.liars(len(members))
        return aio.Connection([members[n].client for n in order], timeout_s=self._timeout_s, faults=faults)

    def _raise_thread(self, is_for_calls: bool) -> LoopThread | None:
        loop = None if is_for_calls else self._loop
        self._changes.on_loop(loop)
        self._failures.on_loop(loop)
        if self._data is None and self._scratch is None:
            self._scratch = ScratchFolder()
        folder = Path(self._data) if self._scratch is None else self._scratch.path  # type: ignore[arg-type]
        try:
            node = self._start_node(folder)
        except BaseException:
            self._end_thread()
            raise
        self._node = node
        self._end = weakref.finalize(self, _stop_forgotten, node, os.getpid())
        self._end.atexit = False
        return node.thread

    async def __aenter__(self) -> Async[R]:
        self._loop = asyncio.get_running_loop()
        return await super().__aenter__()

    def _end_thread(self) -> None:
        try:
            if self._node is not None:
                node, self._node = self._node, None
                node.stop()
        finally:
            if self._end is not None:
                self._end.detach()
            if self._scratch is not None:
                scratch, self._scratch = self._scratch, None
                scratch.remove()

    async def _read_here(self, line: Line, query: bytes) -> bytes:
        node = self._node
        assert node is not None
        if line.thread is not None:
            return await node.read(query)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(node.read(query), node.thread.loop))

    # --- the node ---

    def _start_node(self, folder: Path) -> EmbeddedNode:
        kinds, has_liars = self._kinds, self._config.entry.traits.is_byzantine
        attempts = PORT_ATTEMPTS if self._nodes is None else 1

        def machine(_: Path) -> StateMachine:
            # Of the classes alone: the node keeps no replication alive that nobody uses.
            return machines_of(kinds, has_liars=has_liars)

        usable(folder)
        while True:
            attempts -= 1
            keys = self._keys
            if keys is None and self._nodes is None:
                keys = keys_for_one(self._number, self._protocol, folder)
            self._config = self._configured(folder, keys)
            node = EmbeddedNode(self._config, machine, self._changes.tell, _Failing(self))
            try:
                node.start()
            except WrongIdentity as error:
                if self._is_named:
                    raise
                hint = "a cluster without a name has its class's; if the class was renamed, give cluster=OLD_NAME"
                raise WrongIdentity(f"{error}; {hint}") from None
            except OSError as error:
                if error.errno == errno.EADDRINUSE and attempts > 0:
                    continue
                if error.errno == errno.EADDRNOTAVAIL:
                    port = self._config.listen_peer()[1]
                    raise OSError(error.errno, f'{error.strerror}, as listen="0.0.0.0:{port}" does') from None
                raise
            return node

    def node_failed(self, failure: NodeFailed) -> None:
        """The node has ended by itself. For the node alone to call."""
        self._cut(str(failure))
        self._failures.tell(failure)

    def _configured(self, folder: Path | str, keys: Path | str | None) -> NodeConfig:
        nodes = {self._number: f"127.0.0.1:{free_port()}"} if self._nodes is None else self._nodes
        return node_config(
            node=self._number,
            nodes=nodes,
            data=folder,
            cluster=self._cluster,
            protocol=self._protocol,
            protocol_options=self._options,
            keys=keys,
            listen=self._listen,
        )


def machines_of(kinds: Mapping[str, type[Replicated]], *, has_liars: bool) -> StateMachine:
    """The state machine of one object, whose name is empty, or of several."""
    if "" in kinds:
        return machine_of(kinds[""], has_liars=has_liars)
    return NamedMachines(
        {name: partial(machine_of, kind, has_liars=has_liars) for name, kind in kinds.items()},
        lambda why: encode_raised(LookupError(why), Packer(Kinds())),
    )


class _Failing:
    """Tells a replication that its node has ended; keeps none alive that nobody uses."""

    def __init__(self, replication: Replication[Any]) -> None:
        self._replication = weakref.ref(replication)

    def __call__(self, failure: NodeFailed) -> None:
        if (replication := self._replication()) is not None:
            replication.node_failed(failure)


def _stop_forgotten(node: EmbeddedNode, pid: int) -> None:
    """Of a replication that nobody can stop any more: a cell of a notebook ran twice. Any thread may come here."""
    if os.getpid() == pid:
        threading.Thread(target=node.stop, name="quorate-stop", daemon=True).start()


def replicate(
    kind: type[R],
    *,
    node: int = 1,
    nodes: Mapping[int, str] | None = None,
    data: Path | str | None = None,
    cluster: str | None = None,
    protocol: str = "raft",
    protocol_options: Mapping[str, Any] | None = None,
    keys: Path | str | None = None,
    listen: str | None = None,
    timeout_s: float = 10.0,
) -> Replication[R]:
    """Run ``kind`` replicated: ``with replicate(Counter, node=1, nodes={1: "host:port", ...}, data="data/1") as c:``.

    ``nodes`` gives every node's address; each uses that port and the next, at ``listen`` where this node itself listens
    at another address. Without ``nodes`` there is one node, on a free port; without ``data`` the state is gone with the
    process. ``cluster``: its name, by default that of the class. ``protocol_options``: fields of the protocol's own
    config, such as ``{"heartbeat_s": 0.05}``. Where nodes may lie, ``keys`` is the folder with this node's key and the
    keyring, as `quorate keys generate` makes them. ``timeout_s`` bounds each call.
    Raises ConfigError, TypeError for a class that cannot be replicated; its start raises StorageError, OSError.
    """
    return Replication(
        {"": kind},
        node=node,
        nodes=nodes,
        data=data,
        cluster=cluster,
        protocol=protocol,
        protocol_options=protocol_options,
        keys=keys,
        listen=listen,
        timeout_s=timeout_s,
    )
