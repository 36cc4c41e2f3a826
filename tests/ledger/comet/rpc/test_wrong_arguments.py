"""Every argument of every route, of each wrong type, in an object, an array, on a WebSocket and in a URL: an error."""

import json
from typing import Any, Final

import pytest

from quorate.ledger.comet.rpc.routes import ROUTES
from quorate.ledger.comet.rpc.rpc_arguments import (
    ArgumentKind,
    BytesArgument,
    EvidenceArgument,
    FlagArgument,
    NumberArgument,
    TextArgument,
)

from tests.ledger.comet.rpc.alone import CORE, caller, done

WRONG: Final[dict[type[ArgumentKind], tuple[Any, ...]]] = {
    NumberArgument: (7, 1.5, True, [], {}, "", "x", "1.0", "0x1", " 1", "1_000", "9" * 400, str(2**64), "-" + "9" * 30),
    FlagArgument: (0, 1, "true", [], {}, 1.5),
    TextArgument: (7, True, [], {}, 1.5),
    BytesArgument: (7, True, [], {}, 1.5, "?", "\u00e9"),
    EvidenceArgument: (7, True, [], {}, "x", {"type": "x", "value": {}}, {"type": "tendermint/DuplicateVoteEvidence"}),
}
IN_URLS: Final[dict[type[ArgumentKind], tuple[str, ...]]] = {
    NumberArgument: ("x", "1.5", "0x1", "true", "[]", "{}", '"x"', "9" * 400, "--1", "1e3", "\u0663"),
    FlagArgument: ("x", "1", '"true"', "[]", "{}", "0x1"),
    TextArgument: ("x", "1", "true", "[]", "{}", '"', "'x'", "0xz"),
    BytesArgument: ("x", "1", "true", "[]", "{}", '"', "0x1", "0xzz", "0x 00"),
    EvidenceArgument: ("x", "1", "true", "[]", "{}", '"x"', "0x00"),
}
ARGUMENTS = [(route, name) for route, its in ROUTES.items() for name in its.kinds]
FAILED: Final = {-32602, -32603}
"""Invalid params; on a WebSocket CometBFT calls that an internal error."""


def refused(body: bytes, where: Any) -> None:
    """Assert that it names what is wrong with the argument."""
    answer = json.loads(body)
    assert "result" not in answer, where
    assert answer["error"]["code"] in FAILED, where
    assert answer["error"]["data"].startswith("error converting "), where
    assert len(answer["error"]["data"]) < 400, where


@pytest.mark.parametrize(("method", "name"), ARGUMENTS)
def test_wrong_types(method: str, name: str) -> None:
    route = ROUTES[method]
    for value in WRONG[type(route.kinds[name])]:
        array = [value if each == name else None for each in route.kinds]
        for params in ({name: value}, array):
            body = json.dumps({"id": 1, "method": method, "params": params}).encode()
            if not route.is_for_sockets:
                found = done(CORE.answer_body(body, caller))
                assert found.status == 200
                refused(found.body, value)
            said = done(CORE.answer_message(body, caller))
            assert said is not None
            refused(said, value)


@pytest.mark.parametrize(("method", "name"), [each for each in ARGUMENTS if not ROUTES[each[0]].is_for_sockets])
def test_wrong_types_in_urls(method: str, name: str) -> None:
    for text in IN_URLS[type(ROUTES[method].kinds[name])]:
        found = done(CORE.answer_url(method, {name: text}, caller))
        assert found is not None
        assert found.status == 500, "as CometBFT has it"
        refused(found.body, text)


def test_arrays_of_another_length_are_refused() -> None:
    for method, route in ROUTES.items():
        for count in {0, 1, len(route.kinds) + 1} - {len(route.kinds)}:
            body = json.dumps({"id": 1, "method": method, "params": [None] * count}).encode()
            said = done(CORE.answer_message(body, caller))
            assert said is not None
            refused(said, method)


def test_there_are_all_routes() -> None:
    assert len(ROUTES) == 31
