"""Evidence of attacks on light clients that our light client makes, beside what CometBFT's own code says of it."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from quorate.ledger.comet.abci.contents import MISBEHAVIOR, misbehaviors
from quorate.ledger.comet.evidence import LIGHT_CLIENT_ATTACK, LightClientAttackEvidence, evidence_id
from quorate.ledger.comet.evidence_checks import blamed, verify_light_client_attack
from quorate.ledger.comet.light_blocks import LightBlock

from tests.ledger.comet.attacks import cases

RECORDED = Path(__file__).with_name("recorded") / "attacks.jsonl"
VERDICTS: list[dict[str, Any]] = [json.loads(line) for line in RECORDED.read_text().splitlines()]
NOBODY = "expected nil validators from an amnesia light client attack but got 0"
"""CometBFT refuses amnesia once it was encoded, as its list of nobody is then empty and not nil. We do not."""


def says(piece: LightClientAttackEvidence, common: LightBlock, trusted: LightBlock) -> str:
    """Why it does not hold; empty: it does."""
    try:
        decoded = LIGHT_CLIENT_ATTACK.decode_exact(LIGHT_CLIENT_ATTACK.encode(piece))
        verify_light_client_attack(decoded, common.header, common.validator_set, trusted.signed_header)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("case", "verdict"), list(zip(cases(), VERDICTS, strict=True)), ids=[v["name"] for v in VERDICTS]
)
def test_we_say_what_cometbft_says(case: Any, verdict: dict[str, Any]) -> None:
    name, piece, common, trusted = case
    assert (name, sha256(LIGHT_CLIENT_ATTACK.encode(piece)).hexdigest()) == (verdict["name"], verdict["sha256"])
    assert bool(says(piece, common, trusted)) == (verdict["why"] not in ("", NOBODY)), verdict["why"]
    if verdict["id"]:  # else it was refused by its form
        assert evidence_id(piece).hex() == verdict["id"]
        found = blamed(piece, common.validator_set, trusted.signed_header)
        assert [validator.address.hex() for validator in found] == verdict["blamed"]
        assert [MISBEHAVIOR.encode(one).hex() for one in misbehaviors(piece)] == verdict["misbehaviors"]


def test_some_hold_and_most_do_not() -> None:
    held = {verdict["name"] for verdict in VERDICTS if not verdict["why"]}
    assert {"lunatic: as it is", "equivocation: as it is", "ahead, not later: as it is"} <= held
    assert len(held) < len(VERDICTS) / 2
    assert sum(verdict["why"] == NOBODY for verdict in VERDICTS) > 0
