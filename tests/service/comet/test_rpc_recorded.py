"""Each answer of a real CometBFT 0.38.26, field by field, beside ours to the same question over the same chain."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from quorate.ledger.comet.rpc.chain_events import events_of
from quorate.ledger.comet.rpc.jsonrpc import HTTPAnswer, RPCCore, error_body, result_body
from quorate.ledger.comet.rpc.subscriptions import Subscriptions
from quorate.service.comet.indexer import ChainIndexer

from tests.ledger.comet.rpc.recorded_view import Nobody, RecordedView, lines

WORDS_OF_GO = (-32602, -32700)
"""Codes of errors whose data quotes Go's libraries: only its beginning is ours."""
OURS = {
    ("result", "node_info", "protocol_version", "p2p"): "0",
    ("result", "node_info", "channels"): "",
    ("result", "listeners"): None,
}
"""Fields that tell of the protocol between nodes, which is not CometBFT's."""


async def answered(core: RPCCore, caller: Nobody, path: str, body: str | None) -> HTTPAnswer:
    if path == "" and body is not None:
        return await core.answer_body(body.encode(), lambda _: caller)
    name, _, query = path.partition("?")
    found = await core.answer_url(name, dict(reversed(parse_qsl(query, keep_blank_values=True))), lambda _: caller)
    return HTTPAnswer(404, b"") if found is None else found


def same(ours: Any, theirs: Any, where: tuple[str, ...] = ()) -> None:
    """Assert it, apart from what is named above."""
    if where in OURS:
        assert OURS[where] is None or ours == OURS[where]
        return
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), where
        if theirs.get("code") in WORDS_OF_GO:
            assert (ours["code"], ours["message"]) == (theirs["code"], theirs["message"])
            head, rest = theirs["data"].partition(": ")[0], ours["data"].partition(": ")
            assert (head, bool(rest[2])) == (rest[0], True), where
            return
        assert set(ours) - {"validator_updates"} == set(theirs) - {"validator_updates"}, where
        for key, value in theirs.items():
            # Go tells an empty list from none, in-process apps may give either, and on a wire both are nothing.
            same(ours.get(key) or None, value or None, (*where, key)) if key == "validator_updates" else same(
                ours[key], value, (*where, key)
            )
    elif isinstance(theirs, list):
        assert isinstance(ours, list), where
        assert len(ours) == len(theirs), where
        for mine, their in zip(ours, theirs, strict=True):
            same(mine, their, where)
    elif isinstance(theirs, str) and "parsing time" in theirs:  # more words of Go
        assert ours.partition(": ")[0] == theirs.partition(": ")[0]
    else:
        assert ours == theirs, where


def check(found: HTTPAnswer, asked: dict[str, Any]) -> None:
    assert found.status == asked["status"]
    theirs = asked["answer"]
    if not isinstance(theirs, dict | list):
        assert found.body == b""
        return
    ours = json.loads(found.body)
    same(ours, theirs)
    # CometBFT says of an error that was posted that it can be kept; we do not.
    assert found.is_lasting == (bool(asked["cache"]) and "error" not in theirs)


@pytest.fixture
def indexer(tmp_path: Path) -> ChainIndexer:
    return ChainIndexer(tmp_path)


def shown(asked: dict[str, Any]) -> str:
    return str(asked["path"] or asked["body"])[:60]


def test_questions(indexer: ChainIndexer) -> None:
    """All at once: to open an index for each costs more than the answers."""

    async def ask() -> None:
        view = RecordedView()
        await indexer.open()
        for decided in view.decided:
            await indexer.add(decided)
        core, caller = RPCCore(view, indexer), Nobody(view)
        wrong = []
        for asked in lines("asked"):
            found = await answered(core, caller, asked["path"], asked["body"])
            try:
                check(found, asked)
            except AssertionError as error:
                wrong.append(f"{shown(asked)}: {str(error)[:600]}\n  ours: {found.status} {found.body[:300]!r}")
        await indexer.close()
        assert not wrong, "\n".join(wrong)

    assert len(lines("asked")) > 200
    asyncio.run(ask())


def test_transactions_that_are_handed_in() -> None:
    async def ask() -> None:
        view = RecordedView()
        core, caller = RPCCore(view, None), Nobody(view)
        for talk in lines("talk"):
            check(await answered(core, caller, talk["path"], talk["body"]), talk)

    asyncio.run(ask())


def test_what_subscribers_hear() -> None:
    """The messages of the WebSocket until the questions on it, those of one subscription in their order."""
    heard = [line for line in lines("heard") if "query" in line.get("result", {})]
    subscriptions: Subscriptions[str] = Subscriptions()
    queries = {line["id"]: line["result"]["query"] for line in heard}
    for ident, query in queries.items():
        subscriptions.add("one", ident, query)
    ours: list[Any] = []
    for decided in RecordedView().decided[1:-1]:  # the last came after they had unsubscribed
        for event in events_of(decided):
            for _, wanted in subscriptions.wanting(event.tags):
                message = {"query": wanted.text, "data": event.data(), "events": event.tags}
                ours.append(json.loads(result_body(wanted.request, message)))
    assert len(queries) == 5
    for ident in queries:
        same([m for m in ours if m["id"] == ident], [m for m in heard if m["id"] == ident])


def test_a_body_of_an_error() -> None:
    assert json.loads(error_body("x", (1, "m"))) == {"jsonrpc": "2.0", "id": "x", "error": {"code": 1, "message": "m"}}
