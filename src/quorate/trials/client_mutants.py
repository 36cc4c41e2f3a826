"""The client's core with a planted bug. The simulator's clients and people's are one code, so one patch breaks both."""

from __future__ import annotations

from quorate.service.client.call import ClientCall
from quorate.service.client.core import ClientCore
from quorate.service.client.errors import QuorateError
from quorate.service.client.outputs import Silence
from quorate.service.client.session import ClientSession
from quorate.sim.mutant import Mutant


class TwiceSession(ClientSession):
    """Gives each serial to two commands, of which the second gets the answer of the first."""

    __slots__ = ("_is_second",)

    def __init__(self, nonce: int) -> None:
        super().__init__(nonce)
        self._is_second = False

    def command(self, operation: bytes) -> tuple[int, bytes]:
        """As the base says, but for the serial."""
        if self._is_second:
            self._serial -= 1
        self._is_second = not self._is_second
        return super().command(operation)


class UsesSerialsTwice(ClientCore):
    """Breaks §6.3 of the dissertation: a serial names one command."""

    def new_session(self) -> ClientSession:
        """One whose serials are not unique."""
        return TwiceSession(self._rng.getrandbits(60))


class CallsUnknownDefinite(ClientCore):
    """Says that nothing happened when it does not know."""

    def silent(self, call: ClientCall, silence: Silence) -> QuorateError:
        """As if nothing had been sent."""
        _, is_refused, reason = silence
        return super().silent(call, (False, is_refused, reason))


class BelievesLiars(ClientCore):
    """Breaks §4.2 of Castro and Liskov: of f equal answers all may be lies."""

    def needed(self, faults: int) -> int:
        """One fewer than it takes."""
        return max(faults, 1)


MUTANTS = (
    Mutant("serial-twice", "the client gives a serial to two commands of its session", client=UsesSerialsTwice),
    Mutant("unknown-as-failed", "the client reports an unknown outcome as a failure", client=CallsUnknownDefinite),
)
VOTING_MUTANTS = (
    Mutant("believes-f", "the client believes what f nodes say, all of which may lie", client=BelievesLiars, lies=True),
)
"""Where clients outvote liars."""
