"""What nodes of PBFT may make each other do: limits of work that one of them asks for and another pays.

A view-change bears up to a window of certificates, and a node that checked their signatures on its core's thread would
do nothing else meanwhile: what a node keeps of others' was given to a job before. A question for a batch is small and
its answer large: what a node sends in answer to one other is bounded for any stretch of time.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from quorate.kernel import Turn
from quorate.parts.crypto.keys import VerifyBatch
from quorate.protocols.pbft.messages import VIEW_CHANGE, BatchOf, LogOf
from quorate.sim.checkers.base import Checker, Violation

BY_JOBS = "view-changes are checked by jobs"
ANSWERS = "answers to one node are bounded"
BATCHES_A_BEAT = 4
"""As many bytes as so many full batches have may be sent to one node in a beat."""


class PbftWork(Checker):
    """Looks at what each Turn of an honest node sends and gives to jobs."""

    def __init__(self) -> None:
        self._given: dict[int, set[bytes]] = {}
        """By node, signatures of view-changes that jobs of this life have had."""
        self._answered: dict[tuple[int, int], deque[tuple[float, int]]] = {}
        """By sender and receiver, when and how many bytes, within the last beat of the sender's clock."""

    def started(self, node: int, core: Any) -> None:
        """Its jobs are gone with its last life."""
        self._given[node] = set()

    def acted(self, node: int, core: Any, turn: Turn) -> None:
        """Jobs first: what comes of one is kept in a later step."""
        for job in turn.jobs:
            if isinstance(job.work, VerifyBatch):
                self._given[node].update(item.signature for item in job.work.items if item.context == VIEW_CHANGE)
        for sender, change in core.view.changes.items():
            if sender != node and change.signature not in self._given[node]:
                raise Violation(BY_JOBS, f"node {node} keeps a view-change of node {sender} that no job has checked")
        for send in turn.sends:
            if type(send.message) in (BatchOf, LogOf):
                for to in send.to:
                    self._answers(node, to, core, _size(send.message))

    def _answers(self, node: int, to: int, core: Any, size: int) -> None:
        """Allowances begin anew somewhere within any stretch of a beat, so it sees two of them at most. Each may be one
        answer alone, however large."""
        now, config = core.env.now, core.config
        answered = self._answered.setdefault((node, to), deque())
        while answered and not now - config.beat_s < answered[0][0] <= now:
            answered.popleft()
        answered.append((now, size))
        most = 2 * max(BATCHES_A_BEAT * config.batch_bytes_max, *(size for _, size in answered))
        if (total := sum(size for _, size in answered)) > most:
            raise Violation(
                ANSWERS,
                f"node {node} answers node {to} with {total} bytes within {config.beat_s:g} s, more than {most}",
            )


def _size(m: BatchOf | LogOf) -> int:
    return sum(map(len, m.batch if isinstance(m, BatchOf) else m.digests))
