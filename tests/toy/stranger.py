"""A node of the gossip among strangers, as a process. Its door takes these lines:

``tell N`` begins rumour N. ``heard`` answers with the numbers of the rumours that it knows. ``peers`` lists the keys of
its links. ``garbage`` sends every link bytes that are no message. ``dial PORT`` dials a node. ``unmet`` lists why
dials came to nothing.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, BinaryIO

from quorate.kernel import ROOT, App, Requester
from quorate.kernel import Path as CorePath
from quorate.runtime.codec import Codec
from quorate.runtime.keys import Ed25519Signer
from quorate.runtime.open_node import OpenNode

from tests.doors import LineCaller
from tests.processes import Place, serve
from tests.sim.gossip import NUMBER_BYTES, Gossip


def signer(node: int) -> Ed25519Signer:
    """The same in each life."""
    return Ed25519Signer(None, sha256(b"stranger %d" % node).digest())


class Reporting(Gossip):
    """Remembers why it met nobody, and how it comes by those it meets."""

    def __init__(self, env: Any, seeds: Any) -> None:
        super().__init__(env, seeds)
        self.unmet: list[str] = []

    def on_unmet(self, address: str, why: str) -> None:
        self.unmet.append(why)
        super().on_unmet(address, why)

    def keys(self) -> list[str]:
        return sorted(key.hex() for key, _, _ in self._links.values())


class NoApp(App):
    """Rumours are the core's affair."""

    def output(self, value: Any, path: CorePath = ROOT) -> None:
        pass

    def request(self, client: Requester, request: bytes) -> None:
        self.port.submit([request])

    def snapshot(self, path: CorePath = ROOT) -> Any:
        raise NotImplementedError

    def restore(self, file: BinaryIO, path: CorePath = ROOT) -> Any:
        raise NotImplementedError


def make(place: Place):
    """Everybody is told of the first node alone."""
    app = NoApp()
    seeds = () if place.node == 0 else (f"127.0.0.1:{place.ports[0]}",)
    node = OpenNode(
        signer=signer(place.node),
        network="test",
        protocol="gossip",
        listen_at=("127.0.0.1", place.ports[place.node]),
        make=lambda env: Reporting(env, seeds),
        codec=Codec(Reporting),
        app=app,
        data=place.data,
    )

    def take(caller: LineCaller, line: list[str]) -> None:
        core = node.host.root
        assert isinstance(core, Reporting)
        match line:
            case ["tell", number]:
                app.request(caller, int(number).to_bytes(NUMBER_BYTES, "big"))
                caller.reply("told")
            case ["heard"]:
                caller.reply(" ".join(["heard", *map(str, sorted(core.known))]))
            case ["peers"]:
                caller.reply(" ".join(["peers", *core.keys()]))
            case ["garbage"]:
                node.strangers.send_many(node.strangers.connected(), b"\xc1\xc1\xc1")
                caller.reply("sent")
            case ["unmet"]:
                caller.reply("unmet " + "; ".join(core.unmet))
            case ["dial", port]:
                node.strangers.meet(f"127.0.0.1:{port}")
                caller.reply("dialling")

    return node, take, str


if __name__ == "__main__":
    serve(make)
