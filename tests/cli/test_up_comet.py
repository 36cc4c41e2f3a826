"""A cluster of `quorate up --app kvstore`, by its RPC: a subscriber, our light client, and the one of CometBFT.

The last needs `go install github.com/cometbft/cometbft/cmd/cometbft@v0.38.26`: on the PATH, or named in COMETBFT.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from quorate.cli.folder import RPC_PORT_STEP
from quorate.ledger.comet.json_shapes import of_json
from quorate.ledger.comet.light_blocks import SIGNED_HEADER, LightBlock
from quorate.ledger.comet.light_client import TrustOptions, bisection
from quorate.ledger.comet.times import NS_PER_S, Timestamp
from quorate.ledger.comet.validators import VALIDATOR, CometValidatorSet

from tests.cli.command import Up
from tests.ports import free_base_port, free_ports, free_steps

aiohttp = pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")
pytestmark = pytest.mark.slow

TOOL = os.environ.get("COMETBFT") or shutil.which("cometbft")
PATIENCE_S = 40.0
HEIGHTS = 12


class Chain:
    """A running cluster. ``urls``: of its nodes."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.urls: list[str] = [row["rpc"] for row in up.event("ready")["nodes"]]

    def get(self, route: str, url: str = "") -> Any:
        with urllib.request.urlopen(f"{url or self.urls[0]}/{route}", timeout=PATIENCE_S) as answer:
            return json.load(answer)["result"]

    @property
    def height(self) -> int:
        return int(self.get("status")["sync_info"]["latest_block_height"])

    def grow(self, height: int) -> None:
        while self.height < height:
            tx = f"k{self.height}=1"
            assert self.get(f'broadcast_tx_commit?tx="{tx}"')["tx_result"]["code"] == 0

    def light_block(self, height: int, url: str) -> LightBlock:
        signed = of_json(SIGNED_HEADER, self.get(f"commit?height={height}", url)["signed_header"])
        shown = self.get(f"validators?height={height}&per_page=100", url)["validators"]
        validators = tuple(of_json(VALIDATOR, one) for one in shown)
        first = next(one for one in validators if one.address == signed.header.proposer_address)
        return LightBlock(signed, CometValidatorSet(validators, first))


@contextmanager
def chain(folder: Path) -> Iterator[Chain]:
    first = free_steps(4, RPC_PORT_STEP)
    options = ("--protocol", "tendermint", "--nodes", "4", "--app", "kvstore", "--rpc-port", str(first))
    with Up(*options, "--base-port", str(free_base_port(4)), "--data", folder / "data") as up:
        found = Chain(up)
        yield found
        assert up.interrupt() == 0


def test_a_subscriber_hears_of_blocks_and_transactions(tmp_path: Path) -> None:
    async def heard(made: Chain) -> set[str]:
        kinds: set[str] = set()
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{made.urls[1]}/websocket") as link,
        ):
            for place, query in enumerate(("tm.event='NewBlock'", "tm.event='Tx' AND app.key='name'")):
                call = {"jsonrpc": "2.0", "id": place, "method": "subscribe", "params": {"query": query}}
                await link.send_json(call)
                assert (await link.receive_json())["result"] == {}
            await asyncio.to_thread(made.get, 'broadcast_tx_commit?tx="name=Ada"')
            while len(kinds) < 2:
                kinds.add((await link.receive_json())["result"]["data"]["type"])
        return kinds

    with chain(tmp_path) as made:
        assert asyncio.run(heard(made)) == {"tendermint/event/NewBlock", "tendermint/event/Tx"}


def test_our_light_client_follows_the_chain(tmp_path: Path) -> None:
    with chain(tmp_path) as made:
        made.grow(HEIGHTS)
        target = made.height - 1
        trusted, wanted = made.light_block(1, made.urls[0]), made.light_block(target, made.urls[3])
        options = TrustOptions(period_ns=3600 * NS_PER_S)
        assert verified(made, bisection(trusted, wanted, options, Timestamp.of_ns(time.time_ns())))[-1] == wanted


def verified(made: Chain, steps: Generator[int, LightBlock, list[LightBlock]]) -> list[LightBlock]:
    """What the steps return, with what they ask for."""
    answer: Any = None
    while True:
        try:
            height = steps.send(answer)
        except StopIteration as done:
            blocks: list[LightBlock] = done.value
            return blocks
        answer = made.light_block(height, made.urls[2])


@pytest.mark.skipif(TOOL is None, reason="cometbft 0.38 is not here: name it in COMETBFT")
def test_the_light_client_of_cometbft_verifies_the_chain(tmp_path: Path) -> None:
    with chain(tmp_path) as made:
        made.grow(HEIGHTS)
        name = made.get("status")["node_info"]["network"]
        first = made.get("commit?height=1")["signed_header"]["commit"]["block_id"]["hash"]
        with light(tmp_path, name, made.urls, first) as proxy:
            target = made.height - 1
            seen = asked(made, f"commit?height={target}", proxy)
            assert seen["signed_header"] == made.get(f"commit?height={target}", made.urls[3])["signed_header"]
            block, ours = made.get(f"block?height={target}", proxy), made.get(f"block?height={target}")
            assert (block["block_id"], block["block"]["header"]) == (ours["block_id"], ours["block"]["header"])
            assert made.get(f"validators?height={target}", proxy) == made.get(f"validators?height={target}")
        wrong = ("0" if first[0] != "0" else "1") + first[1:]
        with pytest.raises(AssertionError, match="it ended"), light(tmp_path / "w", name, made.urls, wrong) as proxy:
            asked(made, "commit?height=2", proxy)


@contextmanager
def light(folder: Path, name: str, urls: list[str], trusted: str) -> Iterator[str]:
    """`cometbft light`, from height 1; where it answers."""
    assert TOOL is not None
    folder.mkdir(exist_ok=True)
    port = free_ports(1)[0]
    command = [
        *(TOOL, "light", name, "-p", urls[0], "-w", ",".join(urls[1:3]), "--height", "1", "--hash", trusted),
        *("--laddr", f"tcp://127.0.0.1:{port}", "--home-dir", str(folder / "light")),
    ]
    with (folder / "light.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert process.poll() is None, f"it ended: {(folder / 'light.log').read_text()}"
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def asked(made: Chain, route: str, url: str) -> Any:
    """The answer, whose text is shown if there is none."""
    try:
        return made.get(route, url)
    except (OSError, KeyError) as error:
        raise AssertionError(f"{route}: {error}") from error
