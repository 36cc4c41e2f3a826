"""A chain that CometBFT 0.38.26 made: we compute each of its hashes, times, sign bytes and proofs, and each byte of it.

It has four validators of unequal power, a fifth one that comes, never votes and goes, a proposer that was passed over,
votes for nil, two pieces of evidence, and a block of two parts.
"""

from base64 import b64decode

import pytest

from quorate.ledger.comet.block_ids import NIL
from quorate.ledger.comet.blocks import BLOCK, tx_proofs, tx_refusal
from quorate.ledger.comet.commits import ABSENT, COMMIT, FOR_NIL, block_time
from quorate.ledger.comet.evidence import DuplicateVoteEvidence, evidence_root
from quorate.ledger.comet.headers import HEADER
from quorate.ledger.comet.json_shapes import of_json, to_json
from quorate.ledger.comet.light_blocks import LIGHT_BLOCK
from quorate.ledger.comet.params import CONSENSUS_PARAMS, consensus_hash
from quorate.ledger.comet.part_sets import MERKLE_PROOF, PART, PART_BYTES, PartSet, block_id_of, split
from quorate.ledger.comet.results import EXEC_TX_RESULT, last_results_hash
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.validators import VALIDATOR, validators_hash
from quorate.ledger.comet.votes import VOTE, vote_sign_bytes

from tests.ledger.comet import chain


def test_the_recording_has_what_this_file_says() -> None:
    heights = chain.heights()
    flags = [{sig.block_id_flag for sig in chain.commit(at).signatures} for at in range(1, chain.HEIGHTS + 1)]
    assert any(ABSENT in found for found in flags)
    assert any(FOR_NIL in found for found in flags)
    assert any(chain.commit(at).round == 1 for at in range(1, chain.HEIGHTS + 1))
    assert sum(len(height.block.evidence.evidence) for height in heights) == 2
    assert [height.block_id.part_set_header.total for height in heights].count(2) == 1
    assert {len(height.validators) for height in heights} == {4, 5}
    assert sum(len(height.block.data.txs) for height in heights) > 100


@pytest.mark.parametrize("at", range(1, chain.HEIGHTS + 1))
def test_hashes_of_a_block(at: int) -> None:
    block_id, block, validators, _, _ = chain.height(at)
    header = block.header
    assert header.hash() == block_id.hash
    assert block_id_of(block) == block_id
    assert block.data.hash() == header.data_hash
    assert block.evidence.hash() == header.evidence_hash
    assert block.last_commit is not None
    assert block.last_commit.hash() == header.last_commit_hash
    keys = [(validator.pub_key.ed25519, validator.voting_power) for validator in validators]
    assert validators_hash(keys) == header.validators_hash == chain.height(at).validator_set.hash()
    params = chain.params().block
    assert params is not None
    assert consensus_hash(params) == header.consensus_hash


@pytest.mark.parametrize("at", range(2, chain.HEIGHTS + 1))
def test_a_block_follows_from_the_one_before(at: int) -> None:
    before, header, last_commit = chain.height(at - 1), chain.height(at).block.header, chain.commit(at - 1)
    assert header.last_block_id == before.block_id == last_commit.block_id
    assert header.validators_hash == before.block.header.next_validators_hash
    assert header.app_hash == b64decode(before.raw["block_results"]["app_hash"])
    assert header.last_results_hash == last_results_hash(before.results)
    assert header.time == block_time(last_commit, before.by_address) > before.block.header.time


def test_the_first_block_has_the_time_of_the_genesis() -> None:
    assert chain.height(1).block.header.time == Timestamp.of_text(chain.genesis()["genesis_time"])


@pytest.mark.parametrize("at", range(1, chain.HEIGHTS + 1))
def test_structures_are_decoded_and_encoded_byte_for_byte(at: int) -> None:
    """The block's bytes are those of CometBFT: the root of its parts says so."""
    height = chain.height(at)
    data = BLOCK.encode(height.block)
    header, parts = split(data)
    assert header == height.block_id.part_set_header
    assert BLOCK.decode_exact(data) == height.block
    gathered = PartSet(header)
    for part in reversed(parts):
        assert gathered.joined() is None
        assert gathered.add(PART.decode_exact(PART.encode(part)))
    assert gathered.joined() == data
    assert HEADER.decode_exact(HEADER.encode(height.block.header)) == height.block.header
    assert COMMIT.decode_exact(COMMIT.encode(chain.commit(at))) == chain.commit(at)
    light = chain.light_block(at)
    assert LIGHT_BLOCK.decode_exact(LIGHT_BLOCK.encode(light)) == light
    for result in height.results:
        assert EXEC_TX_RESULT.decode_exact(EXEC_TX_RESULT.encode(result)) == result


@pytest.mark.parametrize("at", range(1, chain.HEIGHTS + 1))
def test_json_is_read_and_written_as_cometbft_has_it(at: int) -> None:
    _, block, validators, results, raw = chain.height(at)
    assert to_json(BLOCK, block) == raw["block"]["block"]
    assert [to_json(VALIDATOR, validator) for validator in validators] == raw["validators"]["validators"]
    assert [to_json(EXEC_TX_RESULT, result) for result in results] == (raw["block_results"]["txs_results"] or [])
    assert to_json(CONSENSUS_PARAMS, chain.params()) == chain.genesis()["consensus_params"]


@pytest.mark.parametrize("at", range(1, chain.HEIGHTS + 1))
def test_proofs_of_transactions(at: int) -> None:
    block, proofs = chain.height(at).block, chain.height(at).raw["proofs"]
    root, ours = tx_proofs(block.data.txs)
    assert root == block.header.data_hash
    for recorded in proofs:
        proof = of_json(MERKLE_PROOF, recorded["proof"])
        tx = block.data.txs[recorded["index"]]
        assert tx_refusal(proof, block.header.data_hash, tx) is None
        assert proof == ours[recorded["index"]]
        assert MERKLE_PROOF.decode_exact(MERKLE_PROOF.encode(proof)) == proof
        assert tx_refusal(proof, block.header.data_hash, tx + b"x") == "the proof is of another leaf"


def test_votes_of_a_commit() -> None:
    """A vote for nil names no block; the sign bytes are told apart by all that is in them."""
    found = {}
    for at in range(1, chain.HEIGHTS + 1):
        commit = chain.commit(at)
        for i, signature in enumerate(commit.signatures):
            if signature.block_id_flag != ABSENT:
                vote = commit.vote(i)
                assert (vote.block_id == NIL) == (signature.block_id_flag == FOR_NIL)
                assert VOTE.decode_exact(VOTE.encode(vote)) == vote
                found[commit.sign_bytes(chain.chain_id(), i)] = vote
    assert len(found) == len({(vote.block_id, vote.timestamp) for vote in found.values()})


def test_evidence_is_two_prevotes_in_order() -> None:
    pieces = [piece for height in chain.heights() for piece in height.block.evidence.evidence]
    for piece in pieces:
        assert isinstance(piece, DuplicateVoteEvidence)
        assert piece.vote_a.block_id.is_nil
        assert not piece.vote_b.block_id.is_nil
        assert piece.time == chain.height(piece.height).block.header.time
        assert piece.validator_power == 5
        first, second = (vote_sign_bytes(chain.chain_id(), vote) for vote in (piece.vote_a, piece.vote_b))
        assert first != second
    assert evidence_root(pieces[:1]) != evidence_root(pieces[1:])


def test_a_block_of_two_parts() -> None:
    height = next(height for height in chain.heights() if height.block_id.part_set_header.total == 2)
    _, parts = split(BLOCK.encode(height.block))
    assert [len(part.bytes) == PART_BYTES for part in parts] == [True, False]
