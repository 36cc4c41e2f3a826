"""A node of a chain whose receiver is tapped (``tap.py``), with a disk that is slow to begin a write.

Options beside those of ``chain_node``: ``tap``, the file's name by node; ``disk_s``, how long each write waits;
``planted``, the number of a node that sends before it writes. The delay is what a kill needs to fall between the two.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from quorate.kernel import Core
from quorate.runtime.codec import Codec
from quorate.runtime.node import Node
from quorate.service.comet import chain_server
from quorate.sim.shells import NoBarrier

from tests.processes import Place
from tests.torture import chain_node
from tests.torture.tap import TappedCodec


def slow(call: Callable[..., Any], delay_s: float) -> Callable[..., Any]:
    """The same, later. Journals are written in a thread of their own: nothing else waits."""

    def later(*arguments: Any) -> Any:
        time.sleep(delay_s)
        return call(*arguments)

    return later


def main() -> None:
    place = msgspec.json.decode(sys.argv[1], type=Place)
    options = place.options

    def codec(core: type[Core]) -> Codec:
        return TappedCodec(core, place.data.with_suffix(".tap"))

    chain_server.Codec = codec  # type: ignore[assignment, misc]
    os.pwritev = slow(os.pwritev, options["disk_s"])
    if options["planted"] == place.node:
        chain_server.Node = partial(Node, shell=NoBarrier)  # type: ignore[assignment, misc]
    asyncio.run(chain_node.main())


if __name__ == "__main__":
    main()
