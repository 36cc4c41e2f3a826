"""PaxosLog: a replicated log of one Paxos instance a slot, as "Paxos made simple" has it in §3, without its leader.

Every node proposes for itself, with both phases for each slot; ``parts/slots.py`` does the rest. Multi-Paxos is this
with phase 1 done once for all slots by one leader.
"""

from typing import ClassVar

import msgspec

from quorate.kernel import Core, Env
from quorate.parts.slots import Slots, SlotsConfig
from quorate.protocols.paxos.core import Paxos
from quorate.protocols.paxos.messages import PaxosConfig


class PaxosLogConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the log, and of each of its slots. There ``ask_s`` is None: the log tells a learner that missed something."""

    slots: SlotsConfig = SlotsConfig()
    paxos: PaxosConfig = PaxosConfig(ask_s=None)

    def __post_init__(self) -> None:
        if self.paxos.proposers or self.paxos.acceptors or self.paxos.learners:
            raise ValueError("paxos names roles: in a log every node plays all of them")

    def within(self, log_bytes_max: int) -> "PaxosLogConfig":
        """The same with no more than so many bytes of log."""
        slots = self.slots.but(log_bytes_max=min(self.slots.log_bytes_max, log_bytes_max))
        return PaxosLogConfig(slots=slots, paxos=self.paxos)


class PaxosLog(Slots):
    """One node. ``single`` is the class of a slot's core."""

    single: ClassVar[type[Core]] = Paxos
    children = (Paxos,)

    def __init__(self, env: Env, config: PaxosLogConfig = PaxosLogConfig()) -> None:  # noqa: B008 (frozen)
        holders = config.paxos.quorum.build(env.peers).phase2  # they meet all phase-1 quorums
        super().__init__(env, config.slots, self.single, config.paxos, quorum=holders)
