"""Greetings: asks all addresses until enough nodes greet alike: may they lie, and which cluster is it. Pure.

A greeting says how many nodes there are, which changes. When enough have greeted, but not alike, they are asked again.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.runtime.handshake import Greeted
from quorate.service.client.outputs import Outputs
from quorate.service.client.pace import Pace


class Greetings:
    """``needed`` greetings that are equal count. ``why``: what is in the way."""

    def __init__(self, addresses: Sequence[str], needed: int, pace: Pace, out: Outputs) -> None:
        self._needed = needed
        self._pace = pace
        self._out = out
        self._count = len(addresses)
        self._said: dict[int, Greeted] = {}
        self._dialling: set[int] = set()
        self._dial_at: dict[int, float] = {}
        self._delay_s = [pace.sweep_s] * self._count
        self.why = ""

    def start(self) -> None:
        """Dial them all."""
        self._dialling.update(range(self._count))
        self._out.dials.extend(range(self._count))

    def opened(self, at: int, greeted: Greeted) -> bool:
        """A node's greeting; whether enough say the same."""
        if at not in self._dialling:
            self._out.hangups.append((at, "nobody called", False))
            return False
        self._dialling.discard(at)
        self._said[at] = greeted
        self._out.hangups.append((at, "has heard what it asked for", False))
        if sum(other == greeted for other in self._said.values()) >= self._needed:
            for other in sorted(self._dialling):
                self._out.hangups.append((other, "others have said enough", True))
            return True
        if len(self._said) >= self._needed:
            for other in self._said:
                if other not in self._dialling and other not in self._dial_at:
                    self._dial_later(other)
        if len(self._said) == self._count:  # if they go on saying that, somebody must mend it
            said = list(self._said.values())
            if len({greeted.cluster for greeted in said}) > 1:
                self.why = f"the nodes do not agree on the name of their cluster: {said}"
            else:
                self.why = f"the nodes do not agree on how many liars they bear: {[bears for _, bears in said]}"
        return False

    def unreached(self, at: int, why: str) -> None:
        """No link, or none any more: again a little later."""
        if at not in self._dialling:
            return
        self._dialling.discard(at)
        self.why = f"{len(self._said)} nodes have answered, {self._needed} must; {why}"
        self._dial_later(at)

    def _dial_later(self, at: int) -> None:
        delay_s = self._delay_s[at]
        self._dial_at[at] = self._out.now + delay_s
        self._delay_s[at] = min(2 * delay_s, self._pace.redial_s_max)
        self._out.wake(self._dial_at[at])

    def leave(self) -> None:
        """Give up what is being dialled."""
        self._out.hangups.extend((at, "the client closes", True) for at in sorted(self._dialling))
        self._dialling.clear()
        self._dial_at.clear()

    def tick(self) -> None:
        """Dial again where it is time."""
        for at, due in list(self._dial_at.items()):
            if self._out.now >= due:
                del self._dial_at[at]
                self._dialling.add(at)
                self._out.dials.append(at)
            else:
                self._out.wake(due)
