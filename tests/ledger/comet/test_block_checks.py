"""The recorded chain, block after block, as a node checks it; and each way in which a block is not the next one."""

from base64 import b64decode

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.block_checks import ChainState, check_follows
from quorate.ledger.comet.block_ids import NIL
from quorate.ledger.comet.blocks import BLOCK, Block, BlockData
from quorate.ledger.comet.commits import ABSENT, Commit, CommitSig
from quorate.ledger.comet.evidence import EvidenceList
from quorate.ledger.comet.headers import ConsensusVersion
from quorate.ledger.comet.results import last_results_hash
from quorate.ledger.comet.times import Timestamp

from tests.ledger.comet import chain, making


def state_before(at: int) -> ChainState:
    """Where the recorded chain stood when this height began."""
    params, before = chain.params(), chain.height(at - 1) if at > 1 else None
    assert params.block is not None
    assert params.evidence is not None
    now = chain.height(at)
    return ChainState(
        chain_id=chain.chain_id(),
        initial_height=1,
        version=ConsensusVersion(11, 1),
        last_height=at - 1,
        last_block_id=before.block_id if before else NIL,
        last_time=before.block.header.time if before else Timestamp.of_text(chain.genesis()["genesis_time"]),
        last_validators=before.validator_set if before else None,
        validators=now.validator_set,
        next_validators=chain.height(min(at + 1, chain.HEIGHTS)).validator_set,
        block_params=params.block,
        evidence_params=params.evidence,
        app_hash=b64decode(before.raw["block_results"]["app_hash"]) if before else bytes(8),
        last_results_hash=last_results_hash(before.results if before else ()),
    )


@pytest.mark.parametrize("at", range(1, chain.HEIGHTS + 1))
def test_each_block_follows_on_the_one_before(at: int) -> None:
    check_follows(chain.height(at).block, state_before(at))


@pytest.mark.parametrize("at", range(2, chain.HEIGHTS + 1))
def test_no_block_follows_on_another(at: int) -> None:
    with pytest.raises(ValueError, match=f"block: height {at - 1}, not {at}"):
        check_follows(chain.height(at - 1).block, state_before(at))


AT = 21  # evidence, an absent validator; the commit of height 20
STATE, GOOD = state_before(AT), chain.height(AT).block
HASH = making.HASH


def with_header(**changes: object) -> Block:
    return replace(GOOD, header=replace(GOOD.header, **changes))


def with_commit(**changes: object) -> Block:
    """The header has the hash of the commit: what is wrong with it is seen by itself."""
    assert GOOD.last_commit is not None
    commit = replace(GOOD.last_commit, **changes)
    return replace(GOOD, last_commit=commit, header=replace(GOOD.header, last_commit_hash=commit.hash()))


def forged(commit: Commit) -> tuple[CommitSig, ...]:
    return (replace(commit.signatures[0], signature=bytes(64)), *commit.signatures[1:])


assert GOOD.last_commit is not None
REFUSED: list[tuple[Block, str]] = [
    (with_header(version=ConsensusVersion(11, 2)), "version 11, 2"),
    (with_header(chain_id="other"), "of chain 'other'"),
    (with_header(height=22), "height 22, not 21"),
    (with_header(last_block_id=NIL), "follows on another block"),
    (with_header(app_hash=b"forged"), "app_hash 666f72676564, not "),
    (with_header(consensus_hash=HASH), "consensus_hash 0001"),
    (with_header(last_results_hash=HASH), "last_results_hash 0001"),
    (with_header(validators_hash=HASH), "validators_hash 0001"),
    (with_header(next_validators_hash=HASH), "next_validators_hash 0001"),
    (with_header(proposer_address=bytes(20)), "its proposer 0000.* is not a validator"),
    (with_header(time=STATE.last_time), "time goes back"),
    (with_header(time=GOOD.header.time.plus_ns(1)), "not the median of its votes"),
    (with_header(last_commit_hash=HASH), "another last_commit_hash"),
    (replace(GOOD, data=BlockData((b"x",))), "another data_hash"),
    (replace(GOOD, evidence=EvidenceList()), "another evidence_hash"),
    (replace(GOOD, last_commit=None), "no commit of the block before"),
    (with_commit(signatures=forged(GOOD.last_commit)), "entry 0, is wrong"),
    (with_commit(signatures=GOOD.last_commit.signatures[:-1]), "4 entries for 5 validators"),
    (with_commit(round=GOOD.last_commit.round + 1), "is wrong"),
    (with_commit(height=19), "of height 19, not 20"),
]


@pytest.mark.parametrize(("block", "says"), REFUSED)
def test_blocks_that_do_not_follow(block: Block, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_follows(block, STATE)


def test_a_commit_by_too_few() -> None:
    """Without the first validator, 9 of 21."""
    with pytest.raises(ValueError, match="a power of 9 signed for the block, of 21: it takes more than 2/3"):
        check_follows(with_commit(signatures=(CommitSig(ABSENT), *chain.commit(AT - 1).signatures[1:])), STATE)


def test_evidence_is_bounded() -> None:
    params = replace(STATE.evidence_params, max_bytes=100)
    with pytest.raises(ValueError, match="bytes of evidence, at most 100"):
        check_follows(GOOD, replace(STATE, evidence_params=params))


def test_the_first_block() -> None:
    first, state = chain.height(1).block, state_before(1)
    with pytest.raises(ValueError, match="height 1, not 5"):
        check_follows(first, replace(state, initial_height=5))
    with pytest.raises(ValueError, match="the time of the genesis"):
        check_follows(first, replace(state, last_time=state.last_time.plus_ns(1)))
    commit = chain.commit(1)
    second = replace(first, last_commit=commit, header=replace(first.header, last_commit_hash=commit.hash()))
    with pytest.raises(ValueError, match="with a commit of one before"):
        check_follows(second, state)


@pytest.mark.parametrize("at", [13, 20, 33])
def test_no_bit_of_a_block_can_be_flipped(at: int) -> None:
    """Whatever the bit: it is not a block, or not the one that is voted for, or not the next one."""
    height, state = chain.height(at), state_before(at)
    data = BLOCK.encode(height.block)
    step = max(1, len(data) * 8 // 2500) | 1
    for bit in range(0, len(data) * 8, step):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = BLOCK.decode_exact(bytes(flipped))
            check_follows(found, state)
        except ValueError:
            continue
        assert found.header.hash() != height.block_id.hash, bit
