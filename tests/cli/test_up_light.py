"""CometBFT's light client, unmodified, on our chain: it follows changes of validators, and refuses what was forged.

A proxy between it and our RPC changes one byte of the answers about one height.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.comet_chain import Chain, chain, light, needs_cometbft
from tests.cli.forging import forging, one_byte

pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")
pytestmark = [pytest.mark.slow, needs_cometbft]

CHANGES = ((0, 5), (1, 3), (3, 0), (2, 7), (3, 2), (0, 1))
"""Which node gets which power. Node 3 leaves and comes back."""


def change(made: Chain, keys: list[str]) -> int:
    """All changes, one after the other; each acts two heights after its block. The last height that it concerns."""
    height = 1
    for node, power in CHANGES:
        height = made.put(f"val=ed25519!{keys[node]}!{power}")
        made.grow(height + 3)
        before, at_once, after = (made.powers(height + more).get(keys[node], 0) for more in (0, 1, 2))
        assert before == at_once != after == power, (node, power)
    return height + 2


def test_across_changes_of_validators_height_by_height_and_in_one_step(tmp_path: Path) -> None:
    with chain(tmp_path) as made:
        target = change(made, made.keys())
        ours = [made.get(f"validators?height={height}&per_page=100") for height in range(1, target + 1)]
        assert len({str(shown["validators"]) for shown in ours}) > len(CHANGES)
        for options in ((), ("--sequential",)):
            with light(tmp_path / f"light{len(options)}", made, made.urls, "", *options) as client:
                seen = client.get(f"commit?height={target}")
                assert seen["signed_header"] == made.get(f"commit?height={target}")["signed_header"]
                for height in range(1, target + 1):
                    assert client.get(f"validators?height={height}&per_page=100") == ours[height - 1], height


WHOLE = "header is block"
HEX, BASE64 = rb"([0-9A-F])[0-9A-F]{63}", rb"([A-Za-z0-9+/])[A-Za-z0-9+/]{85}=="
FORGED = {
    "a signature": (b'"signed_header"', rb'"signature": ?"' + BASE64, "wrong signature (#"),
    "the hash of the validators": (b'"signed_header"', rb'"validators_hash": ?"' + HEX, WHOLE),
    "the hash of the app": (b'"signed_header"', rb'"app_hash": ?"([0-9A-F])', WHOLE),
    "a validator's power": (b'"validators"', rb'"voting_power": ?"([0-9])"', "validator"),
}
"""In which answer, what is changed there, and what the client says of it."""


@pytest.mark.parametrize("which", FORGED)
def test_what_is_forged_is_refused(which: str, tmp_path: Path) -> None:
    """Of its first source and of its witness. If only the first forges, what is not whole is asked of a witness."""
    where, what, why = FORGED[which]
    at = b'"height":"4"' if b"signed" in where else b'"block_height":"4"'
    with chain(tmp_path) as made:
        made.grow(6)
        true = made.get("commit?height=4")["signed_header"]
        with forging(made.urls[0], one_byte(at, what)) as forger:
            with light(tmp_path / "all", made, [forger.url, forger.url]) as client:
                answer = client.ask("commit?height=4")
                assert forger.count
                assert "result" not in answer, answer
                assert why in str(answer) + client.logged
                assert client.get("commit?height=3")["signed_header"]["header"]["height"] == "3"
            count = forger.count
            with light(tmp_path / "one", made, [forger.url, *made.urls[1:3]]) as client:
                answer = client.ask("commit?height=4")
                assert forger.count > count
                if why.startswith("wrong"):
                    assert why in str(answer)
                else:
                    assert answer["result"]["signed_header"] == true
