"""Swarm: what one seed is going to be like.

Each seed draws its own mix of faults with its own rates (swarm testing: Groce and others 2012), because a run with
everything on hides the bugs that need something off. Some seeds have no partitions, some have nothing but.

Times are in virtual seconds. An interval of None means: never.
"""

from random import Random

import msgspec

from quorate.sim.options import COMMON, OptionsError


class Snags(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to snapshots that are taken and travel, by job: shares from 0 to 1, and times in seconds."""

    failed: float = 0.0
    """Pieces that cannot be read or stored."""
    untaken: float = 0.0
    """Snapshots that cannot be taken."""
    killed: float = 0.0
    """Pieces during which a node crashes, the one that sends or the one that receives."""
    slow: float = 0.0
    """Sources that take ``slow_s`` for each piece, more or less."""
    slow_s: float = 0.1
    dry: float = 0.0
    """Pieces after which a source reads no more for ``dry_s``."""
    dry_s: float = 2.0
    spent: float = 0.0
    """Pieces after which a source reads no more as long as it lives, also when all is healed. One node at a time."""


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How the delays of links differ by direction, and change: every ``every_s`` a link draws a new factor.

    Factors are heavy-tailed (Pareto): most are near 1, and some near ``factor_max``. See ``drifting.py``.
    """

    every_s: float = 1.0
    shape: float = 1.5
    factor_max: float = 100.0


class Mix(msgspec.Struct, kw_only=True):
    """The rates and sizes of one seed. The defaults are a quiet, healthy machine room."""

    stretch: float = 1.0
    """How much longer than asked for the run is: where little happens there is time for more."""
    # network
    delay_s_min: float = 0.0005
    delay_s_mean: float = 0.0005
    """Of what comes on top of the shortest delay, exponentially distributed."""
    delay_s_max: float | None = None
    """If given, delays are uniform between the shortest and this one instead."""
    delay_tail: float = 0.0
    is_fifo: bool = False
    loss: float = 0.0
    duplication: float = 0.0
    uneven_links: bool = False
    clog_every_s: float | None = None
    clog_s: float = 0.5
    partition_every_s: float | None = None
    partition_s: float = 1.0
    uplink_bytes_per_s: float | None = None
    """What each node's line into the network carries; None: any number of bytes at once."""
    uplink_queue_bytes_max: int | None = None
    """How many bytes may wait for that line; None: any number."""
    regions: tuple[tuple[float, ...], ...] | None = None
    """One row per region: how many seconds longer a message takes from there to each region. Nodes fall at random."""
    # processes
    crash_every_s: float | None = None
    down_s: float = 0.5
    crash_all: float = 0.0
    coup: float = 0.0
    coup_s: float = 0.01
    stop_every_s: float | None = None
    """How often a node stops in order: one that leads has another lead first."""
    hang_ups: float = 0.0
    """How many crashes the peers notice at once, as the links of the process end."""
    hang_up_every_s: float | None = None
    """How often a link ends between two nodes that live."""
    transfer_every_s: float | None = None
    """How often a node that leads is told to have another one lead, often a certain one."""
    pause_every_s: float | None = None
    pause_s: float = 0.5
    step_s: float = 0.0
    # disks
    sync_s: float = 0.0005
    slow_every_s: float | None = None
    slow_s: float = 0.5
    slow_factor: float = 50.0
    stall_every_s: float | None = None
    stall_s: float = 1.0
    frames_per_checkpoint: int = 400
    disk_faults: tuple[str, ...] = ()
    """Kinds of ``options.DISK_FAULTS``, each of which strikes every ``disk_fault_every_s``."""
    disk_fault_every_s: float = 1.0
    hang_s: float = 3.0
    """For how long a disk hangs, on average."""
    # clocks
    drift_max: float = 0.0
    clock_every_s: float | None = None
    jump_s_max: float = 0.0
    wall_skew_s_max: float = 0.0
    """How far the nodes' wall clocks are off, either way; where clocks jump they are set anew."""
    # members, where the protocol lets them change
    members_every_s: float | None = None
    sole: float = 0.0
    """How often one node alone is named."""
    # nodes that come and go, by the plans of an operator
    plan_every_s: float | None = None
    """How long after one plan is done the next begins."""
    idle: float = 0.0
    """How many plans are carried out while no client asks for anything."""
    deaths: float = 0.0
    """How many changes kill the node that leads, for good."""
    outages: float = 0.0
    """How many plans end with a restart of all nodes."""
    missed: float = 0.0
    """How often those who are away while the members grow have not heard that the new ones are in force."""
    strikes: float = 0.0
    """How many changes of members see a node restart, or cut off, at the moment when they are in force."""
    # nodes that do not come back
    gone: bool = False
    """Whether in the end as many members as can be spared never return, nor does any node that is not a member."""
    restarts: bool = False
    """Whether all that remain restart then."""
    absence_every_s: float | None = None
    absence_s: float = 60.0
    """How long a node is away, that comes back far behind."""
    # nodes that lose their folders
    loss_every_s: float | None = None
    """How often a node loses all that it kept, to be repaired from the others."""
    lost_max: int = 0
    """How many may be without their memory at a time."""
    # snapshots
    snags: Snags | None = None
    """What happens to snapshots on their way; None: nothing."""
    # leases
    reboots: float = 0.0
    """How many crashes are of the whole machine, whose clock then begins anew."""
    # links whose delays drift
    drift: Drift | None = None
    """None: they do not."""
    # clients
    clients: int = 4
    keys: int = 3
    think_s: float = 0.02
    timeout_s: float = 0.5
    """How long a client waits before it tries another way."""
    false_clients: int = 0
    """How many clients lie besides, where requests are signed."""
    give_up: float = 0.1
    """How many operations are given up after so long; of the rest as many after twice as long, and so on."""
    resets: float = 0.02
    """How many requests break the link that they are sent on."""

    def calm(self, factor: float) -> None:
        """Have faults strike that many times less often."""
        for name in INTERVALS:
            every_s = getattr(self, name)
            setattr(self, name, None if every_s is None else every_s * factor)

    def __post_init__(self) -> None:
        if self.uplink_bytes_per_s is not None and not self.uplink_bytes_per_s > 0:
            raise OptionsError(f"an uplink of {self.uplink_bytes_per_s} bytes per second; it must carry something")
        if self.uplink_queue_bytes_max is not None and not self.uplink_queue_bytes_max > 0:
            raise OptionsError(f"an uplink queue of {self.uplink_queue_bytes_max} bytes; it must hold something")
        if self.regions is not None and not _is_square(self.regions):
            raise OptionsError("regions are a square: from each region to each a delay in seconds, none below 0")


def _is_square(rows: tuple[tuple[float, ...], ...]) -> bool:
    return bool(rows) and all(len(row) == len(rows) and all(delay_s >= 0.0 for delay_s in row) for row in rows)


def draw(rng: Random, faults: tuple[str, ...], *, joins: bool = False) -> Mix:
    """The mix of one seed, from the common kinds that are allowed; with ``joins`` nodes come and go.

    ``ordeals.py`` adds the further kinds.
    """
    mix = Mix()
    _environment(mix, rng)
    common = [kind for kind in COMMON if kind in faults]
    chosen = [kind for kind in COMMON if rng.random() < 0.6]
    if not chosen:
        chosen = [COMMON[int(rng.random() * len(COMMON))]]
    only = [kind for kind in chosen if kind in common] or common
    for kind in COMMON:  # every kind draws, so that leaving one out changes no other
        own = Random(rng.getrandbits(64))
        if kind in only:
            DRAWS[kind](mix, own)
    _coup(mix, Random(rng.getrandbits(64)), faults)
    if common:
        _members(mix, Random(rng.getrandbits(64)))
    if joins:
        come_and_go(mix, Random(rng.getrandbits(64)), faults)
    return mix


INTERVALS = (
    "clog_every_s",
    "partition_every_s",
    "crash_every_s",
    "pause_every_s",
    "slow_every_s",
    "stall_every_s",
    "clock_every_s",
)


def log_uniform(rng: Random, low: float, high: float) -> float:
    """As likely between 1 and 10 as between 10 and 100."""
    return float(low * (high / low) ** rng.random())


def _environment(mix: Mix, rng: Random) -> None:
    """What differs between healthy machine rooms."""
    mix.delay_s_min = log_uniform(rng, 0.0001, 0.005)
    mix.delay_s_mean = log_uniform(rng, 0.0001, 0.005)
    mix.is_fifo = rng.random() < 0.5
    mix.sync_s = log_uniform(rng, 0.0002, 0.01)
    mix.step_s = 0.0 if rng.random() < 0.5 else log_uniform(rng, 0.00002, 0.001)
    mix.frames_per_checkpoint = int(log_uniform(rng, 20, 1000))
    mix.clients = 2 + int(rng.random() * 5)
    mix.keys = 1 + int(rng.random() * 4)
    mix.think_s = log_uniform(rng, 0.002, 0.1)
    mix.timeout_s = log_uniform(rng, 0.1, 2.0)
    mix.give_up = rng.random() * 0.3
    mix.resets = rng.random() * 0.05


def _crash(mix: Mix, rng: Random) -> None:
    mix.crash_every_s = log_uniform(rng, 0.2, 4.0)
    mix.down_s = log_uniform(rng, 0.02, 2.0)
    mix.crash_all = rng.random() * 0.2 if rng.random() < 0.5 else 0.0


def _coup(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    """New leaders are struck now and then; or nearly always, in a slow network where little else happens: turmoil.

    Turmoil makes forks: entries of a leader that few have heard of, and that come back after the next election.
    """
    turmoil, draw = rng.random() < 0.25, rng.random()
    mix.coup = max(0.0, draw - 0.7)
    mix.coup_s = log_uniform(rng, 0.002, 0.1)
    if turmoil and "partition" in faults:
        mix.coup = 0.7 + draw * 0.3
        mix.partition_s = log_uniform(rng, 0.3, 3.0)
        mix.delay_s_mean = log_uniform(rng, 0.002, 0.05)
        mix.delay_s_min = mix.delay_s_mean / 5
        mix.loss /= 3
        mix.stretch = 3.0
        mix.calm(4)
        mix.partition_every_s = mix.partition_every_s or 20.0


def _members(mix: Mix, rng: Random) -> None:
    """No fault, but the time when faults hurt most."""
    if rng.random() < 0.3:
        mix.members_every_s = log_uniform(rng, 0.5, 5.0)


def come_and_go(mix: Mix, rng: Random, faults: tuple[str, ...]) -> None:
    """In half of the seeds little else happens, as most of what goes wrong then is mended by the next fault or client.

    The operator takes the place of whoever names any members.
    """
    mix.members_every_s = None
    mix.plan_every_s = log_uniform(rng, 0.1, 2.0)
    mix.idle = rng.random()
    if "crash" in faults:
        mix.deaths = rng.random() * 0.5
        mix.outages = rng.random() * 0.7
    if rng.random() < 0.5:
        mix.calm(10)
        mix.loss /= 10
        mix.coup = 0.0
    mix.stretch = max(mix.stretch, 2.0)


def _partition(mix: Mix, rng: Random) -> None:
    mix.partition_every_s = log_uniform(rng, 0.3, 4.0)
    mix.partition_s = log_uniform(rng, 0.1, 3.0)


def _disk(mix: Mix, rng: Random) -> None:
    if rng.random() < 0.7:
        mix.slow_every_s = log_uniform(rng, 0.3, 4.0)
        mix.slow_s = log_uniform(rng, 0.1, 2.0)
        mix.slow_factor = log_uniform(rng, 5, 200)
    if mix.slow_every_s is None or rng.random() < 0.5:
        mix.stall_every_s = log_uniform(rng, 0.5, 5.0)
        mix.stall_s = log_uniform(rng, 0.1, 2.0)


def _clock(mix: Mix, rng: Random) -> None:
    mix.drift_max = rng.random() * 0.1
    mix.clock_every_s = log_uniform(rng, 0.3, 4.0)
    mix.jump_s_max = log_uniform(rng, 0.01, 1.0) if rng.random() < 0.5 else 0.0
    mix.wall_skew_s_max = log_uniform(rng, 0.01, 60.0)


def _pause(mix: Mix, rng: Random) -> None:
    mix.pause_every_s = log_uniform(rng, 0.3, 4.0)
    mix.pause_s = log_uniform(rng, 0.05, 2.0)


def _network(mix: Mix, rng: Random) -> None:
    mix.loss = rng.random() * 0.3 if rng.random() < 0.7 else 0.0
    mix.duplication = rng.random() * 0.5 if rng.random() < 0.6 else 0.0
    mix.delay_tail = rng.random() * 0.05 if rng.random() < 0.6 else 0.0
    mix.uneven_links = rng.random() < 0.4
    mix.delay_s_mean *= log_uniform(rng, 1.0, 8.0)
    if rng.random() < 0.5:
        mix.clog_every_s = log_uniform(rng, 0.2, 3.0)
        mix.clog_s = log_uniform(rng, 0.1, 3.0)


DRAWS = {
    "crash": _crash,
    "partition": _partition,
    "disk": _disk,
    "clock": _clock,
    "pause": _pause,
    "network": _network,
}
