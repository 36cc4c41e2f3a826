"""The reference: one object that is replicated nowhere, fed the log in order, with which every node is compared."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

from quorate.kernel import ROOT, Path
from quorate.machines.objects.machine import ObjectMachine
from quorate.parts.log.entries import COMMAND, Entry
from quorate.parts.log.replicated import Decided
from quorate.service.audits import Audits
from quorate.service.replica import Replica
from quorate.service.signed import SignedReplica
from quorate.sim.checkers.base import Checker, Violation, Watched
from quorate.trials.objects.outside import Glances

STATE: Final = "equal states"
RESULTS: Final = "equal results"
INVARIANT: Final = "invariant"
OUTSIDE: Final = "a command looks outside"
CONTENT_EVERY: Final = 16
"""Entries, after which all that a node holds is read, past its digests."""
EVERY_COMMAND_UNTIL: Final = 512
"""Invariants are checked after each entry up to here, and then after every ``CONTENT_EVERY``-th."""


class WatchedMachine(ObjectMachine):
    """Remembers what its last command answered."""

    outside: Glances | None = None
    """Sees what its commands look at."""
    answer: bytes | None = None

    def apply(self, command: bytes) -> bytes:
        """As the base says."""
        if self.outside is None:
            self.answer = super().apply(command)
        else:
            with self.outside.watch():
                self.answer = super().apply(command)
        return self.answer


class Applied:
    """What the reference came to at one index."""

    __slots__ = ("answer", "contents", "digests")

    def __init__(self, answer: bytes | None, digests: Mapping[str, bytes], contents: Mapping[str, bytes]) -> None:
        self.answer = answer
        self.digests = digests
        self.contents = contents


class Reference:
    """``replica`` is fed each entry when the first node applies it, and never crashes."""

    def __init__(self, replica: Replica, machine: WatchedMachine) -> None:
        self._replica = replica
        self._machine = machine
        self._outcomes: list[Applied] = []

    def follow(self, index: int, entry: Entry) -> None:
        """Apply the entry if it is new. Raises Violation if it looks outside, or breaks an invariant here."""
        if index <= len(self._outcomes):
            return
        machine = self._machine
        machine.answer = None
        self._replica.output(Decided(index, (entry,)))
        if machine.outside is not None and machine.outside.seen is not None:
            raise Violation(
                OUTSIDE,
                f"entry {index}: the command uses {machine.outside.seen}, which differs by node: "
                "write quorate.now(), random() or uuid(), or pass it in as an argument; `quorate lint` says where",
            )
        if machine.answer is not None and (broken := machine.broken()) is not None:
            raise Violation(INVARIANT, f"after entry {index}, on an object that is not replicated: {broken}")
        contents = machine.contents() if index % CONTENT_EVERY == 0 else {}
        self._outcomes.append(Applied(machine.answer, machine.digests(), contents))

    def compare(self, node: int, index: int, machine: WatchedMachine) -> None:
        """A node has applied this entry. Raises Violation."""
        outcome = self._outcomes[index - 1]
        if machine.answer != outcome.answer:
            raise Violation(
                RESULTS,
                f"node {node} answers entry {index} with {machine.answer!r}, the log alone gives {outcome.answer!r}",
            )
        self._equal(node, index, machine.digests(), outcome.digests)
        is_point = index % CONTENT_EVERY == 0
        if is_point:
            self._equal(node, index, machine.contents(), outcome.contents)
        if (is_point or index <= EVERY_COMMAND_UNTIL) and outcome.answer is not None:
            broken = machine.broken()
            if broken is not None:
                raise Violation(INVARIANT, f"node {node} after entry {index}: {broken}")

    def compare_all(self, node: int, index: int, machine: WatchedMachine) -> None:
        """A node is as far as it gets: all that it holds. Raises Violation."""
        if index == len(self._outcomes):
            self._equal(node, index, machine.contents(), self._machine.contents())

    def _equal(self, node: int, index: int, own: Mapping[str, bytes], right: Mapping[str, bytes]) -> None:
        if own != right:
            names = sorted(name for name in own.keys() | right.keys() if own.get(name) != right.get(name))
            listed = ", ".join(names)
            raise Violation(
                STATE, f"node {node} after entry {index} of the log: {listed} differs from what the log alone gives"
            )


class WatchedReplica(Replica):
    """A Replica whose state is compared after each entry."""

    node = -1
    reference: Reference | None = None

    def output(self, value: Any, path: Path = ROOT) -> None:
        """As the base says; entries one by one."""
        reference, machine = self.reference, self.machine
        if type(value) is not Decided or reference is None or not isinstance(machine, WatchedMachine):
            super().output(value, path)
            return
        for index, entry in enumerate(value.entries, value.first_index):
            reference.follow(index, entry)
            machine.answer = None
            super().output(Decided(index, (entry,)), path)
            if entry.kind == COMMAND:
                reference.compare(self.node, index, machine)


class WatchedSignedReplica(WatchedReplica, SignedReplica):
    """The same where clients sign."""


def watched_replica(
    machine: WatchedMachine, is_signed: bool, sessions_max: int, audits: Audits | None
) -> WatchedReplica:
    """A Replica of the kind that the protocol's values ask for."""
    if is_signed:
        return WatchedSignedReplica(machine, sessions_max=sessions_max)
    return WatchedReplica(machine, sessions_max=sessions_max, audits=audits)


class ToldAlike(Checker):
    """What clients were told is what the log alone gives for their commands."""

    def __init__(self, told: Mapping[Hashable, bytes], right: Callable[[], Mapping[Hashable, bytes]]) -> None:
        self._told = told
        self._right = right

    def finish(self, world: Watched) -> None:
        right = self._right()
        for identity, data in self._told.items():
            if right.get(identity, data) != data:
                raise Violation(
                    RESULTS,
                    f"a client was told {data!r} for the command {identity}; the log alone gives {right[identity]!r}",
                )
