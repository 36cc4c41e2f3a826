"""A real node of the toy, as a process.

Its door takes ``submit ID`` and answers ``applied ID``; ``log`` lists the checksums of what is decided, ``waiting``
says how many submissions clients wait for and how many are in values.
"""

from __future__ import annotations

from zlib import crc32

from quorate.runtime.codec import Codec
from quorate.runtime.node import Node

from tests.doors import LineCaller
from tests.processes import Place, Served, serve
from tests.toy import sick
from tests.toy.app import Applied, AskedApp, Submit
from tests.toy.asking import Asking


def make(place: Place) -> Served:
    """The option ``apps`` names other Apps than AskedApp by node."""
    app: AskedApp = getattr(sick, place.options.get("apps", {}).get(str(place.node), "AskedApp"))()
    node = Node(
        node=place.node,
        cluster="toy",
        protocol="asking",
        addresses=place.addresses,
        make=Asking,
        codec=Codec(Asking),
        app=app,
        data=place.data,
    )

    def take(caller: LineCaller, line: list[str]) -> None:
        if line[0] == "submit":
            app.request(caller, Submit(line[1], b""))
        elif line[0] == "log":
            caller.reply(" ".join(["log", *(f"{crc32(value):08x}" for value in app.decided)]))
        elif line[0] == "waiting":
            caller.reply(f"waiting {len(app.waiting)} {len(app.chain.ids)}")

    return node, take, words


def words(response: Applied | str) -> str:
    return response if isinstance(response, str) else f"applied {response.id}"


if __name__ == "__main__":
    serve(make)
