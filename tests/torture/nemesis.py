"""Nemesis: kills and pauses nodes in turn, and mends what it broke. After each round the cluster owes progress."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Protocol

from tests.cluster import LocalCluster, until

KILLS = {"kill leader": 4, "kill follower": 3, "kill two": 2, "kill all": 1}
PAUSES = {"pause leader": 3, "pause follower": 2, "pause two": 1}
DWELL_S_MAX = 1.0
HASTE = 0.25
"""How often the next round begins while the nodes of this one still recover."""


def is_stopped(pid: int) -> bool:
    """Whether a process is, by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class Progressing(Protocol):
    """Traffic, of whatever kind."""

    def progress(self, operations: int = 20) -> None:
        """Wait until so many more operations are answered. Raises AssertionError if that takes too long."""


class Nemesis:
    """``done`` counts the rounds by name, ``kills`` and ``pauses`` the processes hit. All choices come from a seed."""

    def __init__(self, cluster: LocalCluster, traffic: Progressing, seed: int) -> None:
        self.cluster = cluster
        self.traffic = traffic
        self.chance = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.kills = 0
        self.pauses = 0

    def run(self, kinds: dict[str, int], kills: int = 0, pauses: int = 0) -> None:
        """Rounds of these kinds until there were so many kills and so many pauses."""
        while self.kills < kills or self.pauses < pauses:
            (kind,) = self.chance.choices(list(kinds), list(kinds.values()))
            self.done[kind] += 1
            self.strike(kind)
        self.mend()

    def strike(self, kind: str) -> None:
        """One round: choose, harm, let time pass, mend, and see the cluster go on."""
        verb, _, which = kind.partition(" ")
        victims = self._victims(which)
        self._harm(verb, victims)
        # How long a fault lasts is part of the schedule; nothing is waited for.
        time.sleep(self.chance.uniform(0, DWELL_S_MAX))
        self._undo(verb, victims)
        if self.chance.random() >= HASTE:
            self.mend()
            self.traffic.progress()

    def _harm(self, verb: str, victims: list[int]) -> None:
        """Raises AssertionError where a node had ended before by itself."""
        for node in victims:
            if verb == "kill":
                code = self.cluster.kill(node)
                assert code == -signal.SIGKILL, f"node {node} ended by itself, with exit code {code}"
                self.kills += 1
            else:
                self.cluster.pause(node)
                until(lambda node=node: is_stopped(self.cluster.pid(node)), f"node {node} is stopped")
                self.pauses += 1

    def _undo(self, verb: str, victims: list[int]) -> None:
        self.chance.shuffle(victims)
        for node in victims:
            if verb == "kill":
                self.cluster.start_node(node, wait=False)
            else:
                self.cluster.resume(node)
                until(lambda node=node: not is_stopped(self.cluster.pid(node)), f"node {node} goes on")

    def mend(self) -> None:
        """Wait until every node serves clients."""
        count = len(self.cluster.ids)
        until(lambda: len(self.cluster.statuses()) == count, f"{count} nodes serve; logs in {self.cluster.folder}")

    def _victims(self, which: str) -> list[int]:
        nodes = list(self.cluster.ids)
        if which == "all":
            return nodes
        if which == "two":
            return self.chance.sample(nodes, 2)
        leader = self._leader()
        return [leader] if which == "leader" else [self.chance.choice([node for node in nodes if node != leader])]

    def _leader(self) -> int:
        """The node that most take for the leader; any one where nobody knows."""
        named = Counter(status.leader for status in self.cluster.statuses().values() if status.leader is not None)
        return named.most_common(1)[0][0] if named else self.chance.choice(list(self.cluster.ids))
