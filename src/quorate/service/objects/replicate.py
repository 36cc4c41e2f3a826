"""Run a replicated object in this process: a node of its cluster in a thread, and a handle to call it by."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from quorate.machines.objects.machine import (
    Raised,
    Replicated,
    decode_outcome,
    error_of,
    kinds_of,
    marked,
)
from quorate.protocols import REGISTRY
from quorate.runtime.address import format_address, parse_address
from quorate.runtime.files import make_directory
from quorate.service.client import aio
from quorate.service.client.sync import LoopThread
from quorate.service.config import ConfigError, from_mapping
from quorate.service.objects.sending import machine_of, pack_call
from quorate.service.server import Server

R = TypeVar("R", bound=Replicated)


class Handle:
    """Looks like the object; its marked methods go to the cluster and block until the answer is there."""

    def __init__(self, replication: Replication[Any]) -> None:
        self._replication = replication

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self._replication.method(name)


class Replication(Generic[R]):
    """One node that replicates a ``kind``. A context manager whose value is the handle, typed as the class itself."""

    def __init__(
        self,
        kind: type[R],
        *,
        node: int = 1,
        nodes: Mapping[int, str] | None = None,
        data: Path | str | None = None,
        cluster: str | None = None,
        protocol: str = "raft",
        keys: Path | str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._kind = kind
        self._temporary = tempfile.TemporaryDirectory(prefix="quorate-") if data is None else None
        folder = self._temporary.name if self._temporary is not None else str(data)
        addresses = dict(nodes) if nodes is not None else {node: f"127.0.0.1:{_free_port()}"}
        if keys is None and nodes is None:
            keys = _keys_for_one(node, protocol, Path(folder))
        self._config = from_mapping(
            {
                "cluster": cluster or kind.__name__,
                "node": node,
                "data": folder,
                "protocol": protocol,
                "nodes": {str(n): {"peer": text, "client": _next_port(text)} for n, text in addresses.items()},
                **({} if keys is None else {"keys": str(keys)}),
            }
        )
        self._commands = marked(kind, "command")
        self._reads = marked(kind, "read")
        self._kinds = kinds_of(kind)
        self._timeout_s = timeout_s
        self._thread: LoopThread | None = None

    def start(self) -> R:
        """Start the node; calls block until a quorum of nodes is there, up to ``timeout_s``."""
        self._thread = LoopThread(f"quorate-{self._kind.__name__}")
        try:
            self._thread.run(self._start())
        except BaseException:
            self._thread.stop()
            raise
        return cast(R, Handle(self))

    def stop(self) -> None:
        """Leave the cluster in order; the data folder stays, unless it was none of yours."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            thread.run(self._stop())
            thread.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> R:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def method(self, name: str) -> Callable[..., Any]:
        """The method of that name as a call to the cluster. Raises AttributeError where it is not marked."""
        if name not in self._commands and name not in self._reads:
            raise AttributeError(f"{self._kind.__name__}.{name} is not marked with @command or @read")

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._thread is None:
                raise RuntimeError(f"the replication of {self._kind.__name__} is not running: use it in a with block")
            payload = pack_call(self._kind, name, args, kwargs, self._kinds)
            send = self._client.command if name in self._commands else self._client.query
            outcome = decode_outcome(self._thread.run(send(payload)), self._kinds)
            if isinstance(outcome, Raised):
                raise error_of(outcome)
            return outcome.value

        return call

    async def _start(self) -> None:
        has_liars = self._config.entry.traits.is_byzantine
        self._server = Server(self._config, lambda _: machine_of(self._kind, has_liars=has_liars))
        await self._server.start()
        members = self._config.nodes
        # Its own node first: the client turns to the leader by itself.
        order = sorted(members, key=lambda n: n != self._config.node)
        faults = self._config.entry.traits.liars(len(members))
        self._client = aio.Connection([members[n].client for n in order], timeout_s=self._timeout_s, faults=faults)
        await self._client.__aenter__()

    async def _stop(self) -> None:
        await self._client.close()
        await self._server.stop()


def replicate(kind: type[R], **options: Any) -> Replication[R]:
    """Run ``kind`` replicated: ``with replicate(Counter, node=1, nodes={1: "host:port", ...}, data="data/1") as c:``.

    ``nodes`` gives every node's address; each uses that port and the next. Without ``nodes`` there is one node, on
    a free port; without ``data`` the state is gone with the process. Where nodes may lie, ``keys`` is the folder with
    this node's key and the keyring, as `quorate keys generate` makes them. Options as of Replication.
    Raises ConfigError, TypeError for a class that cannot be replicated, StorageError, OSError.
    """
    return Replication(kind, **options)


def _keys_for_one(node: int, protocol: str, folder: Path) -> Path | None:
    """The keys of a node that is alone, kept beside its data; None where it needs none."""
    entry = REGISTRY.get(protocol)
    if entry is None or not entry.traits.has_keys:
        return None
    from quorate.runtime import key_files
    from quorate.runtime.keys import generate_secret

    keys = folder / "keys"
    if not (keys / key_files.KEYRING_NAME).exists():
        make_directory(keys.absolute())
        public = key_files.write_private_key(keys / key_files.private_key_name(node), node, generate_secret())
        key_files.write_keyring(keys / key_files.KEYRING_NAME, {node: public})
    return keys


def _next_port(text: str) -> str:
    try:
        host, port = parse_address(text)
    except ValueError as error:
        raise ConfigError(f"nodes: {error}") from None
    return format_address(host, port + 1)


def _free_port() -> int:
    """A port with a free one behind it. Somebody may take them before we do; then the start fails, and says so."""
    for _ in range(64):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise OSError("no two neighbouring ports are free on 127.0.0.1")
