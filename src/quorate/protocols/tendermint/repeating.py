"""Repeating: what a node says again at each beat, since messages may be lost.

It says how far it has decided, and is sent what it lacks. If it has come no further within its height since the last
beat, it passes on all votes that it has of its round and of the one before, its own and others'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from quorate.kernel import Env
from quorate.protocols.tendermint.chain_app import ChainApp
from quorate.protocols.tendermint.checkpoints import ChainCheckpoints
from quorate.protocols.tendermint.current_height import CurrentHeight
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.log import DecidedLog
from quorate.protocols.tendermint.messages import ExtendedPrecommit, Here, Prevote, Votes
from quorate.protocols.tendermint.signing import SignState
from quorate.protocols.tendermint.transfer import ChainTransfer

EXTENSIONS_AT_ONCE: Final = 1 << 20
"""Bytes of extensions in one message, but one extension at least. All votes fit into one without them."""


class Repeating:
    """It remembers where this node was at the last beat."""

    def __init__(
        self,
        env: Env,
        current: CurrentHeight,
        signed: SignState,
        log: DecidedLog,
        app: ChainApp,
        transfer: ChainTransfer,
        checkpoints: ChainCheckpoints,
    ) -> None:
        self._env = env
        self._current = current
        self._signed = signed
        self._log = log
        self._app = app
        self._transfer = transfer
        self._checkpoints = checkpoints
        self._place: tuple[int, int, Step] | None = None

    def beat(self) -> None:
        """Once in ``beat_s``."""
        next, others = self._current.next, self._env.others
        self._log.beat()
        self._app.beat()
        self._transfer.beat(next)
        self._checkpoints.resend()
        self._env.send(others, Here(next))
        if not self._is_waiting():
            return
        rules, own = self._current.open.rules, self._signed.proposal
        if own is not None and own.round == rules.round:
            self._env.send(others, own)
        for votes in _portions(self._current.open.votes(range(max(0, rules.round - 1), rules.round + 1))):
            self._env.send(others, Votes(votes))

    def _is_waiting(self) -> bool:
        """Whether it is where it was at the last beat, within a height that has begun."""
        rules = self._current.open.rules
        place, self._place = self._place, (self._current.open.number, rules.round, rules.step)
        return rules.is_started and place == self._place


def _portions(votes: Iterable[Prevote]) -> Iterator[tuple[Prevote, ...]]:
    """As many as a message can bear; none of no votes."""
    portion: list[Prevote] = []
    size = 0
    for vote in votes:
        more = len(vote.extension) if isinstance(vote, ExtendedPrecommit) else 0
        if size and size + more > EXTENSIONS_AT_ONCE:
            yield tuple(portion)
            portion, size = [], 0
        portion.append(vote)
        size += more
    if portion:
        yield tuple(portion)
