"""A real node of a Lottery or a Hall, as a process that writes down every Turn.

Its door takes ``draw VALUE`` and answers ``drawn VALUE``; ``found`` gives the digest of the state that this life began
with, ``known VALUE`` whether the App knows of it.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from quorate.kernel import Shell, Turn
from quorate.runtime import node as module
from quorate.runtime.codec import Codec
from quorate.runtime.node import Node

from tests.doors import LineCaller
from tests.processes import Place, Served, serve
from tests.runtime.lottery import Hall, Lottery, Teller, Weigh, weigh

CORES = {"lottery": Lottery, "hall": Hall}
LENGTH_BYTES = 4


def recording(path: str) -> type[Shell]:
    """A Shell that appends each Turn to a file before it acts on it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    class Recording(Shell):
        def act(self, turn: Turn) -> None:
            data = msgspec.msgpack.encode(turn)
            os.write(fd, len(data).to_bytes(LENGTH_BYTES, "big") + data)
            super().act(turn)

    return Recording


def turns_in(data: bytes) -> list[bytes]:
    """What a Recording wrote; the last may be cut."""
    found = []
    while len(data) >= LENGTH_BYTES:
        size = int.from_bytes(data[:LENGTH_BYTES], "big")
        turn, data = data[LENGTH_BYTES : LENGTH_BYTES + size], data[LENGTH_BYTES + size :]
        if len(turn) == size:
            found.append(turn)
    return found


def make(place: Place) -> Served:
    """Options: ``core``; ``checkpoint_after_bytes``, where the journal is to be replaced often."""
    if after := place.options.get("checkpoint_after_bytes"):
        module.CHECKPOINT_AFTER_BYTES = after
    core = CORES[place.options["core"]]
    app = Teller()
    lives = len(list(place.data.glob("turns-*")))
    place.data.mkdir(parents=True, exist_ok=True)
    node = Node(
        node=place.node,
        cluster="lottery",
        protocol=place.options["core"],
        addresses=place.addresses,
        make=core,
        codec=Codec(core),
        app=app,
        data=place.data,
        doers={Weigh: weigh},
        shell=recording(str(place.data / f"turns-{lives}")),
    )

    def take(caller: LineCaller, line: list[str]) -> None:
        root: Any = node.host.root
        if line[0] == "draw":
            app.request(caller, line[1].encode())
        elif line[0] == "found":
            caller.reply(f"found {root.found}")
        elif line[0] == "known":
            caller.reply(f"known {line[1].encode() in app.known}")

    return node, take, str


if __name__ == "__main__":
    serve(make)
