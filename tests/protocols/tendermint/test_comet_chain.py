"""What nodes decide is a CometBFT chain: with Ed25519 keys, its blocks, commits and light blocks are checked as any."""

from functools import cache
from hashlib import sha256

import pytest
from msgspec.structs import replace

from quorate.kernel import Env
from quorate.ledger.comet.block_ids import BlockID
from quorate.ledger.comet.blocks import Block
from quorate.ledger.comet.commits import COMMIT, FOR_BLOCK, Commit
from quorate.ledger.comet.light_blocks import LIGHT_BLOCK, LightBlock, SignedHeader
from quorate.ledger.comet.light_client import TrustOptions, bisection, verify_light_block
from quorate.ledger.comet.times import NS_PER_S, Timestamp
from quorate.ledger.comet.verification import verify_commit
from quorate.parts import requests
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.tendermint.named_blocks import decode_block
from quorate.runtime.keys import Ed25519

from tests.protocols.cluster import Cluster

CHAIN_ID = "the-chain"
GENESIS_S = 1_790_000_000
SCHEME = Ed25519(range(1, 5), CHAIN_ID)
NOW = Timestamp(GENESIS_S + 3600)
OPTIONS = TrustOptions(7 * 24 * 3600 * NS_PER_S)
POWERS = (10, 5, 3, 1)


def make(env: Env) -> Tendermint:
    return Tendermint(env, TendermintConfig(powers=POWERS, genesis_s=GENESIS_S), keys=SCHEME.keys(env.id))


@cache
def decided(heights: int = 12) -> list[tuple[Block, Commit]]:
    """Of one node, while another is down now and then."""
    cluster = Cluster(make, 4, seed=3, delay_s=(0.001, 0.01), keyring=SCHEME.keyring())
    for height in range(1, heights + 1):
        down = 4 if height % 3 == 0 else 0
        cluster.loses = lambda flight, down=down: down in (flight.sender, flight.to)
        for node in cluster.peers:
            cluster.submit(node, *[requests.sign(SCHEME.client(0), [b"%d %d" % (height, i)]) for i in range(3)])
        assert cluster.run(20.0, lambda height=height: cluster[1].core.signed.height > height)
    return [(decode_block(d.block).block, COMMIT.decode(d.commit)) for d in cluster[1].core.log.decisions]


@cache
def light(height: int) -> LightBlock:
    """The validators are counted anew."""
    committee = Committee(range(1, 5), POWERS, SCHEME.keyring())
    for _ in range(1, height):
        committee.advance()
    block, commit = decided()[height - 1]
    return LightBlock(SignedHeader(block.header, commit), committee.validators)


HEIGHTS = range(1, 13)


def test_there_are_blocks_to_look_at() -> None:
    assert len(decided()) >= len(HEIGHTS)
    assert {len(block.data.txs) for block, _ in decided()} >= {3}
    present = {sum(sig.block_id_flag == FOR_BLOCK for sig in commit.signatures) for _, commit in decided()}
    assert present <= {1, 2, 3, 4}
    assert len({block.header.proposer_address for block, _ in decided()}) > 1


@pytest.mark.parametrize("height", HEIGHTS)
def test_a_commit_decides_its_block(height: int) -> None:
    block, commit = decided()[height - 1]
    validators = light(height).validator_set
    assert block.header.validators_hash == validators.hash()
    verify_commit(CHAIN_ID, validators, commit.block_id, height, commit)
    assert commit.block_id.hash == block.header.hash()
    assert LIGHT_BLOCK.decode_exact(LIGHT_BLOCK.encode(light(height))) == light(height)


@pytest.mark.parametrize("height", HEIGHTS[1:])
def test_a_block_follows_on_the_one_before(height: int) -> None:
    (before, _), (block, _) = decided()[height - 2 : height]
    header, last = block.header, block.last_commit
    assert last is not None
    assert (header.last_block_id, header.last_block_id.hash) == (last.block_id, before.header.hash())
    assert header.time > before.header.time
    assert header.validators_hash == before.header.next_validators_hash
    assert header.app_hash == sha256(before.header.app_hash + before.header.data_hash).digest()
    verify_commit(CHAIN_ID, light(height - 1).validator_set, last.block_id, height - 1, last)


def test_the_first_block_has_the_time_of_the_genesis() -> None:
    header = decided()[0][0].header
    assert (header.time, header.chain_id, header.height) == (Timestamp(GENESIS_S), CHAIN_ID, 1)
    assert header.last_block_id == BlockID()


def test_a_light_client_follows_from_the_first_block() -> None:
    for height in HEIGHTS[1:]:
        verify_light_block(light(height - 1), light(height), OPTIONS, NOW)
    asked = bisection(light(1), light(HEIGHTS[-1]), OPTIONS, NOW)
    with pytest.raises(StopIteration) as end:
        next(asked)
    assert end.value.value == [light(HEIGHTS[-1])]


def forged(height: int, what: str) -> LightBlock:
    """As somebody would show it who has no key."""
    true = light(height)
    header, commit, validators = true.header, true.commit, true.validator_set
    if what == "signature":
        at = next(i for i, sig in enumerate(commit.signatures) if sig.block_id_flag == FOR_BLOCK)
        signatures = list(commit.signatures)
        signatures[at] = replace(signatures[at], signature=bytes(64))
        commit = replace(commit, signatures=tuple(signatures))
    elif what == "time":
        signatures = [replace(sig, timestamp=sig.timestamp.plus_ns(1)) for sig in commit.signatures]
        commit = replace(commit, signatures=tuple(signatures))
    elif what == "validators":
        fewer = [replace(v, voting_power=1) for v in validators.validators]
        validators = replace(validators, validators=tuple(fewer))
        header = replace(header, validators_hash=validators.hash())
    else:
        header = replace(header, app_hash=bytes(32))
    if header != true.header:
        commit = replace(commit, block_id=replace(commit.block_id, hash=header.hash()))
    return LightBlock(SignedHeader(header, commit), validators)


@pytest.mark.parametrize("what", ["signature", "time", "validators", "app hash"])
def test_a_light_client_refuses_what_is_forged(what: str) -> None:
    with pytest.raises(ValueError, match=r"signature|validators"):
        verify_light_block(light(4), forged(5, what), OPTIONS, NOW)
    with pytest.raises(ValueError, match=r"signature|validators|power"):
        verify_light_block(light(2), forged(5, what), OPTIONS, NOW)
