"""A node of a chain with an ABCI app in a process of its own, behind a door of lines; see ``tests/processes.py``.

Options: ``peers`` and ``clients``, the ports by node; ``behind``, where the nodes themselves listen for each other;
``keys``, a folder; ``app``, an address.

Lines: `tx HEX` (answered `ok`, or `no WHY`), `has KEY` (its value, or `-`), `hash` (height and hash of the app).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import msgspec

from quorate.ledger.comet.abci.request_messages import RequestQuery
from quorate.ledger.comet.rpc.view import RPCRefusal
from quorate.runtime.folder import Beginning
from quorate.service.comet.chain_server import ChainServer
from quorate.service.config import Member, NodeConfig

from tests.doors import LineCaller, LineDoor
from tests.processes import Place
from tests.service.chain_servers import QUICK


def at_port(port: int) -> str:
    """An address of this machine."""
    return f"127.0.0.1:{port}"


async def main() -> None:
    """Until the node ends, or the test is gone."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 1)
    place = msgspec.json.decode(sys.argv[1], type=Place)
    addresses = zip(place.options["peers"], place.options["clients"], place.options["behind"], strict=True)
    members = {node: Member(*map(at_port, ports)) for node, ports in enumerate(addresses, start=1)}
    config = NodeConfig(
        cluster="torture",
        node=place.node + 1,
        data=place.data,
        nodes=members,
        protocol="tendermint",
        options=QUICK,
        keys=Path(place.options["keys"]),
        app=place.options["app"],
    )
    server = ChainServer(config, beginning=Beginning.EITHER)
    await server.start()
    reader = server.view

    def take(caller: LineCaller, words: list[str]) -> None:
        task = asyncio.get_running_loop().create_task(answer(caller, words))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def answer(caller: LineCaller, words: list[str]) -> None:
        try:
            if words[0] == "tx":
                said = await reader.submit_tx(bytes.fromhex(words[1]))
                caller.reply("ok" if said.code == 0 else f"no code-{said.code}")
            elif words[0] == "has":
                found = await reader.query_app(RequestQuery(words[1].encode()))
                caller.reply(found.value.decode() or "-")
            else:
                info = await reader.app_info()
                caller.reply(f"{info.last_block_height} {info.last_block_app_hash.hex()}")
        except RPCRefusal as error:
            caller.reply("no " + str(error).replace(" ", "-"))

    tasks: set[asyncio.Task[None]] = set()
    door = LineDoor(place.door, take, lambda caller: None)
    await door.start()
    print("ready", flush=True)
    try:
        await server.wait()
    finally:
        await door.stop()
        await server.stop()


if __name__ == "__main__":
    asyncio.run(main())
