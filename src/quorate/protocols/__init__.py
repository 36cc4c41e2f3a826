"""The protocols, by name. A new one is a file beside ``echo.py`` and one line here.

Everything that runs protocols (simulator, cluster, conformance tests) finds them in REGISTRY and knows no other way.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from quorate.kernel import Core, Env
from quorate.parts.adversary import Liar, Resign, unsigned
from quorate.parts.crypto.keys import Keys
from quorate.parts.log import configuration
from quorate.parts.mutant import Mutant
from quorate.parts.slots import SlotsConfig
from quorate.protocols.echo import Echo, EchoConfig
from quorate.protocols.multipaxos import MultiPaxos, MultiPaxosConfig
from quorate.protocols.multipaxos.mutants import MUTANTS as MULTIPAXOS_MUTANTS
from quorate.protocols.paxos import PaxosConfig, PaxosLog, PaxosLogConfig
from quorate.protocols.paxos.mutants import MUTANTS as PAXOS_MUTANTS
from quorate.protocols.pbft import Pbft, PbftConfig
from quorate.protocols.pbft.led import TWINS_CONFIG
from quorate.protocols.pbft.led import led as led_pbft
from quorate.protocols.pbft.liars import LIARS as PBFT_LIARS
from quorate.protocols.pbft.liars import resign as pbft_resign
from quorate.protocols.pbft.mutants import MUTANTS as PBFT_MUTANTS
from quorate.protocols.raft import Raft, RaftConfig
from quorate.protocols.raft.mutants import MUTANTS as RAFT_MUTANTS


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol: how to make its core, and what may be expected of it."""

    name: str
    title: str
    core: type[Core]
    config: type[msgspec.Struct]
    simulation: Any
    """The config for simulated runs: small limits, so that every path is taken."""
    tolerates: str
    """The fault model, in words."""
    invariants: str = ""
    """The name of the checker of its inner state, beside those that every protocol gets."""
    mutants: tuple[Mutant, ...] = ()
    byzantine: bool = False
    """Whether it bears nodes that lie. Its nodes sign, and so do its clients (``parts/requests.py``)."""
    liars: tuple[type[Liar], ...] = ()
    """Its own ways to lie, beside those that fit every protocol."""
    resign: Resign = unsigned
    """How a Byzantine node signs a message of its own that it changed."""
    led: Callable[[Any, Sequence[int]], type[Core]] | None = None
    """From a core and the leaders of rounds 0, 1, ... to one that has these: for Twins."""
    twins: Any = None
    """The config for Twins: one request a proposal, short time-outs."""
    change: Callable[..., bytes] | None = None
    """Makes the value that, submitted like any other, names other members; None where they are fixed. Takes what
    ``configuration.encode`` takes.

    Where nodes may lie, an administrator signs it, whose key the config names in ``admins``.
    """

    def faults(self, nodes: int) -> int:
        """How many nodes of so many it bears."""
        return (nodes - 1) // (3 if self.byzantine else 2)

    def make(
        self, config: Any, core: type[Core] | None = None, keys: Callable[[int], Keys] | None = None
    ) -> Callable[[Env], Core]:
        """A maker of cores for a Host; ``core`` replaces the healthy class. ``keys`` gives a node its own."""
        build: Callable[..., Core] = core or self.core
        if not self.byzantine:
            return lambda env: build(env, config)
        if keys is None:
            raise ValueError(f"the nodes of {self.name} need keys")
        return lambda env: build(env, config, keys(env.id))


REGISTRY: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="raft",
            title="Raft",
            core=Raft,
            config=RaftConfig,
            simulation=RaftConfig(
                message_entries_max=16,
                message_bytes_max=4096,
                inflight_messages_max=8,
                inflight_bytes_max=16384,
                snapshot_entries=60,
                keep_entries=10,
                chunk_bytes=256,
            ),
            tolerates="crashes of any f of 2f + 1 nodes",
            invariants="raft",
            mutants=RAFT_MUTANTS,
        ),
        Entry(
            name="multipaxos",
            title="Multi-Paxos",
            core=MultiPaxos,
            config=MultiPaxosConfig,
            simulation=MultiPaxosConfig(
                message_entries_max=16,
                message_bytes_max=4096,
                inflight_messages_max=8,
                inflight_bytes_max=16384,
                snapshot_entries=60,
                keep_entries=10,
                chunk_bytes=256,
                alpha=24,
            ),
            tolerates="crashes of any f of 2f + 1 nodes",
            invariants="multipaxos",
            mutants=MULTIPAXOS_MUTANTS,
            change=configuration.encode,
        ),
        Entry(
            name="paxos",
            title="Paxos (one instance a slot)",
            core=PaxosLog,
            config=PaxosLogConfig,
            simulation=PaxosLogConfig(
                slots=SlotsConfig(window=4, message_entries_max=16, message_bytes_max=4096, pending_max=64),
                paxos=PaxosConfig(ask_s=None),
            ),
            tolerates="crashes of any f of 2f + 1 nodes",
            invariants="paxos",
            mutants=PAXOS_MUTANTS,
        ),
        Entry(
            name="pbft",
            title="PBFT",
            core=Pbft,
            config=PbftConfig,
            simulation=PbftConfig(
                batch_count_max=8,
                batch_bytes_max=4096,
                checkpoint_batches=8,
                window=16,
                snapshot_batches=32,
                snapshot_bytes=16384,
                chunk_bytes=256,
                request_timeout_s=1.0,
                view_timeout_s_max=8.0,
            ),
            tolerates="lies of any f of 3f + 1 nodes, and crashes of as many",
            invariants="pbft",
            byzantine=True,
            liars=PBFT_LIARS,
            mutants=PBFT_MUTANTS,
            resign=pbft_resign,
            change=configuration.encode,
            led=led_pbft,
            twins=TWINS_CONFIG,
        ),
        Entry(
            name="echo",
            title="Echo (fixed sequencer)",
            core=Echo,
            config=EchoConfig,
            simulation=EchoConfig(message_entries_max=3, message_bytes_max=120, pending_max=8),
            tolerates="crashes of any node but the first, and of the first until it is back",
        ),
    )
}
