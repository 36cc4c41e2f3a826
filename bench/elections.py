"""`python -m bench.elections`: how long a cluster is without a leader, in virtual time, beside the published figures.

The experiments of chapter 9 of Ongaro's dissertation, on the production core in the simulator. Pre-vote is off: the
published servers had none. Everything else is what a node runs.

*LAN* (§9.3, figure 9.5): five servers; the leader's last heartbeats leave together, and it crashes at a moment that is
uniform in its heartbeat interval, half of the shortest timeout. Each server's log is of another length, so two of the
four that are left cannot win. The published times are from LogCabin on five machines; a broadcast, "network round trip
plus disk write", took about 15 ms there, and the text does not divide it. We take the LAN of AvailSim, the simulator of
that chapter: 2 to 5 ms each way, and disks that take no time. A second reading adds 8 ms for each voter's disk, which
makes up the 15 ms. A trial ends when a server leads; LogCabin's ended when its heartbeat had arrived, 2 to 5 ms later.

*WAN* (§9.3, figures 9.6 and 9.7): AvailSim itself, so nothing is open: 30 to 40 ms each way, no disk, and all timers
begin together.

*Split votes* (§9.2): with one delay on all links, a first term comes to nothing if more than ``s - n // 2`` of ``s``
servers time out within that delay. ``l`` is the delay as a share of the range of timeouts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from math import comb
from pathlib import Path
from random import Random
from statistics import mean, median
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from quorate.kernel import App, Record, Rng, Send
from quorate.kernel.standing import LEADER
from quorate.parts.log.entries import COMMAND, Entry
from quorate.protocols import REGISTRY
from quorate.protocols.raft import Raft, RaftConfig
from quorate.protocols.raft.election import CANDIDATE, Election
from quorate.protocols.raft.messages import Entries, HardState, Heartbeat, RequestVote
from quorate.sim.options import Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.workload import Subject
from quorate.sim.world import World

from bench.steps_svg import Panel, draw

PLOT = Path("docs/protocols/raft-elections.svg")
LAN_MS, WAN_MS = (2.0, 5.0), (30.0, 40.0)
DISK_MS = 8.0
"""What LAN_MS leaves of a broadcast of 15 ms."""
LIMIT_S = 60.0


# --- the servers ---


class NoPreVote(Election):
    """§3.4 as it stands: a server whose timeout is over begins a term."""

    def _ask_for_votes(self) -> None:
        self.watch.rest()
        if self._may_stand():
            self.watch.follow(self._state.term, self._state.term, None)
            self._campaign()


class Overlapped(NoPreVote):
    """§9.4: a candidate's own write overlaps its requests; it counts its own vote when that is durable."""

    def _campaign(self, *, has_leave: bool = False) -> None:
        env, state = self._env, self._state
        self.role = CANDIDATE
        state.pledge(state.term + 1, env.id)
        self._votes = type(self._votes)(self._quorum)
        self.watch.rest()
        request = RequestVote(state.term, state.log.last_index, state.log.last_term)
        env.send_now(env.others, request)
        env.send(env.id, request)


class Paper(Raft):
    """Without pre-vote."""

    election_class = NoPreVote


class PaperOnDisks(Raft):
    """The same, for disks that take time."""

    election_class = Overlapped


class Deaf(App):
    """Nobody asks for anything."""

    def output(self, value: Any, path: Any = ()) -> None:
        """Nothing to apply."""

    def request(self, client: Any, request: Any) -> None:
        """Never called."""

    def snapshot(self, *_: Any) -> Any:
        """Never called."""
        raise NotImplementedError

    restore = snapshot


class Nobody(Subject):
    """No clients."""

    def app(self, node: int, rng: Rng) -> App:
        """Fresh, and deaf."""
        return Deaf()


# --- one election ---


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried. The first ``failed`` of the servers, the old leader among them, are down."""

    timeouts_ms: tuple[float, float]
    one_way_ms: tuple[float, float] = LAN_MS
    disk_ms: float = 0.0
    nodes: int = 5
    failed: int = 1
    logs_differ: bool = True
    is_heard: bool = True
    """Whether the leader crashes some time after its last heartbeats; otherwise all timers begin at 0."""
    core: type[Raft] = Paper


class Elected(msgspec.Struct, frozen=True):
    """After so many ms without one a server led, in a term so many after the old one."""

    ms: float
    terms: int


def election(setting: Setting, seed: int, limit_s: float = LIMIT_S) -> Elected:
    """One trial; ``limit_s`` of virtual time if none led by then."""
    world = _world(setting, seed)
    rng = Random(f"{seed}/elections")
    world.start()
    live = tuple(range(setting.failed, setting.nodes))
    for node in world.nodes[: setting.failed]:
        node.switch_off()
    crashed_at = 0.0
    if setting.is_heard:
        world.network.send(0, [Send(live, (), Heartbeat(1, 0, 0))])
        crashed_at = rng.uniform(0.0, setting.timeouts_ms[0] / 2000)
    while world.now < limit_s:
        world.run_until(world.heap[0][0])
        for node in live:
            standing = world.nodes[node].host.root.standing()
            if standing.role == LEADER:
                return Elected(1000 * (world.now - crashed_at), standing.term - 1)
    return Elected(1000 * limit_s, 0)


def _world(setting: Setting, seed: int) -> World:
    shortest_s, longest_s = (timeout / 1000 for timeout in setting.timeouts_ms)
    config = RaftConfig(heartbeat_s=shortest_s / 2, election_timeout_s_min=shortest_s, election_timeout_s_max=longest_s)
    mix = Mix(
        delay_s_min=setting.one_way_ms[0] / 1000,
        delay_s_max=setting.one_way_ms[1] / 1000,
        sync_s=setting.disk_ms / 1000,
    )
    make = REGISTRY["raft"].make(config, setting.core)
    world = World(Trial(make, Nobody(), Options(seed=seed, nodes=setting.nodes, faults=(), clients=0), mix=mix))
    for node in world.nodes:
        length = setting.nodes - node.id if setting.logs_differ else 1
        records = (HardState(1, 0), Entries(1, [Entry(1, b"", COMMAND)] * length))
        node.disk.journal = [[Record((), record) for record in records]]
        node.disk.numbers = [0]
    return world


def times_ms(setting: Setting, trials: int, limit_s: float = LIMIT_S) -> list[float]:
    """So many trials, in ascending order."""
    return sorted(election(setting, seed, limit_s).ms for seed in range(trials))


# --- what is published ---


class Row(msgspec.Struct, frozen=True):
    """One published figure. ``figure`` is of a list of ms."""

    name: str
    published: str
    value: float
    figure: str
    setting: Setting
    times: int = 1
    """How many times as many trials it rests on as the others."""


FIGURES = {"median": median, "mean": mean, "longest": max}


def lan(low: float, high: float, **more: Any) -> Setting:
    """Five servers on a LAN."""
    return Setting(timeouts_ms=(low, high), **more)


def wan(failed: int, *, logs_differ: bool = False) -> Setting:
    """Five servers on a WAN, some of which have failed."""
    return Setting(timeouts_ms=(300, 600), one_way_ms=WAN_MS, failed=failed, logs_differ=logs_differ, is_heard=False)


ROWS = (
    Row("LAN 150-155", "median 287", 287, "median", lan(150, 155)),
    Row("LAN 150-200", "longest 513", 513, "longest", lan(150, 200)),
    Row("LAN 12-24", "mean 35", 35, "mean", lan(12, 24)),
    Row("LAN 12-24", "longest 152", 152, "longest", lan(12, 24)),
    Row("WAN, one failed", "mean 475", 475, "mean", wan(1), 10),
    Row("WAN, two failed", "mean 650", 650, "mean", wan(2), 10),
)
STUCK, STUCK_TRIALS, STUCK_S = lan(150, 150), 100, 10.0
"""Without any randomness votes split time after time; published: "consistently took longer than 10 seconds"."""


def with_disks(setting: Setting) -> Setting:
    """The other reading of a broadcast of 15 ms."""
    return msgspec.structs.replace(setting, disk_ms=DISK_MS, core=PaperOnDisks)


def as_we_are(setting: Setting) -> Setting:
    """With pre-vote."""
    return msgspec.structs.replace(setting, core=Raft)


# --- split votes (§9.2) ---

SPLITS = ((5, 4, 0.01), (5, 4, 0.1), (5, 4, 0.2), (5, 3, 0.2), (9, 7, 0.2), (9, 6, 0.2), (9, 5, 0.2), (7, 6, 0.2))
"""Cluster, servers that are up, delay."""
RANGE_MS = 100.0


def split_rate(nodes: int, up: int, delay: float) -> float:
    """§9.2: the share of elections whose first term elects nobody."""
    least = up - nodes // 2 + 1
    return sum(comb(up, k) * delay**k * (1 - delay) ** (up - k) for k in range(least - 1, up + 1))


def split_share(nodes: int, up: int, delay: float, trials: int) -> float:
    """The same as it happens."""
    setting = Setting(
        timeouts_ms=(3 * RANGE_MS, 4 * RANGE_MS),
        one_way_ms=(delay * RANGE_MS, delay * RANGE_MS),
        nodes=nodes,
        failed=nodes - up,
        logs_differ=False,
        is_heard=False,
    )
    return sum(election(setting, seed).terms != 1 for seed in range(trials)) / trials


# --- printing ---

PANELS = (
    (
        "The range of timeouts, ms (figure 9.5 a)",
        ((150, 150), (150, 151), (150, 155), (150, 175), (150, 200), (150, 300)),
    ),
    ("The shortest timeout, ms (figure 9.5 b)", ((12, 24), (25, 50), (50, 100), (100, 200), (150, 300))),
)


def panels(trials: int) -> Iterator[Panel]:
    """Figure 9.5: the share of trials that had a leader by then."""
    for title, ranges in PANELS:
        curves = {}
        for low, high in ranges:
            stuck = low == high
            count, limit_s = (min(trials, STUCK_TRIALS), 100.0) if stuck else (trials, LIMIT_S)
            curves[f"{low}-{high}"] = times_ms(lan(low, high), count, limit_s)
        yield Panel(title, "ms without a leader", curves)


def published(trials: int) -> Table:
    """A row for each published figure."""
    table = Table("timeouts, ms", "published, ms", "ours, no disk", "ours, 8 ms of disk", "with pre-vote, no disk")
    for row in ROWS:
        figure, setting = FIGURES[row.figure], row.setting
        kinds = (setting, with_disks(setting) if setting.is_heard else None, as_we_are(setting))
        count = trials * row.times
        found = ["-" if kind is None else _beside(figure(times_ms(kind, count)), row.value) for kind in kinds]
        table.add_row(row.name, row.published, *found)
    stuck = times_ms(STUCK, min(trials, STUCK_TRIALS), STUCK_S)
    table.add_row(
        "LAN 150-150", "above 10,000", f"{sum(time >= 1000 * STUCK_S for time in stuck)} of {len(stuck)} are", "-", "-"
    )
    return table


def _beside(value: float, published: float) -> str:
    return f"{value:,.0f} ({100 * (value / published - 1):+.0f} %)"


def splits(trials: int) -> Table:
    """A row for each published share."""
    table = Table("servers", "up", "l", "formula", "ours")
    for nodes, up, delay in SPLITS:
        share = split_share(nodes, up, delay, trials)
        table.add_row(str(nodes), str(up), f"{delay:g}", f"{split_rate(nodes, up, delay):.2%}", f"{share:.2%}")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and draw if asked."""
    parser = argparse.ArgumentParser(prog="python -m bench.elections", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--trials",
        type=int,
        default=1000,
        help="of each LAN row (default 1000); ten times as many on the WAN",
    )
    parser.add_argument("--split-trials", type=int, default=10_000, help="of each split rate (default 10,000)")
    parser.add_argument("--plot", type=Path, metavar="SVG", help=f"draw figure 9.5 into this file: {PLOT}")
    given = parser.parse_args(arguments)
    console = Console(width=max(100, Console().width))
    console.print(published(given.trials))
    console.print(splits(given.split_trials))
    if given.plot is not None:
        given.plot.write_text(draw(list(panels(given.trials))))
        console.print(f"written to {given.plot}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
