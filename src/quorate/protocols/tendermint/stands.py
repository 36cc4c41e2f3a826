"""Where the chain stood after the heights that the log has, and how a node that was not there tells whether it is so.

What a header says of the app is in the next one. So the hash of the app after height H, and the validators of H + 1 and
H + 2, are proven by header H + 1 and the commit that decided it, as a light client verifies them. Headers do not say
everything: whose turn it is to propose, evidence parameters, the number of transactions. Of those, ``stand_digest`` has
the word of nodes (``candidates.py``).

Source: CometBFT 0.38, ``statesync/stateprovider.go``, ``spec/light-client/verification``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from quorate.ledger.comet.block_checks import ChainState
from quorate.ledger.comet.commits import COMMIT, Commit, block_time
from quorate.ledger.comet.headers import HEADER, Header
from quorate.ledger.comet.light_client import TRUST_LEVEL_MIN
from quorate.ledger.comet.param_updates import ChainParams, updated_params
from quorate.ledger.comet.params import CONSENSUS_PARAMS, consensus_hash
from quorate.ledger.comet.verification import verify_commit, verify_commit_trusting
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.named_blocks import name_of_id
from quorate.protocols.tendermint.sync_messages import Stand, StandProof, stand_digest

RECENT_MAX: Final = 1024
MARK_HEIGHTS: Final = 256
"""Heights of which all is kept. An app that lists a snapshot later than that is not heard."""


class KeptStand(NamedTuple):
    """With the commit that this node has of its block."""

    stand: Stand
    commit: bytes


class Stands:
    """``add`` is called at each height; after a restart at those of the log again. Of each height that
    ``mark_heights`` divides all is kept: the log may begin there."""

    def __init__(self, mark_heights: int = MARK_HEIGHTS) -> None:
        self._mark_heights = mark_heights
        self._kept: dict[int, KeptStand] = {}
        self._digests: dict[int, bytes] = {}

    def add(self, kept: KeptStand, still: Iterable[int]) -> None:
        """The newest one. ``still``: heights that are kept, however old."""
        height = kept.stand.point.height
        self._kept[height] = kept
        self._digests[height] = stand_digest(kept.stand)
        old = height - RECENT_MAX
        if old in self._kept and old not in still and not self._is_mark(old):
            del self._kept[old]

    def _is_mark(self, height: int) -> bool:
        return height % self._mark_heights == 0

    def only(self, still: Iterable[int]) -> None:
        """Of old heights, keep these."""
        recent, wanted = max(self._kept, default=0) - RECENT_MAX, set(still)
        self._kept = {
            height: kept
            for height, kept in self._kept.items()
            if height > recent or height in wanted or self._is_mark(height)
        }

    def drop(self, base: int) -> None:
        """Those before this height."""
        self._digests = {height: digest for height, digest in self._digests.items() if height >= base}
        self._kept = {height: kept for height, kept in self._kept.items() if height >= base}

    def mark_below(self, height: int) -> KeptStand | None:
        """The last mark that is not above this height."""
        return self._kept.get(height - height % self._mark_heights)

    def at(self, height: int) -> KeptStand | None:
        """None: it is not here."""
        return self._kept.get(height)

    def digest(self, height: int) -> bytes | None:
        """None: it is not known here."""
        return self._digests.get(height)


def stand_of(chain: Chain, index: int, header: Header) -> Stand:
    """Where the chain is now, after the block with this header."""
    return Stand(chain.point(), CONSENSUS_PARAMS.encode(chain.params.whole()), index, HEADER.encode(header))


def params_of(stand: Stand, chain: Chain) -> ChainParams:
    """Raises ValueError for parameters that no chain may have."""
    return updated_params(chain.params, CONSENSUS_PARAMS.decode_exact(stand.params))


def stand_on(chain: Chain, kept: KeptStand) -> None:
    """The chain stands there."""
    params = params_of(kept.stand, chain)
    chain.stand_on(kept.stand.point, COMMIT.decode(kept.commit))
    chain.hold_by(params)


def check_stand(chain: Chain, stand: Stand, proof: StandProof) -> None:
    """Raises ValueError unless the chain was decided to stand there.

    ``chain`` is this node's, which may have come less far: its validators vouch for those of the height, if more than a
    third of their power signed, so a correct one among them. The new header must have more than two thirds of its own.
    """
    header, following = HEADER.decode_exact(stand.header), HEADER.decode_exact(proof.following)
    commit, following_commit = COMMIT.decode_exact(proof.commit), COMMIT.decode_exact(proof.following_commit)
    _check_headers(chain.state, stand, header, following)
    _check_params(params_of(stand, chain), following)
    point = stand.point
    try:
        last, now, after = (chain.committee.comet_set(at) for at in (point.last, point.now, point.after))
    except KeyError:
        raise ValueError("a validator who is none of the nodes") from None
    if not header.validators_hash == last.hash() or header.next_validators_hash != now.hash():
        raise ValueError("other validators than those of its header")
    if following.validators_hash != now.hash() or following.next_validators_hash != after.hash():
        raise ValueError("other validators than those of the next header")
    if following_commit.block_id.hash != following.hash():
        raise ValueError("the commit is for another header")
    _check_commit(chain, following_commit, following.height)
    verify_commit(chain.id, now, following_commit.block_id, following.height, following_commit, chain.verify)
    verify_commit(chain.id, last, following.last_block_id, header.height, commit, chain.verify)
    if block_time(commit, last.by_address()) <= header.time:
        raise ValueError("its commit is not later than its block")


def _check_headers(state: ChainState, stand: Stand, header: Header, following: Header) -> None:
    point = stand.point
    if {header.chain_id, following.chain_id} != {state.chain_id}:
        raise ValueError("headers of another chain")
    if not point.height == header.height == following.height - 1:
        raise ValueError("headers of other heights")
    if following.last_block_id.hash != header.hash() or point.block != name_of_id(following.last_block_id):
        raise ValueError("a header that does not follow on its own")
    said = (point.time_ns, point.app_hash, point.results_hash)
    if said != (header.time.ns(), following.app_hash, following.last_results_hash):
        raise ValueError("the headers say otherwise")


def _check_params(params: ChainParams, following: Header) -> None:
    if consensus_hash(params.block) != following.consensus_hash or params.version.app != following.version.app:
        raise ValueError("other parameters than those of the next header")


def _check_commit(chain: Chain, commit: Commit, height: int) -> None:
    """Whether those that this node knows vouch for it."""
    if commit.height != height:
        raise ValueError("the commit is of another height")
    verify_commit_trusting(chain.id, chain.committee.validators, commit, TRUST_LEVEL_MIN, chain.verify)
