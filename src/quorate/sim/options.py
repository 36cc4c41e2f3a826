"""Options of one simulated run, and the kinds of faults by name."""

from collections.abc import Callable

import msgspec

from quorate.kernel import NODE_ID_MAX

COMMON = ("crash", "partition", "disk", "clock", "pause", "network")
"""Kinds of faults that every protocol is tested with. They share the stream of chance of a seed's mix."""
FURTHER = ("gone", "members", "snapshots", "leases", "quorums", "delays", "clients", "stops", "transfers", "hang-ups")
"""Kinds that a protocol is tested with if its EQUIPMENT names them. Each is drawn from a stream of its own, so that one
more changes nothing about a seed that does not have it."""
FAULTS = (*COMMON, *FURTHER)
DISK_FAULTS = (
    "bit-rot",
    "misdirected-write",
    "lost-write",
    "read-error",
    "lying-sync",
    "snapshot-rot",
    "sync-error",
    "snapshot-full",
    "hung-disk",
)
"""How disks fail (``disk_nemesis.py``), from a stream of their own."""
EVERY = (*FAULTS, *DISK_FAULTS)
"""Every kind of fault by name."""
GROUPS = {"all": EVERY, "common": COMMON, "disks": DISK_FAULTS, "none": ()}
"""Names that stand for several kinds."""

NODES_MAX = NODE_ID_MAX + 1
CLIENTS_MAX = 64
ADMINISTRATOR = 1_000_000
"""The number of the client that may change members where nodes may lie."""


class OptionsError(ValueError):
    """An option that makes no sense; the text says what to write instead."""


def parse_faults(text: str) -> tuple[str, ...]:
    """Kinds, or names of several, separated by commas. Raises OptionsError for one that is not known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    wanted = {kind for name in names for kind in GROUPS.get(name, (name,))}
    unknown = [name for name in names if name not in GROUPS and name not in EVERY]
    if unknown or not names:
        raise OptionsError(
            f"no fault is called {', '.join(unknown) or repr(text)}; write {', '.join(GROUPS)}, or some of "
            f"{', '.join(EVERY)}"
        )
    return tuple(kind for kind in EVERY if kind in wanted)


class MemberChange(msgspec.Struct, frozen=True):
    """How members change: ``value`` makes what is submitted to name others, of which there are ``fewest`` at least.

    It takes what ``configuration.encode_change`` takes. ``by`` is the public key of the administrator, where one signs.
    ``may_be_witnesses``: whether some may vote and keep no state.
    """

    value: Callable[..., bytes]
    fewest: int = 1
    by: bytes = b""
    may_be_witnesses: bool = False

    def borne(self, members: int) -> int:
        """How many of so many members may be away."""
        return (members - 1) // (3 if self.by else 2)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of.

    ``duration_s`` is virtual time under faults (a quiet mix may stretch it); after it everything is healed.

    ``healing_s`` is how long, in virtual time, the healed cluster may take until every operation is answered and all
    nodes agree; more than that is a violation of liveness.

    ``clients`` is how many there are, perhaps none; None: as many as the seed draws.

    ``byzantine`` nodes lie, in the ways that ``adversary`` names, during both phases. With ``joins`` nodes come and go,
    with ``repairs`` they lose their folders and are repaired.
    """

    seed: int = 0
    nodes: int = 5
    duration_s: float = 10.0
    healing_s: float = 60.0
    faults: tuple[str, ...] = FAULTS
    clients: int | None = None
    by_inputs: bool = False
    byzantine: int = 0
    adversary: tuple[str, ...] = ()
    joins: bool = False
    repairs: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= NODES_MAX:
            raise OptionsError(f"{self.nodes} nodes; a simulated cluster has 1 to {NODES_MAX}")
        if self.clients is not None and not 0 <= self.clients <= CLIENTS_MAX:
            raise OptionsError(f"{self.clients} clients; a run has 0 to {CLIENTS_MAX}")
        if not 0 <= self.byzantine < self.nodes:
            raise OptionsError(f"{self.byzantine} Byzantine nodes of {self.nodes}; at least one node must be honest")
        if not 0 < self.duration_s <= 1e6:
            raise OptionsError(f"a duration of {self.duration_s} s; it must be above 0 and at most a million")
