"""The routes of CometBFT 0.38: what each takes, and what it answers of a ChainView.

A route is a coroutine over the view, the index and the caller; it knows no socket. It raises RPCRefusal, whose text is
the caller's answer. The three unsafe ones, which CometBFT has switched off unless an operator asks for them, are not
here.

Source: CometBFT 0.38, ``rpc/core/routes.go`` and the files beside it; ``rpc/openapi/openapi.yaml``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from quorate.ledger.comet.abci.request_messages import RequestQuery
from quorate.ledger.comet.abci.response_messages import ResponseCheckTx
from quorate.ledger.comet.blocks import tx_hash, tx_proofs
from quorate.ledger.comet.commits import COMMIT
from quorate.ledger.comet.evidence import evidence_id
from quorate.ledger.comet.headers import HEADER
from quorate.ledger.comet.json_shapes import to_json
from quorate.ledger.comet.params import CONSENSUS_PARAMS
from quorate.ledger.comet.results import ExecTxResult
from quorate.ledger.comet.rpc.answers import (
    base64_text,
    block_answer,
    block_results_answer,
    broadcast_answer,
    full_moment_answer,
    hexadecimal,
    info_answer,
    key_answer,
    meta_answer,
    moment_answer,
    node_answer,
    peer_answer,
    proof_answer,
    query_answer,
    result_answer,
    tx_answer,
    validator_answer,
)
from quorate.ledger.comet.rpc.queries import EventQuery, parse_query
from quorate.ledger.comet.rpc.rpc_arguments import (
    ArgumentKind,
    BytesArgument,
    EvidenceArgument,
    FlagArgument,
    NumberArgument,
    RPCArguments,
    TextArgument,
)
from quorate.ledger.comet.rpc.view import ChainBlock, ChainIndex, ChainView, IndexedTx, RPCRefusal
from quorate.parts.crypto.merkle import MerkleProof

PER_PAGE: Final = 30
PER_PAGE_MAX: Final = 100
METAS_MAX: Final = 20
"""Blocks in one answer of blockchain."""
PAGE_BYTES_MAX: Final = 1 << 26
"""Of what one page of a search shows, before it is JSON. Ours."""
TOO_LARGE: Final = "what was found is too large for one page: ask for fewer by per_page"
GENESIS_CHUNK_BYTES: Final = 16 << 20


class RPCCaller(Protocol):
    """Who calls: what a route can do for it beside answering."""

    def subscribe(self, query: str) -> None:
        """Send it what matches, under the id of this call. Raises RPCRefusal."""

    def unsubscribe(self, query: str) -> None:
        """Raises RPCRefusal."""

    def unsubscribe_all(self) -> None:
        """Raises RPCRefusal."""

    async def until_decided(
        self, tx: bytes, submit: Callable[[], Awaitable[ResponseCheckTx]]
    ) -> tuple[ResponseCheckTx, IndexedTx | None]:
        """Hand a transaction in and wait for the block that has it. None if the app refused it.

        Raises RPCRefusal, also when it takes too long.
        """


class RPCCall(NamedTuple):
    """One call of a route."""

    view: ChainView
    chain_index: ChainIndex | None
    caller: RPCCaller
    arguments: RPCArguments


class Route(NamedTuple):
    """A route. ``kinds``: its arguments in order, by name.

    ``is_cacheable``: the answer stays as it is, if the arguments in ``must_be_given`` are. ``is_for_sockets``: it is
    there for WebSockets alone.
    """

    answer: Callable[[RPCCall], Awaitable[dict[str, Any]]]
    kinds: Mapping[str, ArgumentKind]
    is_cacheable: bool = False
    must_be_given: tuple[str, ...] = ()
    is_for_sockets: bool = False

    def is_lasting(self, arguments: RPCArguments) -> bool:
        """Whether the answer to these arguments may be kept for a day."""
        return self.is_cacheable and all(arguments[name] for name in self.must_be_given)


async def _health(call: RPCCall) -> dict[str, Any]:
    return {}


async def _status(call: RPCCall) -> dict[str, Any]:
    view = call.view
    latest, earliest = view.latest_height(), view.earliest_height()
    key = view.validator_key()
    voters = await view.validators_of(_next_height(view)) or ()
    power = next((voter.voting_power for voter in voters if voter.pub_key == key), 0)
    return {
        "node_info": node_answer(view.node_info()),
        "sync_info": {
            **_end_answer("latest", latest, await view.block_of(latest)),
            **_end_answer("earliest", earliest, await view.block_of(earliest)),
            "catching_up": view.is_catching_up(),
        },
        "validator_info": {
            "address": hexadecimal(key.address),
            "pub_key": key_answer(key),
            "voting_power": str(power),
        },
    }


def _end_answer(which: str, height: int, found: ChainBlock | None) -> dict[str, Any]:
    header = None if found is None else found.block.header
    return {
        f"{which}_block_hash": "" if found is None else hexadecimal(found.block_id.hash),
        f"{which}_app_hash": "" if header is None else hexadecimal(header.app_hash),
        f"{which}_block_height": str(height),
        f"{which}_block_time": "1970-01-01T00:00:00Z" if header is None else header.time.text(),
    }


async def _net_info(call: RPCCall) -> dict[str, Any]:
    peers = [peer_answer(peer) for peer in call.view.peers()]
    here = call.view.node_info().listen_addr
    return {"listening": True, "listeners": [f"Listener(@{here})"], "n_peers": str(len(peers)), "peers": peers}


def _genesis_chunks(view: ChainView) -> list[bytes]:
    data = msgspec.json.encode(view.genesis_document())
    return [data[at : at + GENESIS_CHUNK_BYTES] for at in range(0, len(data), GENESIS_CHUNK_BYTES)]


async def _genesis(call: RPCCall) -> dict[str, Any]:
    if len(_genesis_chunks(call.view)) > 1:
        raise RPCRefusal("genesis response is large, please use the genesis_chunked API instead")
    return {"genesis": call.view.genesis_document()}


async def _genesis_chunked(call: RPCCall) -> dict[str, Any]:
    chunks, wanted = _genesis_chunks(call.view), call.arguments["chunk"]
    if wanted >= len(chunks):
        raise RPCRefusal(f"there are {len(chunks) - 1} chunks, {wanted} is invalid")
    return {"chunk": str(wanted), "total": str(len(chunks)), "data": base64_text(chunks[wanted])}


async def _blockchain(call: RPCCall) -> dict[str, Any]:
    view, least, most = call.view, call.arguments["minHeight"], call.arguments["maxHeight"]
    if least < 0 or most < 0:
        raise RPCRefusal("heights must be non-negative")
    latest = view.latest_height()
    most = min(most or latest, latest)
    least = max(least or 1, view.earliest_height(), most - METAS_MAX + 1)
    if least > most:
        raise RPCRefusal(f"min height {least} can't be greater than max height {most}")
    found = [await view.block_of(height) for height in range(most, least - 1, -1)]
    metas = [meta_answer(block) for block in found if block is not None]
    return {"last_height": str(latest), "block_metas": metas}


async def _header(call: RPCCall) -> dict[str, Any]:
    return _header_answer(await call.view.block_of(_height(call, call.view.latest_height())))


async def _header_by_hash(call: RPCCall) -> dict[str, Any]:
    return _header_answer(await _by_hash(call))


def _header_answer(found: ChainBlock | None) -> dict[str, Any]:
    return {"header": None if found is None else to_json(HEADER, found.block.header)}


async def _block(call: RPCCall) -> dict[str, Any]:
    return block_answer(await call.view.block_of(_height(call, call.view.latest_height())))


async def _block_by_hash(call: RPCCall) -> dict[str, Any]:
    return block_answer(await _by_hash(call))


async def _by_hash(call: RPCCall) -> ChainBlock | None:
    height = await call.view.height_of(call.arguments["hash"])
    return None if height is None else await call.view.block_of(height)


async def _block_results(call: RPCCall) -> dict[str, Any]:
    height = _height(call, call.view.latest_height())
    results = await call.view.results_of(height)
    if results is None:
        raise RPCRefusal(f"could not find results for height #{height}")
    return block_results_answer(height, results)


async def _commit(call: RPCCall) -> dict[str, Any]:
    view = call.view
    latest = view.latest_height()
    height = _height(call, latest)
    found, commit = await view.block_of(height), await view.commit_of(height)
    if found is None or commit is None:
        raise RPCRefusal(f"there is no commit of height {height}")
    signed = {"header": to_json(HEADER, found.block.header), "commit": to_json(COMMIT, commit)}
    # The commit of the last block may be another one than the next block will have.
    return {"signed_header": signed, "canonical": height < latest}


async def _validators(call: RPCCall) -> dict[str, Any]:
    height = _height(call, _next_height(call.view))
    found = await call.view.validators_of(height)
    if found is None:
        raise RPCRefusal(f"could not find validator set for height #{height}")
    skip, count = _page(call, len(found))
    shown = [validator_answer(validator) for validator in found[skip : skip + count]]
    return {"block_height": str(height), "validators": shown, "count": str(len(shown)), "total": str(len(found))}


async def _consensus_params(call: RPCCall) -> dict[str, Any]:
    height = _height(call, _next_height(call.view))
    params = await call.view.params_of(height)
    if params is None:
        raise RPCRefusal(f"could not find consensus params for height #{height}")
    return {"block_height": str(height), "consensus_params": to_json(CONSENSUS_PARAMS, params)}


async def _consensus_state(call: RPCCall) -> dict[str, Any]:
    return {"round_state": moment_answer(call.view.consensus_moment())}


async def _dump_consensus_state(call: RPCCall) -> dict[str, Any]:
    moment = call.view.consensus_moment()
    validators = await call.view.validators_of(moment.height) or ()
    return {"round_state": full_moment_answer(moment, validators), "peers": []}


async def _unconfirmed_txs(call: RPCCall) -> dict[str, Any]:
    waiting = call.view.waiting_txs(_per_page(call.arguments["limit"]))
    return {
        "n_txs": str(len(waiting.txs)),
        "total": str(waiting.total),
        "total_bytes": str(waiting.total_bytes),
        "txs": [base64_text(tx) for tx in waiting.txs],
    }


async def _num_unconfirmed_txs(call: RPCCall) -> dict[str, Any]:
    waiting = call.view.waiting_txs(0)
    total = str(waiting.total)
    return {"n_txs": total, "total": total, "total_bytes": str(waiting.total_bytes), "txs": None}


async def _check_tx(call: RPCCall) -> dict[str, Any]:
    return result_answer(await call.view.check_tx(call.arguments["tx"]))


async def _broadcast_tx_sync(call: RPCCall) -> dict[str, Any]:
    tx = call.arguments["tx"]
    return broadcast_answer(tx, await call.view.submit_tx(tx))


async def _broadcast_tx_async(call: RPCCall) -> dict[str, Any]:
    """CometBFT does not wait for the app's check here; what the mempool refuses it tells too."""
    tx = call.arguments["tx"]
    await call.view.submit_tx(tx)
    return broadcast_answer(tx, ResponseCheckTx())


async def _broadcast_tx_commit(call: RPCCall) -> dict[str, Any]:
    tx = call.arguments["tx"]

    async def submit() -> ResponseCheckTx:
        try:
            return await call.view.submit_tx(tx)
        except RPCRefusal as refusal:
            raise RPCRefusal(f"error on broadcastTxCommit: {refusal}") from None

    checked, decided = await call.caller.until_decided(tx, submit)
    return {
        "check_tx": result_answer(checked),
        "tx_result": result_answer(ExecTxResult() if decided is None else decided.result),
        "hash": hexadecimal(tx_hash(tx)),
        "height": "0" if decided is None else str(decided.height),
    }


async def _abci_info(call: RPCCall) -> dict[str, Any]:
    return {"response": info_answer(await call.view.app_info())}


async def _abci_query(call: RPCCall) -> dict[str, Any]:
    asked = call.arguments
    request = RequestQuery(asked["data"], asked["path"], asked["height"], asked["prove"])
    return {"response": query_answer(await call.view.query_app(request))}


async def _broadcast_evidence(call: RPCCall) -> dict[str, Any]:
    piece = call.arguments["evidence"]
    if piece is None:
        raise RPCRefusal("no evidence was provided")
    try:
        await call.view.add_evidence(piece)
    except RPCRefusal as refusal:
        raise RPCRefusal(f"failed to add evidence: {refusal}") from None
    return {"hash": base64_text(evidence_id(piece))}


async def _tx(call: RPCCall) -> dict[str, Any]:
    wanted = call.arguments["hash"]
    index = _index(call, "transaction")
    if not wanted:
        raise RPCRefusal("transaction hash cannot be empty")
    found = await index.find_tx(wanted)
    if found is None:
        raise RPCRefusal(f"tx ({hexadecimal(wanted[:64])}) not found")
    return (await _tx_answers(call, [found]))[0]


async def _tx_answers(call: RPCCall, found: Sequence[IndexedTx]) -> list[dict[str, Any]]:
    """With proofs, if they are asked for. The tree of a block is made once for all of its transactions."""
    trees: dict[int, tuple[bytes, list[MerkleProof]]] = {}
    answers = []
    for tx in found:
        if call.arguments["prove"] and tx.height not in trees:
            holder = await call.view.block_of(tx.height)
            trees[tx.height] = (b"", []) if holder is None else tx_proofs(holder.block.data.txs)
        root, proofs = trees.get(tx.height, (b"", []))
        answers.append(tx_answer(tx, proof_answer(root, proofs[tx.index], tx.tx) if proofs else None))
    return answers


async def _tx_search(call: RPCCall) -> dict[str, Any]:
    index, query = _index(call, "transaction"), _query(call)
    descending = _descending(call, otherwise=False)
    skip, count = _wanted(call)
    page = await index.search_txs(query, descending=descending, skip=skip, count=count)
    _page(call, page.total)
    return {"txs": await _tx_answers(call, page.txs), "total_count": str(page.total)}


async def _block_search(call: RPCCall) -> dict[str, Any]:
    index, query = _index(call, "block"), _query(call)
    descending = _descending(call, otherwise=True)
    skip, count = _wanted(call)
    page = await index.search_blocks(query, descending=descending, skip=skip, count=count)
    _page(call, page.total)
    blocks, size = [], 0
    for height in page.heights:
        found = await call.view.block_of(height)
        if found is not None:  # it may be pruned
            size += found.size
            if size > PAGE_BYTES_MAX:
                raise RPCRefusal(TOO_LARGE)
            blocks.append(block_answer(found))
    return {"blocks": blocks, "total_count": str(page.total)}


async def _subscribe(call: RPCCall) -> dict[str, Any]:
    call.caller.subscribe(call.arguments["query"])
    return {}


async def _unsubscribe(call: RPCCall) -> dict[str, Any]:
    call.caller.unsubscribe(call.arguments["query"])
    return {}


async def _unsubscribe_all(call: RPCCall) -> dict[str, Any]:
    call.caller.unsubscribe_all()
    return {}


def _next_height(view: ChainView) -> int:
    """The highest height of which validators and parameters are known: a block that is decided says who votes next."""
    return view.latest_height() + (not view.is_catching_up())


def _height(call: RPCCall, latest: int) -> int:
    """The height that is asked for, or the latest."""
    height: int | None = call.arguments["height"]
    if height is None:
        return latest
    if height <= 0:
        raise RPCRefusal(f"height must be greater than 0, but got {height}")
    if height > latest:
        raise RPCRefusal(f"height {height} must be less than or equal to the current blockchain height {latest}")
    earliest = call.view.earliest_height()
    if height < earliest:
        raise RPCRefusal(f"height {height} is not available, lowest height is {earliest}")
    return height


def _per_page(wanted: int | None) -> int:
    return PER_PAGE if wanted is None or wanted < 1 else min(wanted, PER_PAGE_MAX)


def _wanted(call: RPCCall) -> tuple[int, int]:
    """How many to skip and to show, before it is known how many there are."""
    count = _per_page(call.arguments["per_page"])
    page = call.arguments["page"]
    return (0 if page is None or page < 1 else min((page - 1) * count, 1 << 62)), count


def _page(call: RPCCall, total: int) -> tuple[int, int]:
    """The same of what there is. Raises RPCRefusal for a page that is not."""
    skip, count = _wanted(call)
    pages = max(1, -(-total // count))
    page = call.arguments["page"]
    if page is not None and not 1 <= page <= pages:
        raise RPCRefusal(f"page should be within [1, {pages}] range, given {page}")
    return skip, count


def _descending(call: RPCCall, *, otherwise: bool) -> bool:
    order = call.arguments["order_by"]
    if order not in ("asc", "desc", ""):
        raise RPCRefusal("expected order_by to be either `asc` or `desc` or empty")
    return order == "desc" if order else otherwise


def _query(call: RPCCall) -> EventQuery:
    try:
        return parse_query(call.arguments["query"])
    except ValueError as error:
        raise RPCRefusal(str(error)) from None


def _index(call: RPCCall, what: str) -> ChainIndex:
    if call.chain_index is None:
        raise RPCRefusal(f"{what} indexing is disabled")
    return call.chain_index


_OPTIONAL: Final = NumberArgument("int64")
_COUNT: Final = NumberArgument("int")
_HEIGHT: Final = {"height": _OPTIONAL}
_PAGES: Final = {"page": _COUNT, "per_page": _COUNT}
_QUERY: Final = {"query": TextArgument()}
_ORDER: Final = {"order_by": TextArgument()}
_TX: Final = {"tx": BytesArgument()}
_FROM_ZERO: Final = NumberArgument("int64", default=0)
_GIVEN: Final = ("height",)

ROUTES: Final[Mapping[str, Route]] = {
    "subscribe": Route(_subscribe, _QUERY, is_for_sockets=True),
    "unsubscribe": Route(_unsubscribe, _QUERY, is_for_sockets=True),
    "unsubscribe_all": Route(_unsubscribe_all, {}, is_for_sockets=True),
    "health": Route(_health, {}),
    "status": Route(_status, {}),
    "net_info": Route(_net_info, {}),
    "blockchain": Route(_blockchain, {"minHeight": _FROM_ZERO, "maxHeight": _FROM_ZERO}, True),
    "genesis": Route(_genesis, {}, True),
    "genesis_chunked": Route(_genesis_chunked, {"chunk": NumberArgument("uint", 0, (1 << 64) - 1, default=0)}, True),
    "block": Route(_block, _HEIGHT, True, _GIVEN),
    "block_by_hash": Route(_block_by_hash, {"hash": BytesArgument()}, True),
    "block_results": Route(_block_results, _HEIGHT, True, _GIVEN),
    "commit": Route(_commit, _HEIGHT, True, _GIVEN),
    "header": Route(_header, _HEIGHT, True, _GIVEN),
    "header_by_hash": Route(_header_by_hash, {"hash": BytesArgument(is_hex=True)}, True),
    "check_tx": Route(_check_tx, _TX),
    "tx": Route(_tx, {"hash": BytesArgument(), "prove": FlagArgument()}, True),
    "tx_search": Route(_tx_search, {**_QUERY, "prove": FlagArgument(), **_PAGES, **_ORDER}),
    "block_search": Route(_block_search, {**_QUERY, **_PAGES, **_ORDER}),
    "validators": Route(_validators, {**_HEIGHT, **_PAGES}, True, _GIVEN),
    "dump_consensus_state": Route(_dump_consensus_state, {}),
    "consensus_state": Route(_consensus_state, {}),
    "consensus_params": Route(_consensus_params, _HEIGHT, True, _GIVEN),
    "unconfirmed_txs": Route(_unconfirmed_txs, {"limit": _COUNT}),
    "num_unconfirmed_txs": Route(_num_unconfirmed_txs, {}),
    "broadcast_tx_commit": Route(_broadcast_tx_commit, _TX),
    "broadcast_tx_sync": Route(_broadcast_tx_sync, _TX),
    "broadcast_tx_async": Route(_broadcast_tx_async, _TX),
    "abci_query": Route(
        _abci_query,
        {
            "path": TextArgument(),
            "data": BytesArgument(is_hex=True),
            "height": _FROM_ZERO,
            "prove": FlagArgument(),
        },
    ),
    "abci_info": Route(_abci_info, {}, True),
    "broadcast_evidence": Route(_broadcast_evidence, {"evidence": EvidenceArgument()}),
}
"""By their names, in CometBFT's order."""
