"""Every fault: a Nemesis that also cuts and spoils links, fills disks, sets clocks, and changes who is in the cluster.

One fault at a time. Each is seen to have taken effect, by what the system or the nodes themselves say of it; while it
lasts, a cluster that keeps a majority owes progress; then it is mended, every node is there again, and the cluster owes
progress once more. Nothing depends on how long anything takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final, NamedTuple

from quorate.service.client.leadership import LeaderFound
from quorate.service.requests import Status

from tests.cluster import until
from tests.torture.changing import PATIENCE_S, ChangingCluster, insist
from tests.torture.nemesis import Nemesis
from tests.torture.traffic import Traffic

FEWEST, MOST = 3, 7
"""How many vote."""
LOST_PERCENT: Final = 30
JUMP_S: Final = (0.5, 3.0)
"""Longer than an election timeout."""


class Struck(NamedTuple):
    """One fault, and when: in seconds of the monotonic clock."""

    kind: str
    began_at: float
    ended_at: float


class EveryFault(Nemesis):
    """``struck`` has all faults in order, and ``last`` says what was done last, and to which nodes.

    ``left_out``: the kinds that this machine cannot have, and why.
    """

    cluster: ChangingCluster
    traffic: Traffic

    def __init__(self, cluster: ChangingCluster, traffic: Traffic, seed: int, dwell_s_max: float = 0.0) -> None:
        super().__init__(cluster, traffic, seed)
        self.network = cluster.network
        self.dwell_s_max = dwell_s_max
        self.struck: list[Struck] = []
        self.last = ""
        self.kinds: dict[str, Callable[[], AbstractContextManager[bool]]] = {
            **{f"{verb} {which}": partial(self._ended, verb, which) for verb, which in _ENDED},
            "isolate": self._isolated,
            "one way": self._one_way,
            "bridge": self._bridged,
            "loss": self._losing,
            "delay": self._slow,
            "full disk": self._full,
            "clock": self._clock_set,
            "transfer": self._transferred,
            "add": self._added,
            "replace": self._replaced,
            "remove": self._removed,
            "rolling restart": self._restarted,
        }
        self.left_out: dict[str, str] = {}
        self._try("loss", lambda: self.network.lose(cluster.ids[0], 1))
        self._try("delay", lambda: self.network.slow(cluster.ids[0]))
        self.network.heal()
        if cluster.no_disks:
            self.left_out["full disk"] = cluster.no_disks
            del self.kinds["full disk"]

    def _try(self, kind: str, harm: Callable[[], None]) -> None:
        try:
            harm()
        except (RuntimeError, OSError) as error:
            self.left_out[kind] = str(error)
            del self.kinds[kind]

    def strike(self, kind: str) -> None:
        """One fault, from its beginning until the cluster is whole again."""
        if kind == "add" and len(self.cluster.ids) >= MOST:
            kind = "remove"
        elif kind == "remove" and len(self.cluster.ids) <= FEWEST:
            kind = "add"
        began_at, self.last = time.monotonic(), kind
        with self.kinds[kind]() as owes_progress:
            if owes_progress:
                self.traffic.progress(patience_s=PATIENCE_S)
            # How long a fault lasts is part of the schedule; nothing is waited for.
            time.sleep(self.chance.uniform(0, self.dwell_s_max))
        self.mend()
        self.traffic.progress(patience_s=PATIENCE_S)
        self.cluster.check_alive()
        self.done[kind] += 1
        self.struck.append(Struck(kind, began_at, time.monotonic()))

    def mend(self) -> None:
        """Wait until every node serves clients, follows, writes, knows who votes, and has what there was to have."""
        wanted = 0

        def is_whole() -> bool:
            nonlocal wanted
            self.cluster.check_alive()
            statuses = self.cluster.statuses()
            wanted = wanted or max((status.commit_index for status in statuses.values()), default=0)
            is_well = partial(self._is_well, wanted)
            return len(statuses) == len(self.cluster.ids) and all(map(is_well, statuses.values()))

        until(is_whole, f"all nodes are well; logs in {self.cluster.folder}", PATIENCE_S)

    def _is_well(self, index: int, status: Status) -> bool:
        voters = status.voters
        return (
            status.leader is not None
            and status.stalled is None
            and status.applied_index >= index
            and voters is not None
            and voters.members == self.cluster.ids
            and not voters.next_members
        )

    # --- whom it hits ---

    def _victims(self, which: str) -> list[int]:
        victims = super()._victims(which)
        self.last += f" {victims}"
        return victims

    def _someone(self) -> int:
        """The leader, every other time."""
        (node,) = self._victims(self.chance.choice(["leader", "follower"]))
        return node

    def _minority(self) -> list[int]:
        """Some nodes, the leader among them every other time, so that the others are a majority."""
        first = self._someone()
        more = self.chance.sample(self._all_but(first), self.chance.randrange((len(self.cluster.ids) - 1) // 2))
        self.last += f" and {more}"
        return [first, *more]

    def _all_but(self, *nodes: int) -> list[int]:
        return [node for node in self.cluster.ids if node not in nodes]

    # --- processes ---

    @contextmanager
    def _ended(self, verb: str, which: str) -> Iterator[bool]:
        victims = self._victims(which)
        self._harm(verb, victims)
        yield 2 * len(victims) < len(self.cluster.ids)
        self._undo(verb, victims)

    @contextmanager
    def _restarted(self) -> Iterator[bool]:
        """Each node is stopped in order and started again, one after the other."""
        for node in self.chance.sample(self.cluster.ids, len(self.cluster.ids)):
            pid = self.cluster.pid(node)
            code = self.cluster.stop_node(node)
            assert code == 0, f"node {node} was stopped and ended with exit code {code}:\n{self.cluster.log(node)}"
            self.cluster.start_node(node)
            assert self.cluster.status(node).pid not in (0, pid)
            self.mend()
        yield True

    # --- links ---

    @contextmanager
    def _isolated(self) -> Iterator[bool]:
        """A minority hears nobody else, and is heard by clients alone."""
        minority = self._minority()
        with self._links(cut=[(one, other) for one in minority for other in self._all_but(*minority)], both=True):
            yield True

    @contextmanager
    def _one_way(self) -> Iterator[bool]:
        """One is heard by nobody, or hears nobody; the way back stays."""
        one = self._someone()
        others = self._all_but(one)
        is_deaf = self.chance.random() < 0.5
        pairs = [(other, one) if is_deaf else (one, other) for other in others]
        with self._links(cut=pairs, stay=[(receiver, sender) for sender, receiver in pairs]):
            yield True

    @contextmanager
    def _bridged(self) -> Iterator[bool]:
        """Two halves, and one node that both can reach."""
        bridge, *others = self.chance.sample(self.cluster.ids, len(self.cluster.ids))
        half = len(others) // 2
        self.last += f" {others[:half]}, {others[half:]}"
        pairs = [(one, other) for one in others[:half] for other in others[half:]]
        with self._links(cut=pairs, stay=[(bridge, other) for other in others], both=True):
            yield True

    @contextmanager
    def _links(
        self, cut: list[tuple[int, int]], stay: list[tuple[int, int]] | tuple[()] = (), both: bool = False
    ) -> Iterator[None]:
        """Cut these, by sender and receiver, and see that no packet passes there, and that others do."""
        cut = [*cut, *((receiver, sender) for sender, receiver in cut)] if both else cut
        for sender, receiver in cut:
            self.network.cut(sender, receiver)
        for sender, receiver in cut:
            assert not self.network.passes(sender, receiver), f"a packet from {sender} to {receiver} passes"
        for sender, receiver in stay:
            assert self.network.passes(sender, receiver), f"no packet from {sender} to {receiver} passes"
        yield
        self.network.heal()
        for sender, receiver in cut:
            assert self.network.passes(sender, receiver), f"no packet from {sender} to {receiver} passes again"

    @contextmanager
    def _losing(self) -> Iterator[bool]:
        """A minority loses packets of all that comes to it."""
        victims = self._minority()
        for node in victims:
            self.network.lose(node, LOST_PERCENT)
        for node in victims:
            until(lambda node=node: self.network.lost(node), f"packets to node {node} are lost")
        yield True
        self.network.heal()

    @contextmanager
    def _slow(self) -> Iterator[bool]:
        """What a minority sends is late."""
        victims = self._minority()
        for node in victims:
            self.network.slow(node)
        for node in victims:
            until(lambda node=node: self.network.delayed(node), f"packets of node {node} are late")
        yield True
        self.network.heal()

    # --- disks and clocks ---

    @contextmanager
    def _full(self) -> Iterator[bool]:
        node = self._someone()
        ballast = self.cluster.fill_disk(node)
        yield True
        ballast.unlink()

    @contextmanager
    def _clock_set(self) -> Iterator[bool]:
        """Forward, or back."""
        self.cluster.set_clock(self._someone(), self.chance.choice([-1, 1]) * self.chance.uniform(*JUMP_S))
        yield True

    # --- members and leaders ---

    @contextmanager
    def _transferred(self) -> Iterator[bool]:
        with self.cluster.administrator() as client:
            before = insist(client.leader, "somebody leads")
            to = self.chance.choice(self._all_but(before.node))
            self.last += f" from {before.node} to {to}"
            leads = insist(lambda: client.transfer_leadership(to), f"node {to} leads in place of node {before.node}")
            assert leads == to

            def led_later() -> LeaderFound | None:
                found = insist(client.leader, "somebody leads")
                return found if found.term > before.term else None

            after = until(led_later, "a later term has a leader", PATIENCE_S)
            assert after.node != before.node or after.term > before.term + 1, (before, after)
        yield True

    @contextmanager
    def _added(self) -> Iterator[bool]:
        before = self.cluster.ids
        node = self.cluster.join()
        voters = self.cluster.promote(node)
        assert voters.members == (*before, node), voters
        yield True

    @contextmanager
    def _removed(self) -> Iterator[bool]:
        """A leader as well, which sees itself out."""
        node = self._someone()
        voters = self.cluster.remove(node)
        assert voters.members == self.cluster.ids, voters
        assert node not in self.cluster.ids
        yield True

    @contextmanager
    def _replaced(self) -> Iterator[bool]:
        """One dies for good, with its disk, and another takes its place."""
        old = self._someone()
        self._harm("kill", [old])
        new = self.cluster.join()
        voters = self.cluster.replace(old, new)
        assert voters.members == self.cluster.ids, voters
        assert (old in voters.members, new in voters.members) == (False, True)
        yield True


_ENDED: Final = (
    ("kill", "leader"),
    ("kill", "follower"),
    ("kill", "two"),
    ("kill", "all"),
    ("pause", "leader"),
    ("pause", "follower"),
    ("pause", "two"),
)
