"""JSON-RPC 2.0 as CometBFT speaks it: bodies of HTTP, URLs, and messages of a WebSocket, to answers.

- A body is one request or an array of up to ten. A request without an id is not answered, as JSON-RPC has it, and not
  done either. One answer goes out by itself, also to an array of one.
- A URL names the route and its arguments; the id of its answer is -1. An error there is the HTTP status 500 as well.
- A message of a WebSocket is one request. RPCArguments that are wrong are an internal error there (-32603), elsewhere
  -32602.

Departures: a request without params takes the defaults, where CometBFT fails inside. An error is never said to be
cacheable. All answers to an array together have a limit.

Source: CometBFT 0.38, ``rpc/jsonrpc``, and its answers to the requests in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from quorate.ledger.comet.rpc.routes import ROUTES, Route, RPCCall, RPCCaller
from quorate.ledger.comet.rpc.rpc_arguments import (
    ArgumentError,
    RPCArguments,
    arguments_of_json,
    arguments_of_url,
    read_json,
)
from quorate.ledger.comet.rpc.subscriptions import RequestID
from quorate.ledger.comet.rpc.view import ChainIndex, ChainView, RPCRefusal

BATCH_MAX: Final = 10
"""max_request_batch_size"""
ANSWER_BYTES_MAX: Final = 1 << 27
"""Of all answers to one array; one answer may be larger, as a block may be. Ours."""
URL_ID: Final = -1

PARSE_ERROR: Final = (-32700, "Parse error. Invalid JSON")
INVALID_REQUEST: Final = (-32600, "Invalid Request")
METHOD_NOT_FOUND: Final = (-32601, "Method not found")
INVALID_PARAMS: Final = (-32602, "Invalid params")
INTERNAL_ERROR: Final = (-32603, "Internal error")
SERVER_ERROR: Final = (-32000, "Server error")

CallerOf: TypeAlias = Callable[[RequestID], RPCCaller]


class HTTPAnswer(NamedTuple):
    """A status and a body of JSON, or of nothing. ``is_lasting``: it may be kept for a day."""

    status: int
    body: bytes
    is_lasting: bool = False


class RPCRequest(NamedTuple):
    """One request. No id: it is not to be answered."""

    id: RequestID | None
    method: str
    params: Any


class _Answered(NamedTuple):
    """An answer, and whether it may be kept for a day."""

    body: bytes
    is_lasting: bool = False


class RPCCore:
    """The RPC of one node. It keeps nothing of a call."""

    def __init__(self, view: ChainView, chain_index: ChainIndex | None) -> None:
        self.view = view
        self.chain_index = chain_index

    async def answer_body(self, body: bytes, caller: CallerOf) -> HTTPAnswer:
        """To what was posted."""
        try:
            data = read_json(body)
            items = data if isinstance(data, list) else [data]
            requests = [_request(item) for item in items]
        except ArgumentError as error:
            why = f"error unmarshaling request: {error}"
            return HTTPAnswer(500, error_body(None, PARSE_ERROR, why))
        if isinstance(data, list) and len(requests) > BATCH_MAX:
            why = f"batch request exceeds maximum ({BATCH_MAX}) allowed number of requests"
            return HTTPAnswer(200, error_body(None, INVALID_REQUEST, why))
        answers: list[_Answered] = []
        for request in requests:
            if request.id is not None:
                room = ANSWER_BYTES_MAX - sum(len(answer.body) for answer in answers)
                answers.append(await self._one_of_body(request, request.id, caller, room))
        bodies = [answer.body for answer in answers]
        body = bodies[0] if len(bodies) == 1 else b"[%b]" % b",".join(bodies) if bodies else b""
        return HTTPAnswer(200, body, bool(answers) and all(answer.is_lasting for answer in answers))

    async def _one_of_body(self, request: RPCRequest, ident: RequestID, caller: CallerOf, room: int) -> _Answered:
        route = ROUTES.get(request.method)
        if route is None or route.is_for_sockets:
            return _Answered(error_body(ident, METHOD_NOT_FOUND))
        if room <= 0:
            return _Answered(error_body(ident, INTERNAL_ERROR, "the answers before this one are too large together"))
        try:
            arguments = arguments_of_json(route.kinds, request.params)
        except ArgumentError as error:
            why = f"error converting json params to arguments: {error}"
            return _Answered(error_body(ident, INVALID_PARAMS, why))
        return await self._answer(route, arguments, ident, caller)

    async def answer_url(self, name: str, query: Mapping[str, str], caller: CallerOf) -> HTTPAnswer | None:
        """To a route by its name, with the first value of each argument; None if there is no such route."""
        route = ROUTES.get(name)
        if route is None:
            return None
        if route.is_for_sockets:
            return HTTPAnswer(404, error_body(URL_ID, METHOD_NOT_FOUND))
        try:
            arguments = arguments_of_url(route.kinds, query)
        except ArgumentError as error:
            why = f"error converting http params to arguments: {error}"
            return HTTPAnswer(500, error_body(URL_ID, INVALID_PARAMS, why))
        try:
            result = await route.answer(RPCCall(self.view, self.chain_index, caller(URL_ID), arguments))
        except RPCRefusal as refusal:
            return HTTPAnswer(500, error_body(URL_ID, INTERNAL_ERROR, str(refusal)))
        return HTTPAnswer(200, result_body(URL_ID, result), route.is_lasting(arguments))

    async def answer_message(self, message: bytes | str, caller: CallerOf) -> bytes | None:
        """To a message of a WebSocket; None if it asks for no answer."""
        try:
            request = _request(read_json(message))
        except ArgumentError as error:
            return error_body(None, PARSE_ERROR, f"error unmarshaling request: {error}")
        if request.id is None:
            return None
        route = ROUTES.get(request.method)
        if route is None:
            return error_body(request.id, METHOD_NOT_FOUND)
        try:
            arguments = arguments_of_json(route.kinds, request.params)
        except ArgumentError as error:
            why = f"error converting json params to arguments: {error}"
            return error_body(request.id, INTERNAL_ERROR, why)
        return (await self._answer(route, arguments, request.id, caller)).body

    async def _answer(self, route: Route, arguments: RPCArguments, ident: RequestID, caller: CallerOf) -> _Answered:
        try:
            result = await route.answer(RPCCall(self.view, self.chain_index, caller(ident), arguments))
        except RPCRefusal as refusal:
            return _Answered(error_body(ident, INTERNAL_ERROR, str(refusal)))
        return _Answered(result_body(ident, result), route.is_lasting(arguments))


def result_body(ident: RequestID, result: Mapping[str, Any]) -> bytes:
    """An answer."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": ident, "result": result})


def error_body(ident: RequestID | None, kind: tuple[int, str], data: str = "") -> bytes:
    """An answer that says what is wrong. Without an id: of a request that could not be read."""
    code, message = kind
    error = {"code": code, "message": message, **({"data": data} if data else {})}
    return msgspec.json.encode({"jsonrpc": "2.0", **({} if ident is None else {"id": ident}), "error": error})


def _request(data: Any) -> RPCRequest:
    """Raises ArgumentError for what is not one."""
    if data is None:
        return RPCRequest(None, "", None)
    if not isinstance(data, dict):
        raise ArgumentError(f"cannot unmarshal {type(data).__name__} into a request")
    ident = data.get("id")
    for name in ("jsonrpc", "method"):
        if not isinstance(data.get(name) or "", str):
            raise ArgumentError(f"cannot unmarshal {type(data[name]).__name__} into .{name} of type string")
    if ident is None:
        return RPCRequest(None, "", None)
    if isinstance(ident, bool) or not isinstance(ident, int | float | str):
        raise ArgumentError(f"json-rpc ID is of unknown type ({type(ident).__name__})")
    if not isinstance(ident, str):
        if not -(1 << 63) <= ident < 1 << 63:
            raise ArgumentError("json-rpc ID does not fit 64 bits")
        ident = int(ident)
    return RPCRequest(ident, data.get("method") or "", data.get("params"))
