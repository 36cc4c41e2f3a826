"""The second opinion agrees with a chain of CometBFT, and sees each thing that is changed in it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.ledger.comet import chain
from tests.ledger.comet.recompute import Differs, Recomputed, Shown

AT = 21
"""The height at which something is changed. There are transactions before it and in it."""


def shown(at: int) -> Shown:
    line = chain.lines()[at]
    if at == chain.HEIGHTS:
        its = chain.lines()[-1]["signed_header"]["commit"]
    else:
        its = chain.lines()[at + 1]["block"]["block"]["last_commit"]
    return Shown(line["block"], line["validators"], line["block_results"], its)


def test_a_chain_of_cometbft_is_as_it_is_recomputed() -> None:
    recomputed = Recomputed(chain.genesis())
    for at in range(1, chain.HEIGHTS + 1):
        recomputed.follow(shown(at))
    counts = recomputed.counts
    assert {counts[name] for name in ("block hash", "parts", "validators", "evidence hash")} == {chain.HEIGHTS}
    assert counts["double votes"] == 2
    assert counts["signatures"] > 100
    assert counts["signatures for nil"] > 0
    assert counts["absent"] > 0
    assert counts["validator updates"] > 1
    assert counts["median time"] == chain.HEIGHTS - 1
    assert 30 < counts["proposer"] < chain.HEIGHTS, "one was passed over"


def entry(found: Shown) -> Any:
    return next(each for each in found.commit["signatures"] if each["signature"])


CHANGES: dict[str, Callable[[Shown], Any]] = {
    "block hash": lambda found: found.block["block"]["header"].update(proposer_address="00" * 20),
    "data hash": lambda found: found.block["block"]["data"]["txs"].append("AA=="),
    "validators is": lambda found: found.validators["validators"][0].update(proposer_priority="5"),
    "signature of": lambda found: entry(found).update(timestamp="2026-11-30T07:04:02.6Z"),
    "commit's block": lambda found: found.commit["block_id"].update(hash="00" * 32),
    "parts": lambda found: found.block["block_id"]["parts"].update(total=2),
    "last commit hash": lambda found: found.block["block"]["last_commit"]["signatures"].pop(),
    "signed": lambda found: [each.update(block_id_flag=1) for each in found.commit["signatures"]],
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_is_seen(name: str) -> None:
    recomputed = Recomputed(chain.genesis())
    for at in range(1, AT):
        recomputed.follow(shown(at))
    changed = copy.deepcopy(shown(AT))
    CHANGES[name](changed)
    with pytest.raises(Differs, match=name):
        recomputed.follow(changed)


@pytest.mark.parametrize("name", ["results hash", "app hash", "next validators hash"])
def test_what_was_changed_in_the_height_before_is_seen(name: str) -> None:
    recomputed = Recomputed(chain.genesis())
    for at in range(1, AT - 1):
        recomputed.follow(shown(at))
    changed = copy.deepcopy(shown(AT - 1))
    if name == "results hash":
        changed.results["txs_results"] = [{"code": 1, "data": None, "gas_wanted": "0", "gas_used": "0"}]
    elif name == "app hash":
        changed.results["app_hash"] = "AAAA"
    else:
        key = chain.genesis()["validators"][0]["pub_key"]["value"]
        changed.results["validator_updates"] = [{"pub_key": {"Sum": {"value": {"ed25519": key}}}, "power": "99"}]
    recomputed.follow(changed)
    with pytest.raises(Differs, match=name):
        recomputed.follow(shown(AT))
