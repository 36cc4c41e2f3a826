"""Extending: vote extensions, from this node's app to its precommits, and from others' precommits to its app.

A precommit for a block waits until the app has said what goes with it (ExtendVote). Both are signed then, and durable
before they leave (``signing.py``). After a crash the rules go on after what was signed, so the app is not asked about
it again; what was not signed has not left the node, so the app may say something else. A round may go by while the app
thinks: the precommit is sent all the same, unless this node has signed something later, for the lock that stands behind
it holds.

Others' precommits wait for the app in ``ExtendedVotes``.

Source: CometBFT 0.38, ``consensus/state.go`` (signVote, addVote), ``state/execution.go`` (ExtendVote,
VerifyVoteExtension). There the app is asked again about a vote that was signed before a crash.
"""

from __future__ import annotations

from quorate.kernel import AppEnded, Env
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.chain_app import ChainApp, Extended, Verified
from quorate.protocols.tendermint.current_height import CurrentHeight
from quorate.protocols.tendermint.effects import SendVote, Step
from quorate.protocols.tendermint.extensions import extension_bytes_max
from quorate.protocols.tendermint.signing import SignState


class Extending:
    """It asks, and acts on the answers. Nothing of it is durable but what ``SignState`` keeps."""

    def __init__(self, env: Env, current: CurrentHeight, chain: Chain, signed: SignState, app: ChainApp) -> None:
        self._env = env
        self._current = current
        self._chain = chain
        self._signed = signed
        self._app = app

    # --- ours ---

    def takes(self, effect: SendVote) -> bool:
        """Whether this vote is sent with an extension: a precommit for a block, at a height that has them."""
        is_for_block = effect.step is Step.PRECOMMIT and effect.value is not None
        return is_for_block and self._chain.extends(self._current.open.number)

    def on_send_vote(self, effect: SendVote) -> None:
        """Ask the app, if this node is a validator."""
        assert effect.value is not None, "it is for a block"
        if self._chain.committee.has(self._env.id):
            self._app.extend(self._current.open.block_of(effect.value), effect.round)

    def extended(self, answer: Extended) -> None:
        """Sign it and send it to all, unless the height is over, or something later was signed."""
        if answer.height != self._current.next:
            return
        size, bytes_max = len(answer.extension), extension_bytes_max(self._chain.committee)
        if size > bytes_max:
            raise AppEnded(
                f"the app's extension of a vote at height {answer.height} has {size} bytes: with so many validators it "
                f"may have {bytes_max}. What to do: mend the app; a digest may do in place of the data"
            )
        block = self._current.open.block_of(answer.value).block
        time_ns = self._chain.vote_ns(self._env.wall_ns, block)
        vote = self._signed.extended(answer.round, answer.value, time_ns, answer.extension)
        if vote is not None:
            self._env.broadcast(vote)

    # --- of others ---

    def ask(self) -> None:
        """The app about precommits that came, at the end of a step."""
        height = self._current.open
        if not self._current.is_stalled and height.number == self._current.next:
            for vote in height.extended.questions():
                self._app.verify(height.number, vote)

    def verified(self, answer: Verified) -> None:
        """It counts, or its node is to blame: what a correct node's app says, every correct node's app accepts."""
        if answer.height != self._current.open.number:
            return
        self._current.open.extended.judged(answer.node, answer.round, answer.is_accepted)
        if not answer.is_accepted:
            self._env.blame(answer.node, "sent an extension that the app rejects")
