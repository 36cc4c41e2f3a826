"""Nodes without a service: any core and any App, over real sockets and files, on the loop of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

from quorate.kernel import ROOT, App, Core, Env, Requester
from quorate.kernel import Path as CorePath
from quorate.runtime.codec import Codec
from quorate.runtime.jobs import Doer
from quorate.runtime.node import Node

from tests.ports import free_ports


class Listing(App):
    """Lists the outputs it is given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def output(self, value: Any, path: CorePath = ROOT) -> None:
        self.seen.append(value)

    def request(self, client: Requester, request: Any) -> None:
        raise NotImplementedError

    def snapshot(self, path: CorePath = ROOT) -> Callable[[BinaryIO], None]:
        raise NotImplementedError

    def restore(self, file: BinaryIO, path: CorePath = ROOT) -> Callable[[], None]:
        raise NotImplementedError


@asynccontextmanager
async def nodes(
    folder: Path,
    core: type[Core],
    apps: Sequence[App],
    *,
    make: Callable[[Env], Core] | None = None,
    doers: Mapping[type, Doer] | None = None,
    ports: Sequence[int] = (),
) -> AsyncIterator[list[Node]]:
    """A running node for each App, in ``folder/n<i>``. The same folder and ports once more are a restart."""
    addresses = {number: ("127.0.0.1", port) for number, port in enumerate(ports or free_ports(len(apps)))}
    made = [
        Node(
            node=number,
            cluster="test",
            protocol=core.__name__,
            addresses=addresses,
            make=make or core,
            codec=Codec(core),
            app=app,
            data=folder / f"n{number}",
            doers=doers,
        )
        for number, app in enumerate(apps)
    ]
    try:
        for node in made:
            await node.start()
        yield made
    finally:
        for node in made:
            await node.stop()
