"""The protocols, by name. A new one is a file beside ``echo.py`` and one line here.

Everything that runs protocols (simulator, cluster, conformance tests) finds them in REGISTRY and knows no other way.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from quorate.kernel import Core, Env
from quorate.parts import configuration
from quorate.parts.mutant import Mutant
from quorate.parts.slots import SlotsConfig
from quorate.protocols.echo import Echo, EchoConfig
from quorate.protocols.multipaxos import MultiPaxos, MultiPaxosConfig
from quorate.protocols.multipaxos.mutants import MUTANTS as MULTIPAXOS_MUTANTS
from quorate.protocols.paxos import PaxosConfig, PaxosLog, PaxosLogConfig
from quorate.protocols.paxos.mutants import MUTANTS as PAXOS_MUTANTS
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
    change: Callable[[tuple[int, ...]], bytes] | None = None
    """Makes the value that, submitted like any other, names other members; None where they are fixed."""

    def make(self, config: Any, core: type[Core] | None = None) -> Callable[[Env], Core]:
        """A maker of cores for a Host; ``core`` replaces the healthy class."""
        build: Callable[..., Core] = core or self.core
        return lambda env: build(env, config)


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
            name="echo",
            title="Echo (fixed sequencer)",
            core=Echo,
            config=EchoConfig,
            simulation=EchoConfig(message_entries_max=3, message_bytes_max=120, pending_max=8),
            tolerates="crashes of any node but the first, and of the first until it is back",
        ),
    )
}
