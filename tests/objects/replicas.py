"""Two nodes of a battery that apply the same bytes, at times that the log says, beside a plain model of it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from quorate.machines.objects.calls import Raised, Returned, decode_outcome, encode_call, error_of
from quorate.machines.objects.machine import ObjectMachine, Replicated, kinds_of, marked

RESTART = "restart"
WAIT = "wait"


class Pair:
    """Two machines. What one answers the other must, and in the end their digests are equal."""

    def __init__(self, kind: type[Replicated], *, trusts_members: bool = True) -> None:
        self.kind = kind
        self.kinds = kinds_of(kind)
        self.reads = marked(kind, "read")
        self.machines = [ObjectMachine(kind, trusts_members=trusts_members) for _ in range(2)]
        self.now = 1_800_000_000.0

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """What the method returned; raises what it raised."""
        data = encode_call(method, args, kwargs, self.kinds)
        if method in self.reads:
            answers = [machine.query(data) for machine in self.machines]
        else:
            stamped = self.machines[0].stamp(data, round(self.now * 1_000_000) * 1000)
            answers = [machine.apply(stamped) for machine in self.machines]
        assert answers[0] == answers[1]
        outcome = decode_outcome(answers[0], self.kinds)
        if isinstance(outcome, Raised):
            raise error_of(outcome)
        assert isinstance(outcome, Returned)
        return outcome.value

    def wait(self, span_s: float) -> None:
        """Time passes, in whole microseconds as the log has it."""
        self.now = round(self.now + span_s, 6)

    def restart(self) -> None:
        """The second node begins anew from a snapshot of the first."""
        written = snapshot_of(self.machines[0])
        fresh = ObjectMachine(self.kind)
        fresh.restore(io.BytesIO(written))()
        assert snapshot_of(fresh) == written
        self.machines[1] = fresh
        self.check()

    def check(self) -> None:
        """Both are in the same state."""
        assert self.machines[0].digests() == self.machines[1].digests()

    @property
    def state(self) -> Any:
        """The first one's object."""
        return self.machines[0].instance


def snapshot_of(machine: ObjectMachine) -> bytes:
    file = io.BytesIO()
    machine.snapshot()(file)
    return file.getvalue()


def outcome_of(target: Any, method: str, args: Iterable[Any]) -> Any:
    """What a call returned, or the type of what it raised."""
    try:
        return target.call(method, *args) if isinstance(target, Pair) else getattr(target, method)(*args)
    except Exception as error:
        return type(error)


def run(kind: type[Replicated], model: Any, program: list[tuple[str, tuple[Any, ...]]]) -> Pair:
    """Call the battery and its model by turns; each call has the same outcome. A model with a clock has ``now``."""
    pair = Pair(kind)
    for name, args in program:
        if name == RESTART:
            pair.restart()
        elif name == WAIT:
            pair.wait(args[0])
            model.now = pair.now
        else:
            expected = outcome_of(model, name, args)
            found = outcome_of(pair, name, args)
            assert found == expected, (name, args, found, expected)
            assert type(found) is type(expected), (name, args, found, expected)
    pair.restart()
    return pair
