"""How nodes lie in Tendermint, beside what any node may do; and how they sign it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from quorate.kernel import Send
from quorate.ledger.comet.block_ids import BlockID, PartSetHeader
from quorate.ledger.comet.blocks import BLOCK, Block, BlockData
from quorate.ledger.comet.commits import COMMIT, NO_SIG
from quorate.ledger.comet.evidence import DuplicateVoteEvidence, EvidenceList, duplicate_votes
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.votes import PREVOTE, Vote
from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.blockchain import chain_id_of
from quorate.protocols.tendermint.commits import prevotes_of
from quorate.protocols.tendermint.effects import SignedVote, Step
from quorate.protocols.tendermint.messages import ExtendedPrecommit, Prevote, Proposal, step_of
from quorate.protocols.tendermint.named_blocks import decode_block
from quorate.protocols.tendermint.signed_bytes import extension_bytes, proposal_bytes, vote_bytes
from quorate.sim.adversary.liar import Liar, Means


def resign_tendermint(keys: Keys | None, m: Any) -> Any:
    """A vote or a proposal with this node's signature of what it says now; the rest carries none of its own."""
    assert keys is not None
    chain_id = chain_id_of(keys.cluster)
    try:
        if isinstance(m, Prevote):
            data = vote_bytes(chain_id, step_of(m), m.height, m.round, m.value, m.time_ns)
            signed = replace(m, node=keys.node, signature=keys.sign_canonical(data))
            if isinstance(signed, ExtendedPrecommit):
                data = extension_bytes(chain_id, m.height, m.round, signed.extension)
                signed = replace(signed, extension_signature=keys.sign_canonical(data))
            return signed
        if isinstance(m, Proposal):
            name = decode_block(m.block).name
            data = proposal_bytes(chain_id, m.height, m.round, name, m.valid_round, m.time_ns)
            return replace(m, signature=keys.sign_canonical(data))
    except ValueError:
        pass  # what it says has no form that could be signed
    return m


def proposing(m: Proposal, block: Block, **changes: Any) -> Proposal:
    """The proposal of another block, whose header has the hashes of what is in it; not signed yet."""
    header = replace(block.header, data_hash=block.data.hash(), evidence_hash=block.evidence.hash(), **changes)
    return replace(m, block=BLOCK.encode(replace(block, header=header)))


class MakesUpRequests(Liar):
    """As a proposer it proposes what no client has asked for."""

    name = "inventing"
    summary = "proposes requests that no client signed"

    def tell(self, send: Send) -> Iterable[Send]:
        """The same invented batch to all."""
        m = send.message
        if isinstance(m, Proposal) and self.means.chance(0.5):
            self.means.count(self.name)
            block = BLOCK.decode(m.block)
            txs = tuple([tx[:-1] + bytes([tx[-1] ^ 1]) for tx in block.data.txs])
            m = replace(proposing(m, replace(block, data=BlockData(txs))), valid_round=-1, proof=None)
            send = Send(send.to, send.path, self.means.resign(m))
        return (send,)


class Forging(Liar):
    """As a proposer it proposes a block that does not follow on the chain, or blames somebody for nothing."""

    name = "forging"
    summary = "proposes blocks with a wrong header, commit or evidence"

    def tell(self, send: Send) -> Iterable[Send]:
        """The same to all."""
        m, means = send.message, self.means
        if not isinstance(m, Proposal) or not means.chance(0.4):
            return (send,)
        means.count(self.name)
        lie = replace(self._forged(m, BLOCK.decode(m.block)), valid_round=-1, proof=None)
        return (Send(send.to, send.path, means.resign(lie)),)

    def _forged(self, m: Proposal, block: Block) -> Proposal:
        means, header = self.means, block.header
        kind = means.rng.getrandbits(3)
        if kind == 0:
            return proposing(m, block, time=header.time.plus_ns((1 - 2 * means.rng.getrandbits(1)) * 1_000_000))
        if kind == 1:
            return proposing(m, block, app_hash=bytes(32))
        if kind == 2:
            return proposing(m, block, next_validators_hash=header.data_hash)
        if kind == 3 and block.last_commit is not None and block.last_commit.signatures:
            commit = replace(block.last_commit, signatures=(NO_SIG,) * len(block.last_commit.signatures))
            return proposing(m, replace(block, last_commit=commit), last_commit_hash=commit.hash())
        if kind <= 5:
            return proposing(m, replace(block, evidence=EvidenceList(tuple(self._made_up(m, block)))))
        return proposing(m, block, last_block_id=BlockID(header.data_hash, header.last_block_id.part_set_header))

    def _made_up(self, m: Proposal, block: Block) -> Iterator[DuplicateVoteEvidence]:
        """Two votes of another validator, which it did not sign."""
        core = self.means.core
        validators = core.committee.validators.validators
        victim = self.means.pick(validators)
        height = max(1, block.header.height - 1)
        blocks = BlockID(bytes(32), PartSetHeader(1, bytes(32))), BlockID(b"1" * 32, PartSetHeader(1, bytes(32)))
        at = Timestamp.of_ns(m.time_ns)
        one, other = [Vote(PREVOTE, height, 0, block_id, at, victim.address, 0, bytes(64)) for block_id in blocks]
        yield duplicate_votes(one, other, validators, core.chain.state.last_time)


class Backdating(Liar):
    """Votes for blocks at a time before theirs, so that no block could follow on a commit with its vote."""

    name = "backdating"
    summary = "says of its votes that they are older than their blocks"

    def tell(self, send: Send) -> Iterable[Send]:
        """Votes of long ago."""
        m, means = send.message, self.means
        if isinstance(m, Prevote) and means.chance(0.5):
            means.count(self.name)
            send = Send(send.to, send.path, means.resign(replace(m, time_ns=means.rng.getrandbits(20))))
        return (send,)


class Splitting(Liar):
    """Votes for a value at some nodes and for nil at the others, so that few see a quorum, and others none."""

    name = "splitting"
    summary = "shows some nodes its vote for a value, and others one for nil"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.2, 1.0)

    def tell(self, send: Send) -> Iterable[Send]:
        """Two votes of one round, each for a part of the nodes."""
        m, means = send.message, self.means
        if not isinstance(m, Prevote) or m.value is None or not means.chance(self.rate):
            return (send,)
        means.count(self.name)
        nil = means.some(means.others)
        rest = tuple(node for node in send.to if node not in nil)
        other = Send(nil, send.path, means.resign(replace(m, value=None)))
        return (Send(rest, send.path, m), other) if rest else (other,)


class TellsFew(Liar):
    """As a proposer it tells few nodes of its proposal, and votes as if all knew it."""

    name = "withholding"
    summary = "sends its proposals to a few nodes"

    def tell(self, send: Send) -> Iterable[Send]:
        """Proposals to some."""
        means = self.means
        if not isinstance(send.message, Proposal) or not means.chance(0.7):
            return (send,)
        means.count(self.name)
        return (Send(means.some(means.others), send.path, send.message),)


class ShowsFalseProofs(Liar):
    """As a proposer of a later round it says that a quorum prevoted what it proposes, and shows what is no proof."""

    name = "false-proofs"
    summary = "proposes a block as prevoted before, with a proof that it made up"

    def tell(self, send: Send) -> Iterable[Send]:
        """Another block than it should, to be taken in spite of a lock."""
        m, means = send.message, self.means
        if not isinstance(m, Proposal) or m.round == 0 or not means.chance(0.7):
            return (send,)
        assert means.keys is not None
        block, core = BLOCK.decode(m.block), means.core
        waiting = core.app.pending.next_batch()
        txs = tuple(reversed(block.data.txs)) if len(block.data.txs) > 1 else waiting or block.data.txs
        m = proposing(m, replace(block, data=BlockData(txs)))
        name = decode_block(m.block).name
        time_ns = block.header.time.ns() + 1_000_000
        data = vote_bytes(core.chain.id, Step.PREVOTE, m.height, m.round - 1, name, time_ns)
        signature = means.keys.sign_canonical(data)
        nodes = (means.node, *means.others) if means.chance(0.5) else (means.node,)
        votes = [SignedVote(node, Step.PREVOTE, m.round - 1, name, signature, time_ns) for node in nodes]
        proof = COMMIT.encode(prevotes_of(core.committee, m.height, m.round - 1, name, votes))
        means.count(self.name)
        return (Send(send.to, send.path, means.resign(replace(m, valid_round=m.round - 1, proof=proof))),)


class Hurrying(Liar):
    """Votes in rounds that nobody is in, near ones and some that are very far ahead."""

    name = "hurrying"
    summary = "votes in rounds to come"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.1, 0.8)

    def tell(self, send: Send) -> Iterable[Send]:
        """Its vote, and the same in a later round."""
        m, means = send.message, self.means
        yield send
        if isinstance(m, Prevote) and means.chance(self.rate):
            means.count(self.name)
            further = 1 + means.rng.getrandbits(4) if means.chance(0.7) else means.rng.getrandbits(15)
            yield Send(means.some(means.others), send.path, means.resign(replace(m, round=m.round + further)))


LIARS = (MakesUpRequests, Forging, Backdating, Splitting, TellsFew, Hurrying, ShowsFalseProofs)
