"""Whatever is asked of the RPC, the answer is JSON-RPC: a result, or an error that CometBFT documents."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.ledger.comet.blocks import tx_proofs
from quorate.ledger.comet.evidence import MISCONDUCT
from quorate.ledger.comet.json_shapes import to_json
from quorate.ledger.comet.results import ExecTxResult
from quorate.ledger.comet.rpc import jsonrpc, routes
from quorate.ledger.comet.rpc.jsonrpc import RPCCore
from quorate.ledger.comet.rpc.routes import ROUTES
from quorate.ledger.comet.rpc.rpc_arguments import ArgumentError, BytesArgument, NumberArgument
from quorate.ledger.comet.rpc.shown_events import shown_events
from quorate.ledger.comet.rpc.view import IndexedTx, SearchPage

from tests.ledger.comet import chain
from tests.ledger.comet.rpc.alone import CORE, VIEW, caller, done
from tests.ledger.comet.rpc.recorded_view import RecordedView

CODES = {-32700, -32600, -32601, -32602, -32603}
NAMES = sorted({name for route in ROUTES.values() for name in route.kinds})
HTTP_ROUTES = [name for name, route in ROUTES.items() if not route.is_for_sockets]


def judged(body: bytes) -> None:
    """Assert that it is an answer, or some."""
    found = json.loads(body)
    for answer in found if isinstance(found, list) else [found]:
        assert answer["jsonrpc"] == "2.0"
        assert ("result" in answer) != ("error" in answer)
        if "error" in answer:
            assert answer["error"]["code"] in CODES
            assert answer["error"]["message"]


TEXTS = st.one_of(
    st.text(max_size=8),
    st.integers().map(str),
    st.sampled_from(["1", "-1", "0x", "0x00", '"x"', '"', "null", "true", "[]", "{", "a=1", "1e5", "asc", "\\u0000"]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([*ROUTES, "nosuch"]), st.dictionaries(st.sampled_from(NAMES), VALUES) | VALUES, VALUES)
def test_params(method: str, params: Any, ident: Any) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": ident, "method": method, "params": params}).encode()
    found = done(CORE.answer_body(body, caller))
    assert found.status in (200, 500)
    if found.body:
        judged(found.body)
    else:
        assert ident is None
    if method not in ("subscribe", "unsubscribe", "unsubscribe_all"):
        said = done(CORE.answer_message(body, caller))
        assert (said is None) == (found.body == b"")
        if said is not None:
            judged(said)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(HTTP_ROUTES), st.dictionaries(st.sampled_from(NAMES), TEXTS))
def test_urls(name: str, query: dict[str, str]) -> None:
    found = done(CORE.answer_url(name, query, caller))
    assert found is not None
    assert found.status in (200, 500)
    judged(found.body)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_bodies(body: bytes) -> None:
    found = done(CORE.answer_body(body, caller))
    assert found.status in (200, 500)
    if found.body:
        judged(found.body)


@pytest.mark.parametrize("text", ["9" * 5000, "-" + "9" * 5000, "+1", "01", "--1", "1 ", "٣", "9223372036854775808"])
def test_numbers_that_are_none(text: str) -> None:
    kind = NumberArgument("int64")
    with pytest.raises(ArgumentError) as refused:
        kind.of_json("+-" if text == "+1" else text)
    assert len(str(refused.value)) < 200


def test_numbers_at_their_limits() -> None:
    kind = NumberArgument("int64")
    for number in (2**63 - 1, -(2**63)):
        assert kind.of_json(str(number)) == kind.of_url(str(number)) == number
    with pytest.raises(ArgumentError):
        kind.of_url(str(2**63))


def test_bytes_in_a_url() -> None:
    kind = BytesArgument()
    assert kind.of_url("0x00fF") == b"\x00\xff"
    assert kind.of_url('"a\\"b"') == b'a"b'
    for text in ("0x0", "0x00 00", "0xzz", "abc", '"', '"a" "b"'):
        with pytest.raises(ArgumentError):
            kind.of_url(text)


def test_answers_to_an_array_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrpc, "ANSWER_BYTES_MAX", 1500)
    asked = [{"id": i, "method": "block", "params": {"height": "2"}} for i in range(4)]
    answers = json.loads(done(CORE.answer_body(json.dumps(asked).encode(), caller)).body)
    assert ["result" in answer for answer in answers] == [True, False, False, False]


class Index:
    """One that finds all three blocks, and three transactions in one of them."""

    async def search_blocks(self, query: Any, *, descending: bool, skip: int, count: int) -> SearchPage:
        return SearchPage(3, heights=[1, 2, 3][skip : skip + count])

    async def search_txs(self, query: Any, *, descending: bool, skip: int, count: int) -> SearchPage:
        return SearchPage(3, txs=[IndexedTx(3, 0, b"k1=v1", ExecTxResult())] * 3)

    async def find_tx(self, tx_hash: bytes) -> IndexedTx | None:
        return None


def asked_url(core: RPCCore, name: str, **query: str) -> Any:
    found = done(core.answer_url(name, query, caller))
    assert found is not None
    return json.loads(found.body)


def test_blocks_that_are_too_large_for_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    core = RPCCore(VIEW, Index())
    whole = asked_url(core, "block_search", query='"x EXISTS"')
    assert len(whole["result"]["blocks"]) == 3
    monkeypatch.setattr(routes, "PAGE_BYTES_MAX", 700)
    assert "too large for one page" in asked_url(core, "block_search", query='"x EXISTS"')["error"]["data"]
    assert len(asked_url(core, "block_search", query='"x EXISTS"', per_page="1")["result"]["blocks"]) == 1


def test_the_tree_of_a_block_is_made_once_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(routes, "tx_proofs", lambda txs: made.append(txs) or tx_proofs(txs))
    answer = asked_url(RPCCore(VIEW, Index()), "tx_search", query='"x EXISTS"', prove="true")
    assert [tx["proof"]["root_hash"] != "" for tx in answer["result"]["txs"]] == [True] * 3
    assert len(made) == 1


def test_events_of_an_app_that_does_not_keep_to_the_form() -> None:
    """Bytes that are no text are shown as CometBFT shows them; what is no event at all is not."""
    event = b"\x0a\x01a\x12\x08\x0a\x02\xff\xffb"  # its key is two bytes that are no text, and then it ends too early
    good = b"\x0a\x02\xc3\x28\x12\x06\x0a\x01k\x12\x01\xff"
    assert shown_events([event, b"\xff", b""])[-1].type == ""
    assert len(shown_events([event, b"\xff"])) == 0
    found = shown_events([good])[0]
    assert (found.type, found.attributes[0].value) == ("\ufffd(", "\ufffd")


def test_evidence_is_read_and_handed_on() -> None:
    view = RecordedView(3)
    piece = next(p for height in chain.heights() for p in height.block.evidence.evidence)
    data = to_json(MISCONDUCT, piece)
    body = json.dumps({"id": 1, "method": "broadcast_evidence", "params": {"evidence": data}}).encode()
    answer = json.loads(done(RPCCore(view, None).answer_body(body, caller)).body)
    assert list(answer["result"]) == ["hash"]
    assert view.evidence == [piece]
    url = {"evidence": json.dumps(data)}
    found = done(RPCCore(view, None).answer_url("broadcast_evidence", url, caller))
    assert found is not None
    assert json.loads(found.body)["result"] == answer["result"]
