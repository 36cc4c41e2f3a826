"""Passing: requests that somebody brought to this node alone, as to its RPC, until a block has them.

Clients send a request to all nodes, and a height begins when f + 1 of them speak of it, or its proposer proposes. So
what only one node has might wait for ever. The others are told of it once its signature is checked; again after 1, 2,
4, ... beats, since messages may be lost; and at last every 64. Who is told checks it as well, and passes it on to
nobody: the links go from each node to each. Whoever brought it is told what came of it (``TxChecked``).

Nothing of it is durable, and what is said rests on nothing that is: no record is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from quorate.kernel import Env
from quorate.ledger.comet.abci.response_messages import ResponseCheckTx
from quorate.protocols.tendermint.accusing import is_due
from quorate.protocols.tendermint.app_messages import Transactions, TxChecked
from quorate.protocols.tendermint.mempool import FULL, IN_CACHE
from quorate.protocols.tendermint.pending import UNSIGNED, PendingRequests
from quorate.protocols.tendermint.telling import TELL_BYTES_MAX, tell_txs

ACCEPTED: Final = ResponseCheckTx()


class Passing:
    """What it tells of is in ``pending``, whose limits hold for it."""

    def __init__(self, env: Env, pending: PendingRequests) -> None:
        self._env = env
        self._pending = pending
        self._fresh: dict[bytes, bytes] = {}  # what is being checked, by digest
        self._beats: dict[bytes, int] = {}  # since the others were told first, by digest

    def _tell(self, message: Transactions) -> None:
        self._env.send_now(self._env.others, message)

    def bring(self, values: Sequence[bytes]) -> None:
        """Take these in."""
        for value in values:
            why = IN_CACHE
            if not self._pending.holds(value):
                self._pending.submit([value])
                why = "" if self._pending.holds(value) else FULL
            if why:
                self._env.deliver_now(TxChecked(value, None, why))
            else:
                self._fresh[sha256(value).digest()] = value

    def look(self) -> None:
        """Tell of those that were checked since."""
        waiting, checked = self._pending.waiting, []
        for digest, value in list(self._fresh.items()):
            if digest in waiting:
                checked.append(value)
                self._beats[digest] = 0
            elif self._pending.is_held(digest):
                continue
            is_here = self._pending.holds(value)  # or a block has it
            del self._fresh[digest]
            self._env.deliver_now(TxChecked(value, ACCEPTED) if is_here else TxChecked(value, None, UNSIGNED))
        tell_txs(self._tell, checked)

    def beat(self) -> None:
        """Time goes by: tell again of what still waits, and forget the rest."""
        self.look()
        due: list[bytes] = []
        waiting, room = self._pending.waiting, TELL_BYTES_MAX
        self._beats = {digest: beats + 1 for digest, beats in self._beats.items() if digest in waiting}
        for digest, beats in self._beats.items():
            value = waiting[digest]
            if is_due(beats) and (not due or len(value) <= room):
                due.append(value)
                room -= len(value)
        tell_txs(self._tell, due)
