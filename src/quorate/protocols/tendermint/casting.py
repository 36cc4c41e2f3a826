"""Casting: this node's votes, and the lock that stands behind a precommit."""

from __future__ import annotations

from quorate.kernel import Env
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.current_height import CurrentHeight
from quorate.protocols.tendermint.effects import KeepValid, Lock, SendVote
from quorate.protocols.tendermint.lock_state import LockState
from quorate.protocols.tendermint.messages import Locked, Prevote, Valid
from quorate.protocols.tendermint.signing import SignState


class Casting:
    """As the rules ask for."""

    def __init__(self, env: Env, current: CurrentHeight, chain: Chain, signed: SignState, locks: LockState) -> None:
        self._env = env
        self._current = current
        self._chain = chain
        self._signed = signed
        self._locks = locks

    def on_send_vote(self, effect: SendVote) -> None:
        """To all, unless it would contradict one that was signed before."""
        vote = self._signed_vote(effect)
        if vote is not None:
            self._env.broadcast(vote)

    def _signed_vote(self, effect: SendVote) -> Prevote | None:
        """Of a validator; the others look on."""
        if not self._chain.committee.has(self._env.id):
            return None
        block = None if effect.value is None else self._current.open.block_of(effect.value).block
        time_ns = self._chain.vote_ns(self._env.wall_ns, block)
        return self._signed.vote(effect.step, effect.round, effect.value, time_ns)

    def on_lock(self, effect: Lock) -> None:
        """Before the precommit that stands for it, in the same Turn."""
        self._locks.lock_on(Locked(*self._shown(effect)))

    def on_keep_valid(self, effect: KeepValid) -> None:
        """It may be the lock already."""
        valid = self._locks.valid
        if valid is None or valid.round != effect.round:
            self._locks.keep(Valid(*self._shown(effect)))

    def _shown(self, effect: Lock | KeepValid) -> tuple[int, int, bytes, bytes]:
        """Height, round, block, and the prevotes of a quorum for it."""
        height = self._current.open
        block = height.block_of(effect.value)
        return height.number, effect.round, block.data, height.proof_of(effect.round, effect.value)
