"""An app whose answers have the right form and any content: the chain goes on, or the node ends with words.

Answers of the kvstore, of which fields are others. What ``EngineEnd`` and ``check_answer`` refuse never comes to the
chain (``test_abci_fuzz.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quorate.kernel import AppEnded
from quorate.ledger.comet.abci import response_messages as responses
from quorate.ledger.comet.abci.answer_checks import check_answer
from quorate.ledger.comet.abci.contents import ValidatorUpdate
from quorate.ledger.comet.abci.request_messages import Request
from quorate.ledger.comet.abci.response_messages import RESPONSE, Response
from quorate.ledger.comet.params import (
    ABCIParams,
    BlockParams,
    ConsensusParams,
    Duration,
    EvidenceParams,
    ValidatorParams,
    VersionParams,
)
from quorate.ledger.comet.results import ExecTxResult
from quorate.ledger.comet.validators import TOTAL_POWER_MAX, ValidatorKey
from quorate.machines.abci.kvstore import KVStoreApp, KVStoreError

from tests.protocols.tendermint.one_app_node import OneAppNode
from tests.protocols.tendermint.one_node import KEYRING

FAST, SLOW = 40, 2000
REFUSED = "refused"
NUMBERS = st.sampled_from([-(2**63), -2, -1, 0, 1, 2, 22, 1 << 20, 104_857_600, 104_857_601, 2**62, 2**63 - 1])
POWERS = st.sampled_from([-1, 0, 1, 2, 1000, TOTAL_POWER_MAX - 1, TOTAL_POWER_MAX, TOTAL_POWER_MAX + 1])
KEYS = st.sampled_from([*[ValidatorKey(KEYRING.public(node)) for node in range(4)], ValidatorKey(bytes(range(32)))])
UPDATES = st.lists(st.builds(ValidatorUpdate, KEYS, POWERS), max_size=6).map(tuple)
PARAMS = st.none() | st.builds(
    ConsensusParams,
    block=st.none() | st.builds(BlockParams, NUMBERS, NUMBERS),
    evidence=st.none() | st.builds(EvidenceParams, NUMBERS, st.builds(Duration, NUMBERS, st.just(0)), NUMBERS),
    validator=st.none() | st.builds(ValidatorParams, st.sampled_from([(), ("ed25519",), ("secp256k1",)])),
    version=st.none() | st.builds(VersionParams, st.sampled_from([0, 1, 2**64 - 1])),
    abci=st.none() | st.builds(ABCIParams, NUMBERS),
)
HASHES = st.sampled_from([b"", b"x", bytes(32), bytes(64), bytes(5000)])
TXS = st.lists(st.sampled_from([b"", b"a=1", b"b=2", b"bad", bytes(70_000)]), max_size=4).map(tuple)
CODES = st.sampled_from([0, 1, 7, 2**32 - 1])
RESULTS = st.lists(st.builds(ExecTxResult, CODES, st.binary(max_size=4)), max_size=3).map(tuple)

WRONG: Mapping[type[Response], Mapping[str, st.SearchStrategy[Any]]] = {
    responses.ResponseInfo: {"last_block_height": NUMBERS, "last_block_app_hash": HASHES, "app_version": NUMBERS},
    responses.ResponseInitChain: {"consensus_params": PARAMS, "validators": UPDATES, "app_hash": HASHES},
    responses.ResponseCheckTx: {"code": CODES, "gas_wanted": NUMBERS},
    responses.ResponsePrepareProposal: {"txs": TXS},
    responses.ResponseProcessProposal: {"status": st.sampled_from(responses.ProposalStatus)},
    responses.ResponseFinalizeBlock: {
        "tx_results": RESULTS,
        "validator_updates": UPDATES,
        "consensus_param_updates": PARAMS,
        "app_hash": HASHES,
    },
    responses.ResponseCommit: {"retain_height": NUMBERS},
}
KINDS = list(WRONG)
ONCE = (responses.ResponseInfo, responses.ResponseInitChain)


def _one_change(kind: type[Response]) -> st.SearchStrategy[tuple[type[Response], int, Mapping[str, Any]]]:
    numbers = st.just(0) if kind in ONCE else st.integers(0, 3)
    return st.tuples(st.just(kind), numbers, st.fixed_dictionaries({}, optional=dict(WRONG[kind])))


CHANGES = st.lists(st.sampled_from(KINDS).flatmap(_one_change), min_size=1, max_size=3)
Changes = Sequence[tuple[type[Response], int, Mapping[str, Any]]]


class Refused(Exception):
    """The connection to the app would have failed."""


class Wrong(KVStoreApp):
    """``changes``: in the answer of this kind, the so-many-th, these fields are others."""

    def __init__(self, changes: Changes) -> None:
        super().__init__()
        self._changes = changes
        self._counts: dict[type, int] = {}

    def answer(self, request: Request) -> Response:
        try:
            said = super().answer(request)
        except KVStoreError as error:  # what it never would have accepted was decided, by its own word
            raise Refused from error
        kind = type(said)
        count = self._counts[kind] = self._counts.get(kind, -1) + 1
        for which, number, fields in self._changes:
            if which is kind and number == count:
                said = replace(said, **fields)
        try:
            said = RESPONSE.decode(RESPONSE.encode(said))
            check_answer(request, said)
        except ValueError as error:
            raise Refused from error
        return said


def check_app(changes: Changes) -> str:
    """What came of it: the words that the node ended with; empty: it goes on."""
    app = Wrong(changes)
    try:
        node = OneAppNode(app)
        for tx in (b"a=1", b"b=2", b"c=3"):
            node.submits(tx)
        node = node.again()
        node.submits(b"d=4")
        node = node.again(KVStoreApp())
    except Refused:
        return REFUSED
    except AppEnded as error:
        return str(error)
    return ""


def check_words(changes: Changes) -> None:
    words = check_app(changes)
    assert words in ("", REFUSED) or "What to do: " in words
    assert len(words) < 2000


@settings(max_examples=FAST, deadline=None)
@given(CHANGES)
def test_wrong_answers(changes: Changes) -> None:
    check_words(changes)


@pytest.mark.slow
@settings(max_examples=SLOW, deadline=None)
@given(CHANGES)
def test_many_wrong_answers(changes: Changes) -> None:
    check_words(changes)


@pytest.mark.parametrize(
    ("kind", "fields", "says"),
    [
        (responses.ResponseCommit, {}, ""),
        (responses.ResponseCheckTx, {"code": 7}, ""),
        (responses.ResponseProcessProposal, {"status": responses.ProposalStatus.UNKNOWN}, REFUSED),
        (
            responses.ResponseInitChain,
            {"validators": (ValidatorUpdate(ValidatorKey(bytes(32)), 0),)},
            "InitChain cannot be",
        ),
        (responses.ResponseInitChain, {"consensus_params": ConsensusParams(BlockParams(0, 0))}, "InitChain cannot be"),
        (responses.ResponseInfo, {"last_block_height": 5}, "What to do: "),
        (
            responses.ResponseFinalizeBlock,
            {"validator_updates": (ValidatorUpdate(ValidatorKey(bytes(32)), 0),)},
            "cannot be",
        ),
    ],
)
def test_each_outcome_is_there(kind: type[Response], fields: Mapping[str, Any], says: str) -> None:
    """Or the tests above would show nothing."""
    found = check_app([(kind, 0, fields)])
    assert says in found if says else found == ""
