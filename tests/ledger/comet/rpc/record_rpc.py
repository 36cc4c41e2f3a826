"""Record what CometBFT's RPC answers: `python -m tests.ledger.comet.rpc.record_rpc URL FILE`.

URL is that of a new chain of one validator, kvstore and no empty blocks:

    cometbft init validator --home HOME
    cometbft node --home HOME --proxy_app=kvstore --consensus.create_empty_blocks=false

The script makes a short chain of transactions, then asks. The file has one value of JSON a line: the chain, the
conversations while it grew, the events that came over a WebSocket, and the questions that were asked afterwards.
"""

import asyncio
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any

NEW_KEY = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
QUERIES = [
    "tm.event='NewBlock'",
    "tm.event = 'NewBlockHeader'",
    "tm.event='NewBlockEvents'",
    "tm.event='ValidatorSetUpdates'",
    "tm.event='Tx' AND app.key='k1'",
]


def http(url: str, path: str, body: str | None = None) -> dict[str, Any]:
    """What is asked and what is answered."""
    data = None if body is None else body.encode()
    request = urllib.request.Request(f"{url}/{path}", data, {"Content-Type": "application/json"} if body else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    text = answer.read().decode()
    kind = answer.headers.get("Content-Type", "")
    return {
        "path": path,
        "body": body,
        "status": answer.status,
        "kind": kind,
        "cache": answer.headers.get("Cache-Control"),
        "answer": json.loads(text) if text and "json" in kind else text,
    }


def post(method: str, params: Any = None, ident: Any = 7) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": ident, "method": method, "params": params if params is not None else {}})


def tx64(text: bytes) -> dict[str, str]:
    return {"tx": b64encode(text).decode()}


SAID = [
    post("subscribe", {"query": QUERIES[0]}, 90),
    post("subscribe", {"query": "tm.event = "}, 91),
    post("unsubscribe", {"query": "tm.event = 'Tx'"}, 92),
    post("unsubscribe", {"query": "tm.event =  'NewBlock'"}, 93),
    post("unsubscribe", {"query": 5}, 94),
    post("nosuch", {}, 95),
    post("health", {}, "text"),
    "[" + post("health", {}, 96) + "]",
    "{",
    '{"jsonrpc":"2.0","method":"health"}',
    post("unsubscribe_all", {}, 97),
    post("unsubscribe_all", {}, 98),
]
"""Over the WebSocket, after the subscriptions to QUERIES and some blocks."""


async def grow(url: str) -> tuple[list[Any], list[Any]]:
    """Make the chain; the conversations, and the messages of the WebSocket."""
    import aiohttp  # the tests, which use the questions, do without it

    talks: list[Any] = []
    heard: list[Any] = []

    async def ask(path: str, body: str | None = None) -> None:
        talks.append(await asyncio.to_thread(http, url, path, body))

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/websocket") as socket:

        async def listen() -> None:
            async for message in socket:
                heard.append(json.loads(message.data))

        listening = asyncio.create_task(listen())
        for i, query in enumerate(QUERIES):
            await socket.send_str(post("subscribe", {"query": query}, i))
        await asyncio.sleep(1)
        await ask('broadcast_tx_commit?tx="k0=v0"')
        await ask("", post("broadcast_tx_commit", tx64(b"k1=v1")))
        await ask('broadcast_tx_sync?tx="k1=v1"')
        for i in range(2, 5):
            await ask("", post("broadcast_tx_sync", tx64(b"k%d=v%d" % (i, i))))
        await ask("broadcast_tx_async?tx=0x6b353d7635")
        await ask('broadcast_tx_sync?tx="bad"')
        await ask('broadcast_tx_commit?tx="bad"')
        await ask('check_tx?tx="a=b"')
        await asyncio.sleep(4)
        await ask("", post("broadcast_tx_commit", tx64(b"\xff=1")))
        await ask("", post("broadcast_tx_commit", tx64(f"val=ed25519!{NEW_KEY}!1".encode())))
        await ask("", post("broadcast_tx_commit", tx64(b"k9=v9")))
        await ask("", post("broadcast_tx_commit", tx64(f"val=ed25519!{NEW_KEY}!0".encode())))
        await ask("", post("broadcast_tx_commit", tx64(b"k10=v10")))
        for body in SAID:
            await socket.send_str(body)
        await asyncio.sleep(4)
        listening.cancel()
    return talks, heard


def chain(url: str) -> dict[str, Any]:
    """All that the node's side of the answers is made from."""

    def result(path: str) -> Any:
        return http(url, path)["answer"]["result"]

    status = result("status")
    latest = int(status["sync_info"]["latest_block_height"])
    return {
        "status": status,
        "genesis": result("genesis")["genesis"],
        "blocks": [result(f"block?height={h}") for h in range(1, latest + 1)],
        "results": [result(f"block_results?height={h}") for h in range(1, latest + 1)],
        "validators": [result(f"validators?height={h}") for h in range(1, latest + 2)],
        "params": [result(f"consensus_params?height={h}") for h in range(1, latest + 2)],
        "commit": result("commit"),
    }


HEIGHTS = ["", "?height=1", "?height=3", "?height=0", "?height=-1", "?height=1000000", "?height=abc", "?height=0x01"]
HEIGHTS += ["?height=99999999999999999999", "?height=1.5", '?height="1"', "?height=", "?height=true", "?height=null"]
TX_QUERIES = [
    "tx.height=3",
    "tx.height > 2 AND tx.height <= 5",
    "app.key='k1'",
    "app.creator='Cosmoshi' AND tx.height>2",
]
TX_QUERIES += [
    "app.creator CONTAINS 'Net'",
    "app.key EXISTS",
    "app.noindex_key EXISTS",
    "tx.height=99",
    "tx.height <  3",
]
TX_QUERIES += ["app.index_key='index is working' AND app.key='k2'", "app.key='k1' AND app.key='k2'", "tm.event='Tx'"]
TX_QUERIES += [
    "",
    "tx.height",
    "tx.height=",
    "tx.height >= 99",
    "app.key > 1",
    "tx.height=3 AND app.creator='Cosmoshi'",
]
TX_QUERIES += ["app.key CONTAINS 'k1'", "app.key < 'k2'", "a=DATE 2026-13-01", "a=TIME 2026", "a ~ 5", "a" * 520 + "=1"]
BLOCK_QUERIES = ["block.height=3", "block.height>2", "block.height > 2 AND block.height<5", "block.height=99"]
BLOCK_QUERIES += ["val.key EXISTS", "x", "block.height<=2"]


def searches(name: str) -> list[str]:
    quote = urllib.parse.quote
    asked = [f"tx_search?query={quote(chr(34) + text + chr(34))}" for text in [*TX_QUERIES, f"tx.hash='{name}'"]]
    asked += [f"block_search?query={quote(chr(34) + text + chr(34))}" for text in BLOCK_QUERIES]
    asked += ["tx_search?query=x", f"tx_search?query=0x{b'tx.height=3'.hex()}", "tx_search"]
    above = "tx_search?query=" + quote('"tx.height>0"')
    asked += [f'{above}&per_page=2&page=2&order_by="desc"', f'{above}&per_page=2&page=1&order_by="asc"&prove=true']
    asked += [f"{above}&per_page=2&page=99", f'{above}&order_by="up"']
    above = "block_search?query=" + quote('"block.height>0"')
    return [*asked, f'{above}&per_page=2&page=2&order_by="asc"', f"{above}&per_page=2&page=2", f"{above}&page=7"]


def urls(block: str, tx: str, latest: int) -> list[str]:
    """Questions by URL: with the hash of a block and of a transaction."""
    asked = ["health", "health?x=1", "status", "net_info", "genesis", "genesis_chunked", "genesis_chunked?chunk=0"]
    asked += ["genesis_chunked?chunk=1", "genesis_chunked?chunk=-1", "num_unconfirmed_txs", "unconfirmed_txs?limit=1"]
    asked += ["abci_info", 'abci_query?data="k1"', "abci_query?data=0x6b31", 'abci_query?path="/val"&data="zz"']
    asked += ['abci_query?data="k1"&height=2&prove=true', 'abci_query?data="none"', "abci_query", "consensus_params"]
    asked += [f"consensus_params?height={height}" for height in (2, latest + 1, latest + 2)]
    asked += ["validators", "validators?height=1", f"validators?height={latest + 1}", 'validators?height="2"']
    asked += [f"validators?height=5&page={page}&per_page=1" for page in (1, 2, 9)]
    asked += ["validators?page=0", "validators?per_page=0", "validators?per_page=-3", "validators?per_page=1000"]
    asked += ["nosuch", "block/", "subscribe", "subscribe?query=x"]
    for route in ("block", "commit", "header", "block_results"):
        asked += [f"{route}{height}" for height in [*HEIGHTS, f"?height={latest}"]]
    for route in ("block_by_hash", "header_by_hash"):
        texts = (f"0x{block}", "0x00", "0x", f'"{block}"', block, "0x0", "0xzz")
        asked += [route, *(f"{route}?hash={text}" for text in texts)]
    asked += ["blockchain", *(f"blockchain?minHeight={least}" for least in ("-1", "99", "x", "4&maxHeight=2"))]
    asked += ["blockchain?minHeight=2&maxHeight=4", "blockchain?maxHeight=3", "blockchain?minHeight=1&maxHeight=99"]
    asked += ["tx", f"tx?hash=0x{tx}", f"tx?hash=0x{tx.lower()}&prove=false", "tx?hash=0x", "tx?hash=0x00"]
    asked += [f"tx?hash=0x{tx}&prove={prove}" for prove in ("true", "1", "0x01")] + [f"tx?hash={tx}"]
    asked += ["broadcast_evidence", "broadcast_evidence?evidence=1", "broadcast_tx_sync"]
    return [*asked, *searches(tx)]


def calls(block: str, tx: str) -> list[str]:
    """Requests by JSON-RPC: with the hash of a block and of a transaction."""
    block64, tx64_ = (b64encode(bytes.fromhex(name)).decode() for name in (block, tx))
    heights: list[Any] = ["3", 3, None, "x", "999", True, {}, ""]
    made = [post("block", {"height": height}) for height in heights]
    made += [post("block", ["3"]), post("block", []), post("block", "x"), post("health", [], 1.7), post("health", [1])]
    made += [
        post("status"),
        post("nosuch"),
        post("health", None, "text"),
        post("subscribe", {"query": "tm.event='Tx'"}),
    ]
    made += [post("header_by_hash", {"hash": text}) for text in (block, "zz")]
    made += [post("block_by_hash", {"hash": text}) for text in (block64, "%%", 5)]
    made += [post("tx", {"hash": tx64_, "prove": prove}) for prove in (True, "true")]
    made += [post("tx_search", {"query": "tx.height>0", "per_page": "1", "page": "2", "order_by": "desc"})]
    made += [post("tx_search", {"query": "tx.height>0", "per_page": 1}), post("tx_search", {"query": 5})]
    made += [post("abci_query", {"path": "/store", "data": b"k1".hex(), "height": "0", "prove": False})]
    made += [post("abci_query", {"data": "zz"}), post("abci_query", ["", b"k1".hex(), "0", False])]
    made += [post("abci_query", ["", "00"]), post("blockchain", {"minHeight": "1", "maxHeight": "2"})]
    made += [post("validators", {"height": "1", "page": "1", "per_page": "5"}), post("validators", {"page": "x"})]
    made += [post("genesis_chunked", {"chunk": "0"}), post("genesis_chunked", {"chunk": "-1"})]
    return made + [post("broadcast_evidence", {"evidence": piece}) for piece in (None, {"type": "no", "value": {}})]


def bodies() -> list[str]:
    """What is more or less JSON-RPC."""
    batch = [json.loads(post("health", {}, i)) for i in range(11)]
    wrong = [json.loads(post("nosuch", {}, 5)), json.loads(post("block", {"height": "0"}, 6))]
    arrays = [batch, batch[:10], batch[:1], [], [batch[0], *wrong], [batch[0], 5]]
    made = [json.dumps(array) for array in [*arrays, [*batch[:2], {"jsonrpc": "2.0", "method": "health"}]]]
    made += ['{"jsonrpc":"2.0","method":"health"}', '{"jsonrpc":"2.0","id":null,"method":"health"}', "{}", "5", "null"]
    made += ["{", '{"id":1}', '{"id":true,"method":"health"}', '{"id":1,"method":5}', '{"id":1,"method":"health"}']
    made += ['"text"', '{"id":1,"method":"block","params":null}', '{"id":-5,"method":"health"} x']
    return [*made, '{"jsonrpc":"1.0","id":1,"method":"health"}']


def questions(found: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Ways to ask, as (path, body)."""
    block = found["blocks"][2]["block_id"]["hash"]
    tx = found["talks"][0]["answer"]["result"]["hash"]
    asked: list[tuple[str, str | None]] = [(path, None) for path in urls(block, tx, len(found["blocks"]))]
    return [
        *asked,
        *(("", body) for body in [*calls(block, tx), *bodies()]),
        ("status", post("health")),
        ("nosuch", "{}"),
    ]


def main() -> None:
    url, path = sys.argv[1:]
    talks, heard = asyncio.run(grow(url))
    found = {**chain(url), "talks": talks}
    asked = [http(url, ask, body) for ask, body in questions(found)]
    lines = [{"chain": {key: value for key, value in found.items() if key != "talks"}}]
    lines += [{"talk": talk} for talk in talks]
    lines += [{"heard": message} for message in heard]
    lines += [{"asked": question} for question in asked]
    Path(path).write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


if __name__ == "__main__":
    main()
