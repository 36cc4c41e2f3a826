"""Light clients find an attack and report it to our nodes: the evidence is in our chain's next block, whoever made it.

The four nodes' keys sign another header of a height, which is shown to a light client: by a proxy to CometBFT's,
unmodified, which compares it with a witness, makes evidence of its own, and hands it to the witness'
`broadcast_evidence`; and to ours. The nodes drive an app, or serve the key-value store.
"""

from __future__ import annotations

import copy
import json
import time
import tomllib
from base64 import b64encode
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from quorate.ledger.comet.divergence import find_divergence
from quorate.ledger.comet.evidence import MISCONDUCT
from quorate.ledger.comet.json_shapes import of_json, to_json
from quorate.ledger.comet.light_blocks import SIGNED_HEADER, LightBlock
from quorate.ledger.comet.light_client import TrustOptions, bisection
from quorate.ledger.comet.times import NS_PER_S, Timestamp

from tests.cli.comet_chain import Chain, both_kinds, chain, light, needs_cometbft
from tests.cli.forging import forging
from tests.ledger.comet.recompute import FOR_BLOCK, PRECOMMIT, Voter, header_hash, sign_bytes

pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")
pytestmark = pytest.mark.slow

HEIGHT = 4


def secrets(keys: Path) -> dict[str, Ed25519PrivateKey]:
    """By address."""
    found = [tomllib.loads(path.read_text())["secret"] for path in keys.glob("n*.key")]
    made = [Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)) for secret in found]
    return {Voter(secret.public_key().public_bytes_raw(), 1).address: secret for secret in made}


def false_one(true: Any, keys: Path) -> Any:
    """The signed header with another hash of the app, signed by who signed it; each value is as long as it was."""
    made, by_address = copy.deepcopy(true), secrets(keys)
    header, commit = made["header"], made["commit"]
    header["app_hash"] = bytes(byte ^ 1 for byte in bytes.fromhex(header["app_hash"])).hex().upper()
    commit["block_id"]["hash"] = header_hash(header).hex().upper()
    for entry in commit["signatures"]:
        if entry["block_id_flag"] == FOR_BLOCK:
            where = header["chain_id"], PRECOMMIT, HEIGHT, commit["round"], commit["block_id"], entry["timestamp"]
            entry["signature"] = b64encode(by_address[entry["validator_address"]].sign(sign_bytes(*where))).decode()
    return made


def texts(signed: Any) -> list[bytes]:
    """What differs between the two."""
    entries = [entry["signature"] for entry in signed["commit"]["signatures"] if entry["signature"]]
    return [text.encode() for text in (signed["header"]["app_hash"], signed["commit"]["block_id"]["hash"], *entries)]


def pieces(made: Chain, url: str) -> list[Any]:
    """Of all blocks."""
    head = int(made.get("status", url)["sync_info"]["latest_block_height"])
    blocks = [made.get(f"block?height={height}", url)["block"] for height in range(1, head + 1)]
    return [piece for block in blocks for piece in block["evidence"]["evidence"]]


@needs_cometbft
@both_kinds
def test_an_attack_that_the_light_client_found_is_in_a_block(kind: type[Chain], tmp_path: Path) -> None:
    with chain(tmp_path, kind) as made:
        made.grow(HEIGHT + 2)
        true = made.get(f"commit?height={HEIGHT}")["signed_header"]
        false = false_one(true, tmp_path / "data" / "keys")
        changes = dict(zip(texts(true), texts(false), strict=True))

        def forge(data: bytes) -> bytes:
            if b'"signed_header"' in data and b'"height":"%d"' % HEIGHT in data:
                for old, new in changes.items():
                    data = data.replace(old, new)
            return data

        with forging(made.urls[0], forge) as forger:
            with light(tmp_path, made, [forger.url, made.urls[1]]) as client:
                answer = client.ask(f"commit?height={HEIGHT}")
                assert "result" not in answer, answer
                assert "attack" in str(answer)
            assert forger.count == 1
        assert pieces(made, made.urls[2]) == [], "no block is made for evidence alone"
        is_blamed_once(made, false)


def is_blamed_once(made: Chain, false: Any) -> None:
    """Soon: a node that had not applied the last block yet is told of the piece again a moment later."""
    for number in range(10):
        made.put(f"after{number}=1", made.urls[3])
        if found := pieces(made, made.urls[2]):
            break
        time.sleep(0.3)
    (piece,) = found
    assert piece["type"] == "tendermint/LightClientAttackEvidence"
    assert piece["value"]["CommonHeight"] == "1"
    assert piece["value"]["ConflictingBlock"]["signed_header"] == false
    signers = sum(entry["block_id_flag"] == FOR_BLOCK for entry in false["commit"]["signatures"])
    assert len(piece["value"]["ByzantineValidators"]) == signers
    made.put("later=1")
    assert len(pieces(made, made.urls[0])) == 1


@both_kinds
def test_an_attack_that_our_light_client_found_is_in_a_block(kind: type[Chain], tmp_path: Path) -> None:
    with chain(tmp_path, kind) as made:
        made.grow(HEIGHT + 2)
        first, true = (made.light_block(height, made.urls[1]) for height in (1, HEIGHT))
        shown = false_one(made.get(f"commit?height={HEIGHT}")["signed_header"], tmp_path / "data" / "keys")
        false = LightBlock(of_json(SIGNED_HEADER, shown), true.validator_set)
        options, now = TrustOptions(period_ns=3600 * NS_PER_S), Timestamp.of_ns(time.time_ns())
        assert finished(bisection(first, false, options, now)) == [false], "it believes the primary"
        found = finished(find_divergence([first, false], true, options, now), first)
        evidence = json.dumps(to_json(MISCONDUCT, found.evidence()))
        call = "broadcast_evidence?" + urlencode({"evidence": evidence})
        with pytest.raises(AssertionError, match="failed to add evidence"):
            made.get(call.replace(quote_plus('"CommonHeight": "1"'), quote_plus('"CommonHeight": "2"')))
        assert set(made.get(call)) == {"hash"}
        is_blamed_once(made, shown)


def finished(steps: Generator[int, LightBlock, Any], block: LightBlock | None = None) -> Any:
    """What the steps return; the one that they ask for is this, if they do."""
    try:
        next(steps)
        assert block is not None
        steps.send(block)
    except StopIteration as done:
        return done.value
    raise AssertionError("it asks for more")
