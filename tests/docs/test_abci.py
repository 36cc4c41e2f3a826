"""The app of docs/abci.md runs, behind a socket, and is about as short as the page says."""

import asyncio
import runpy
import subprocess
import sys
from pathlib import Path

from quorate.ledger.comet.abci.request_messages import (
    RequestCheckTx,
    RequestCommit,
    RequestFinalizeBlock,
    RequestInfo,
    RequestQuery,
)
from quorate.ledger.comet.abci.response_messages import (
    ResponseCheckTx,
    ResponseCommit,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseQuery,
)
from quorate.runtime.endpoints import parse_endpoint
from quorate.service.abci.app_client import AppClient

from tests.cluster import environment
from tests.docs.snippets import blocks
from tests.ports import free_ports
from tests.protocols.tendermint.extended_node import VERIFY, ExtendedNode
from tests.protocols.tendermint.one_app_node import ALONE
from tests.service.abci_apps import until_listened_on

PROGRAM, EXTENDING = (block.text for block in blocks("docs/abci.md", "python"))
ADDRESS = "tcp://127.0.0.1:26658"
LINES_MAX = 28


def test_it_is_short() -> None:
    assert len([line for line in PROGRAM.splitlines() if line.strip()]) <= LINES_MAX


def test_the_app_of_the_page(tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    file = tmp_path / "adder.py"
    assert ADDRESS in PROGRAM
    file.write_text(PROGRAM.replace(ADDRESS, address))

    async def main() -> None:
        client = AppClient(parse_endpoint(address))
        await until_listened_on(client.endpoint)
        await client.start()
        assert (await client.ask(RequestInfo(), ResponseInfo)).last_block_height == 0
        assert [(await client.ask(RequestCheckTx(tx), ResponseCheckTx)).code for tx in (b"7", b"x")] == [0, 1]
        done = await client.ask(RequestFinalizeBlock((b"7", b"x", b"35"), height=1), ResponseFinalizeBlock)
        assert ([result.code for result in done.tx_results], done.app_hash) == ([0, 1, 0], b"42")
        assert (await client.ask(RequestQuery(), ResponseQuery)).value == b"0"
        await client.ask(RequestCommit(), ResponseCommit)
        assert (await client.ask(RequestQuery(), ResponseQuery)).value == b"42"
        info = await client.ask(RequestInfo(), ResponseInfo)
        assert (info.last_block_height, info.last_block_app_hash) == (1, b"42")
        process.terminate()
        assert "the app" in str(await asyncio.wait_for(client.failed, 10.0))

    process = subprocess.Popen([sys.executable, str(file)], env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        asyncio.run(asyncio.wait_for(main(), 60.0))
        assert process.wait(10.0) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_app_of_the_page_that_extends_votes(tmp_path: Path) -> None:
    file = tmp_path / "prices.py"
    file.write_text(EXTENDING)
    names = runpy.run_path(str(file))
    alone = ExtendedNode(names["Prices"](7), config=ALONE)
    for i in range(2):
        alone.submits(b"k%d=1" % i)
    assert alone.app.known == [7]  # type: ignore[attr-defined]
    verify = alone.app.verify_vote_extension
    said = [verify(VERIFY(vote_extension=text)).status.name for text in (b"12", b"", b"-1", b"1" * 19)]
    assert said == ["ACCEPT", "REJECT", "REJECT", "REJECT"]
