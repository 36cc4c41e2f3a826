"""A cluster of `quorate up`, with an app and without, as the programs of CometBFT see it: by its RPC; and its light
client.

The light client needs `go install github.com/cometbft/cometbft/cmd/cometbft@v0.38.26`: on the PATH, or named in
COMETBFT.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import HTTPError

import pytest

from quorate.cli.folder import RPC_PORT_STEP
from quorate.ledger.comet.json_shapes import of_json
from quorate.ledger.comet.light_blocks import SIGNED_HEADER, LightBlock
from quorate.ledger.comet.validators import VALIDATOR, CometValidatorSet
from quorate.service.comet.requests_side import NOT_SIGNED
from quorate.service.config import load

from tests.cli.command import Up
from tests.cluster import until
from tests.ports import free_base_port, free_ports, free_steps
from tests.service.signed_txs import SignedTxs

TOOL = os.environ.get("COMETBFT") or shutil.which("cometbft")
needs_cometbft = pytest.mark.skipif(TOOL is None, reason="cometbft 0.38 is not here: name it in COMETBFT")
PATIENCE_S = 40.0


def answer_of(url: str) -> Any:
    """A result, or an error in its place."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)
    except HTTPError as error:
        return json.load(error)


def result_of(url: str) -> Any:
    answer = answer_of(url)
    assert "result" in answer, (url, answer)
    return answer["result"]


def answers(url: str) -> bool:
    """Whether a node's RPC is there."""
    try:
        return "result" in answer_of(f"{url}/status")
    except OSError:
        return False


class Chain:
    """A running cluster that drives the kvstore. ``urls``: of its nodes."""

    options: ClassVar[tuple[str, ...]] = ("--app", "kvstore")
    refusals: ClassVar[tuple[int, int]] = (0, 2)
    """The codes for a transaction `key=value` and for one that is a word."""
    about_tx: ClassVar[str] = "app.key EXISTS"
    """A condition that holds for each transaction."""

    def __init__(self, up: Up) -> None:
        self.up = up
        ready = up.event("ready")
        self.config: str = ready["config"]
        self.pids: dict[str, int] = {row["name"]: row["pid"] for row in ready["nodes"]}
        """Of those that were ready first."""
        members = load(Path(self.config), 1).nodes
        self.urls = [f"http://{members[node].rpc}" for node in sorted(members)]
        for url in self.urls:
            until(lambda url=url: answers(url), url)  # type: ignore[misc]

    def get(self, route: str, url: str = "") -> Any:
        return result_of(f"{url or self.urls[0]}/{route}")

    @property
    def height(self) -> int:
        return int(self.get("status")["sync_info"]["latest_block_height"])

    def tx(self, text: str) -> bytes:
        """The transaction that sets a key: `key=value`."""
        return text.encode()

    def commit(self, tx: bytes, url: str = "") -> int:
        """Have a transaction committed; the height."""
        done = self.get(f"broadcast_tx_commit?tx=0x{tx.hex()}", url)
        assert (done["check_tx"]["code"], done["tx_result"]["code"]) == (0, 0), done
        return int(done["height"])

    def put(self, text: str, url: str = "") -> int:
        """Have a key set; the height."""
        return self.commit(self.tx(text), url)

    def grow(self, height: int) -> None:
        while self.height < height:
            self.put(f"k{self.height}=1")

    def keys(self) -> list[str]:
        """Of the nodes, in their order."""
        return [self.get("status", url)["validator_info"]["pub_key"]["value"] for url in self.urls]

    def powers(self, height: int) -> dict[str, int]:
        """By key, of the validators of a height."""
        shown = self.get(f"validators?height={height}&per_page=100")["validators"]
        return {one["pub_key"]["value"]: int(one["voting_power"]) for one in shown}

    def light_block(self, height: int, url: str) -> LightBlock:
        signed = of_json(SIGNED_HEADER, self.get(f"commit?height={height}", url)["signed_header"])
        shown = self.get(f"validators?height={height}&per_page=100", url)["validators"]
        validators = tuple(of_json(VALIDATOR, one) for one in shown)
        first = next(one for one in validators if one.address == signed.header.proposer_address)
        return LightBlock(signed, CometValidatorSet(validators, first))

    def first_hash(self) -> str:
        """Of the block that light clients trust."""
        found: str = self.get("commit?height=1")["signed_header"]["commit"]["block_id"]["hash"]
        return found


class RequestChain(Chain):
    """One that serves the key-value store. A client of the RPC alone puts the keys."""

    options = ()
    refusals = (NOT_SIGNED, NOT_SIGNED)
    about_tx = "tx.height > 0"

    def __init__(self, up: Up) -> None:
        super().__init__(up)
        self.client = SignedTxs(self.get("genesis")["genesis"]["chain_id"])
        opening = self.client.opening()
        height = self.commit(opening)
        shown = [self.get(f"block?height={below}")["block"]["data"]["txs"] for below in range(1, height + 1)]
        place = shown[-1].index(b64encode(opening).decode()) + 1
        self.client.opened(sum(map(len, shown[:-1])) + place)

    def tx(self, text: str) -> bytes:
        key, _, value = text.encode().partition(b"=")
        return self.client.put(key, value)


both_kinds = pytest.mark.parametrize("kind", [Chain, RequestChain])


@contextmanager
def chain(folder: Path, kind: type[Chain] = Chain) -> Iterator[Chain]:
    first = free_steps(4, RPC_PORT_STEP)
    options = ("--protocol", "tendermint", "--nodes", "4", *kind.options, "--rpc-port", str(first))
    with Up(*options, "--base-port", str(free_base_port(4)), "--data", folder / "data") as up:
        found = kind(up)
        yield found
        assert up.interrupt() == 0


class Light:
    """A `cometbft light` that runs: where it answers, and what it has logged."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log

    def ask(self, route: str) -> Any:
        """The answer: a result, or an error in its place."""
        return answer_of(f"{self.url}/{route}")

    def get(self, route: str) -> Any:
        """The result; an error is shown."""
        return result_of(f"{self.url}/{route}")

    @property
    def logged(self) -> str:
        return self._log.read_text()


@contextmanager
def light(folder: Path, chain: Chain, urls: list[str], trusted: str = "", *options: str) -> Iterator[Light]:
    """From height 1, whose hash is ``trusted``; the first of the URLs is its primary."""
    assert TOOL is not None
    folder.mkdir(exist_ok=True)
    port = free_ports(1)[0]
    name = chain.get("status")["node_info"]["network"]
    command = [
        *(TOOL, "light", name, "-p", urls[0], "-w", ",".join(urls[1:3])),
        *("--height", "1", "--hash", trusted or chain.first_hash(), *options),
        *("--laddr", f"tcp://127.0.0.1:{port}", "--home-dir", str(folder / "light")),
    ]
    path = folder / "light.log"
    with path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert process.poll() is None, f"it ended: {path.read_text()}"
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.1)
        yield Light(f"http://127.0.0.1:{port}", path)
    finally:
        process.kill()
        process.wait()
