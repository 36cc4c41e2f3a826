"""Whose votes count at which sequence number of PBFT, computed from the founders and the executed batches alone.

A node executes nothing in an epoch that has ended, and begins one with the members, after the checkpoint, that follow
from what was executed before; the cores are asked for nothing but the batches. The rule is stated anew here
(``members.py`` has it for the nodes): a change that an administrator signed for the epoch in which it is executed, and
that fits the nodes that there are, counts after the first checkpoint that is a whole window later. Of several before
that checkpoint the last one names the members.

A batch counts as executed once its execution has left a node, to others or to its App. What a node executed in memory
alone may be lost with the node's own vote, and another batch take its place: where its disk hangs, seconds later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from quorate.parts import requests
from quorate.parts.log.configuration import FOUNDERS_ALONE, Change, decode_change, is_join
from quorate.protocols.pbft.group import founders_of
from quorate.sim.checkers.base import Checker, Violation

OWN_EPOCH = "each number by its own members"

ExecutedRequests: TypeAlias = tuple[int, tuple[bytes, ...]]
"""A sequence number and the batch that was executed there."""


class PbftEpochs(Checker):
    """Compares the group of each honest node with what was executed."""

    def __init__(self) -> None:
        self.executed = 0
        """Up to where the batches are known, by whichever node told first that it executed them."""
        self.epochs: list[tuple[int, tuple[int, ...]]] = []
        """By number: after which checkpoint it begins, and its members."""
        self._config: Any = None
        self._is_key: Callable[[bytes], bool]
        self._founders: tuple[int, ...] = ()
        self._nodes = FOUNDERS_ALONE
        self._taken: set[bytes] = set()
        """Public keys in use."""
        self._next: tuple[int, tuple[int, ...]] | None = None
        self._seen: dict[int, int] = {}
        """By node, up to where it was seen to execute in this life."""
        self._fresh: dict[int, list[ExecutedRequests]] = {}
        """By node, what nobody was told yet."""
        self._right: dict[int, Any] = {}
        """By node, the group that was found right, for all that the node has executed."""
        self._told: dict[int, tuple[bytes, ...]] = {}
        """What was told, by number, beyond a batch that nobody has told of."""

    def started(self, node: int, core: Any) -> None:
        self._seen[node] = 0
        self._fresh[node] = []
        self._right.pop(node, None)
        if self._config is None:
            config, keys = core.config, core.view.keys
            self._config, self._is_key = config, keys.keyring.is_key
            self._founders = founders_of(config, core.env.peers, keys)
            self._taken = {keys.keyring.public(founder) for founder in self._founders}
            self.epochs.append((0, tuple(sorted(set(config.members))) or self._founders))
        self.stepped(node, core)

    def mark(self, node: int) -> list[ExecutedRequests] | None:
        fresh = self._fresh[node]
        if not fresh:
            return None
        self._fresh[node] = []
        return fresh

    def released(self, node: int, mark: list[ExecutedRequests]) -> None:
        self._told.update((sequence, batch) for sequence, batch in mark if sequence > self.executed)
        while (batch := self._told.pop(self.executed + 1, None)) is not None:
            self._execute(self.executed + 1, batch)

    def stepped(self, node: int, core: Any) -> None:
        history, group = core.history, core.view.group
        if history.executed != self._seen[node]:
            self._right.pop(node, None)
            for sequence in range(max(self._seen[node], self.executed) + 1, history.executed + 1):
                batch = core.log.batches.get(history.digests.get(sequence))
                if batch is not None:  # else a snapshot stands for it, and another node has executed it or will
                    self._fresh[node].append((sequence, batch))
            self._seen[node] = history.executed
        self._votes(node, core)
        if self._right.get(node) is group or group.began_at > self.executed:
            return
        known = self.epochs[group.epoch] if group.epoch < len(self.epochs) else None
        if known != (group.began_at, group.members):
            raise Violation(
                OWN_EPOCH,
                f"node {node} has the members {group.members} after {group.began_at} in epoch {group.epoch}; "
                f"by what was executed these are {known}",
            )
        if group.epoch + 1 < len(self.epochs) and history.executed > self.epochs[group.epoch + 1][0]:
            raise Violation(
                OWN_EPOCH,
                f"node {node} executes {history.executed} with the members of epoch {group.epoch}, which ended at "
                f"{self.epochs[group.epoch + 1][0]}",
            )
        self._right[node] = group

    def _votes(self, node: int, core: Any) -> None:
        """What is voted for, is by those who vote there, and they may not know yet who else will."""
        epoch, last = core.view.group.epoch + 1, core.log.accepted_to
        if epoch < len(self.epochs) and last > self.epochs[epoch][0]:
            raise Violation(
                OWN_EPOCH,
                f"node {node} votes at {last} as a member of epoch {epoch - 1}, which ended at {self.epochs[epoch][0]}",
            )

    def _execute(self, sequence: int, batch: tuple[bytes, ...]) -> None:
        self.executed = sequence
        for value in batch:
            change = self._change_of(value)
            if change is not None:
                self._nodes = self._nodes.after(change)
                self._taken.update(newcomer.key for newcomer in change.newcomers)
                every = self._config.checkpoint_batches
                first = -(-(sequence + self._config.window) // every) * every
                self._next = (first if self._next is None else self._next[0], change.members)
        if self._next is not None and self._next[0] == sequence:
            self.epochs.append(self._next)
            self._next = None
            self._right.clear()

    def _change_of(self, value: bytes) -> Change | None:
        """What it changes when it is executed now."""
        request = requests.decode_signed_request(value)
        if request is None or len(request.commands) != 1:
            return None
        change = decode_change(request.commands[0])
        if change is None or change.epoch not in (None, len(self.epochs) - 1):
            return None
        members = self.epochs[-1][1] if self._next is None else self._next[1]
        if request.client not in self._config.admins and not is_join(change, self._nodes, members, request.client):
            return None
        keys = [newcomer.key for newcomer in change.newcomers]
        are_new = len(set(keys)) == len(keys) and self._taken.isdisjoint(keys) and all(map(self._is_key, keys))
        return change if are_new and self._nodes.takes(change, self._founders) else None
