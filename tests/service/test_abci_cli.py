"""Against CometBFT's own `abci-cli`, unmodified: it drives our app, and our client drives its kvstore.

Both kvstores are asked the same, and must answer with the same bytes.
"""

import asyncio
import random
from base64 import b64encode
from pathlib import Path

import pytest

from quorate.ledger.comet.abci.contents import (
    CommitInfo,
    Misbehavior,
    MisbehaviorType,
    ValidatorUpdate,
    VoteInfo,
    VotingValidator,
)
from quorate.ledger.comet.abci.frames import FrameBuffer
from quorate.ledger.comet.abci.request_messages import (
    REQUEST,
    Request,
    RequestApplySnapshotChunk,
    RequestCheckTx,
    RequestCommit,
    RequestEcho,
    RequestExtendVote,
    RequestFinalizeBlock,
    RequestFlush,
    RequestInfo,
    RequestInitChain,
    RequestListSnapshots,
    RequestLoadSnapshotChunk,
    RequestOfferSnapshot,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestQuery,
    RequestVerifyVoteExtension,
)
from quorate.ledger.comet.abci.response_messages import ANSWERS, RESPONSE, ResponseCheckTx, ResponseInfo
from quorate.ledger.comet.validators import ValidatorKey
from quorate.ledger.comet.wire_reader import delimited
from quorate.machines.abci.application import ABCIApp
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.runtime.endpoints import Endpoint
from quorate.service.abci.app_client import AppClient

from tests.service.abci_apps import KINDS, client_of, endpoint_of, served
from tests.service.abci_cli import batch, kvstore, needs_abci_cli

pytestmark = [pytest.mark.slow, needs_abci_cli]

COMMANDS = """
echo hello
info
prepare_proposal "abc=123" "x:y" "nonsense"
process_proposal "abc==456"
process_proposal "abc=123"
check_tx "abc"
check_tx "def=567"
finalize_block "abc=123"
commit
info
query "abc"
finalize_block "def=xyz" "ghi=123"
commit
query "def"
query "nothing"
query 0xff
"""
PRINTED = """\
> finalize_block "def=xyz" "ghi=123"
-> code: OK
-> code: OK
-> code: OK
-> data.hex: 0x0600000000000000

> commit
-> code: OK

> query "def"
-> code: OK
-> log: exists
-> height: 0
-> key: def
-> key.hex: 646566
-> value: xyz
-> value.hex: 78797A
"""


@pytest.mark.parametrize("kind", KINDS)
def test_abci_cli_drives_our_kvstore_as_its_own(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(KVStoreApp(), endpoint_of(kind, tmp_path)) as server:
            ours = await batch(server.endpoint, COMMANDS)
        async with kvstore(tmp_path, kind) as endpoint:
            theirs = await batch(endpoint, COMMANDS)
        assert ours == theirs
        assert PRINTED in "\n".join(line.rstrip() for line in ours.splitlines())

    asyncio.run(main())


def test_abci_cli_reads_the_words_of_an_app_that_fails(tmp_path: Path) -> None:
    class Failing(ABCIApp):
        def commit(self, request: RequestCommit) -> None:  # type: ignore[override]
            raise OSError("disk full")

    async def main() -> None:
        async with served(Failing()) as server:
            with pytest.raises(AssertionError, match="Failing: OSError: disk full"):
                await batch(server.endpoint, "commit\n")
            assert "-> data: here" in await batch(server.endpoint, "echo here\n")

    asyncio.run(main())


KEYS = [ValidatorKey(bytes([n]) * 32) for n in range(8)]
PIECES = (b"a", b"bc", b"=", b"=", b":", b"val=", b"val", b"!", b"!!", b"1", b"\xff", b"\0", b" ")


def transaction(chance: random.Random) -> bytes:
    """Of any kind; half are in order."""
    match chance.randrange(6):
        case 0 | 1 | 2:
            return b"%s=%d" % (chance.choice((b"a", b"b", b"\xfe\xff", b"long" * 50)), chance.randrange(99))
        case 3:
            key = b64encode(chance.randbytes(chance.randrange(5)))
            cut = key[: len(key) - chance.choice((0, 0, 1))]
            power = chance.choice((b"1", b"+7", b"-0", b"-1", b"00012", b"1.5", b"", b" 1", b"9" * 19, b"9" * 20))
            return b"val=%s!%s!%s" % (chance.choice((b"", b"ed25519", b"x")), cut, power)
        case _:
            return b"".join(chance.choices(PIECES, k=chance.randrange(6)))


def valid(chance: random.Random, height: int) -> bytes:
    """One that a block may have. A validator is changed at most once a height, and the first one never removed."""
    if chance.random() < 0.7:
        return b"%s=%d" % (chance.choice((b"a", b"b", b"\xfe\xff", b"key %d" % height)), chance.randrange(99))
    key = KEYS[1 + height % 7]
    return b"val=%s!%s!%d" % (chance.choice((b"", b"ed25519")), b64encode(key.ed25519), 1 + chance.randrange(9))


def conversation(seed: int) -> list[Request]:
    """A chain's requests of all kinds. Info and Query come where a block is committed, see the kvstore's departures."""
    chance = random.Random(seed)
    powers = tuple(ValidatorUpdate(key, 10 + n) for n, key in enumerate(KEYS[:3]))
    asked: list[Request] = [RequestInfo("x", 11, 8, "2.0.0"), RequestInitChain(chain_id="c", validators=powers)]
    for height in range(1, 12):
        for _ in range(6):
            asked.append(RequestCheckTx(transaction(chance)))
            asked.append(RequestProcessProposal(tuple(transaction(chance) for _ in range(chance.randrange(3)))))
        asked.append(RequestPrepareProposal(1 << 20, tuple(transaction(chance) for _ in range(9)), height=height))
        asked += [RequestExtendVote(b"h", height), RequestVerifyVoteExtension(height=height, vote_extension=b"e")]
        asked += [RequestListSnapshots(), RequestOfferSnapshot(), RequestLoadSnapshotChunk(3, 1, 0)]
        asked += [RequestApplySnapshotChunk(0, b"c", "s"), RequestEcho("é" * height), RequestFlush()]
        txs = [valid(chance, height)]
        txs += [b"t%d=%d" % (n, height) for n in range(chance.randrange(4))]
        liar = VotingValidator(KEYS[0].address, 10)
        evidence = (Misbehavior(MisbehaviorType.DUPLICATE_VOTE, liar, 1),) if height % 4 == 3 else ()
        commit = CommitInfo(0, (VoteInfo(liar),))
        asked += [RequestFinalizeBlock(tuple(txs), commit, evidence, b"h" * 32, height), RequestCommit()]
        asked += [RequestQuery(key, prove=height % 2 == 0) for key in (b"a", b"b", b"\xfe\xff", b"none", b"", b"t1")]
        asked += [RequestQuery(key.ed25519, "/val", 5) for key in KEYS]
        asked.append(RequestInfo())
    return asked


async def raw_answers(endpoint: Endpoint, asked: list[Request]) -> list[bytes]:
    """What came over one connection, undecoded; the answer to the last flush is left out."""
    if endpoint.path:
        reader, writer = await asyncio.open_unix_connection(endpoint.path)
    else:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    buffer, found = FrameBuffer(), list[bytes]()
    for request in (*asked, RequestFlush()):
        writer.write(delimited(REQUEST.encode(request)))
    while len(found) <= len(asked):
        data = await asyncio.wait_for(reader.read(1 << 16), 20.0)
        assert data, f"hung up on {asked[len(found)]}"
        found += buffer.feed(data)
    writer.close()
    return found[:-1]


def compare(asked: list[Request], theirs: list[bytes]) -> None:
    app = KVStoreApp()
    for request, answer in zip(asked, theirs, strict=True):
        assert RESPONSE.encode(app.answer(request)) == answer, (request, RESPONSE.decode(answer))


@pytest.mark.parametrize("seed", range(6))
def test_both_kvstores_answer_with_the_same_bytes(seed: int, tmp_path: Path) -> None:
    async def main() -> None:
        asked = conversation(seed)
        assert {type(request) for request in asked} == set(ANSWERS)
        async with kvstore(tmp_path) as endpoint:
            theirs = await raw_answers(endpoint, asked)
        compare(asked, theirs)
        async with served(KVStoreApp()) as server:
            assert await raw_answers(server.endpoint, asked) == theirs

    asyncio.run(main())


def test_many_transactions_are_checked_alike(tmp_path: Path) -> None:
    async def main() -> None:
        chance = random.Random(1)
        asked: list[Request] = [RequestCheckTx(transaction(chance)) for _ in range(5000)]
        async with kvstore(tmp_path) as endpoint:
            theirs = await raw_answers(endpoint, asked)
        compare(asked, theirs)
        assert 1000 < sum(answer == theirs[0] for answer in theirs) < 4000

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_our_client_drives_their_kvstore(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        asked = conversation(7)
        async with kvstore(tmp_path, kind) as endpoint, client_of(endpoint) as client:
            theirs = [await client.ask(request, ANSWERS[type(request)]) for request in asked]
            many = [client.ask(RequestCheckTx(b"%d=1" % n), ResponseCheckTx) for n in range(2000)]
            assert {answer.code for answer in await asyncio.gather(*many)} == {0}
            assert not client.failed.done()
        app = KVStoreApp()
        assert [app.answer(request) for request in asked] == theirs

    asyncio.run(main())


def test_their_kvstore_is_killed(tmp_path: Path) -> None:
    """The client says so at once, whether it waits for an answer or not."""

    async def main() -> None:
        async with kvstore(tmp_path) as endpoint:
            client = AppClient(endpoint)
            await client.start()
            await client.ask(RequestInfo(), ResponseInfo)
        assert "start the app again, then the node" in str(await asyncio.wait_for(client.failed, 5.0))

    asyncio.run(main())
