"""PrimaryWatch (§4.4): a backup's timer for what its primary owes. If it runs out, the primary is suspected.

What is owed. The execution of the requests that wait here; the numbers up to the checkpoint at which others vote, which
an idle primary fills with null requests; and those that the view took over from earlier ones or has accepted. A timer
that watched requests alone would leave a change of members where it is if its primary dies while no client asks for
anything.

Patience. An honest primary takes requests in the order in which they reach it, from each node in turn (``turns.py``),
and a backlog may take longer than the timeout. So the timer starts again with each execution of a request that came
here before the oldest that still waits, or at most a timeout after it (messages overtake each other, and what was lost
is passed on after a beat). These are finitely many, whatever the primary prefers, so that it can starve nobody. The
paper's timer starts again with whatever is executed, which lets it starve one client for ever (deviation 5 of
``core.py``). What the sessions have answered meanwhile is owed no more (``waiting.py``). While this node's log is full,
it would take nothing from any primary, and watches none.

A node that a stable checkpoint has left behind suspects nobody as long as it catches up: what it waits for may be
executed already, and it would leave a view that the others stay in, and have no vote until they follow (deviation 9 of
``core.py``). If nothing comes for a timeout, it suspects as any: the others may need its vote to go on.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.parts.alarm import Alarm
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import PbftConfig
from quorate.protocols.pbft.view import CurrentView
from quorate.protocols.pbft.waiting import WaitingRequests

REQUEST = "request"


class PrimaryWatch:
    """Of this node, while it is a backup of a view that has begun."""

    def __init__(
        self,
        env: Env,
        config: PbftConfig,
        view: CurrentView,
        log: MessageLog,
        history: History,
        waiting: WaitingRequests,
    ) -> None:
        self._env = env
        self._beat_s = config.beat_s
        self._view = view
        self._log = log
        self._history = history
        self._waiting = waiting
        self._alarm = Alarm(env, REQUEST)
        self._number = -1  # of the view that was watched last
        self._executed = 0

    @property
    def is_owed(self) -> bool:
        """Whether there is anything that the primary has to see to."""
        return bool(self._waiting.pending) or self._history.executed < max(self._promised, self._log.accepted_to)

    @property
    def _promised(self) -> int:
        """The last number that is owed whether or not anybody asks for more."""
        return max(self._history.switch_at, self._view.reach)

    def look(self) -> None:
        """Once a step: the timer runs while something is owed, and starts again with progress."""
        view, executed = self._view, self._history.executed
        has_progress = self._waiting.take_progress() or (executed > self._executed and self._is_due(self._executed + 1))
        self._executed = executed
        is_none_watched = view.is_primary or view.is_changing or not view.is_member
        if is_none_watched or view.stalled is not None or self._log.is_full or not self.is_owed:
            self._alarm.stop()
            return
        if has_progress or not self._alarm.is_set or view.number != self._number:
            self._number = view.number
            self._alarm.put_off(view.timeout_s)

    def _is_due(self, sequence: int) -> bool:
        """Whether its execution is progress by itself. While a request waits, what the primary orders beside it is
        none: it may go on for ever."""
        return sequence <= self._promised or not self._waiting.pending

    def is_late(self) -> bool:
        """The timer ran out: whether what is owed took too long. A node that catches up looks again in a beat."""
        is_due = self._alarm.is_due()
        if is_due and self._catches_up:
            self._alarm.put_off(self._beat_s)
            return False
        return is_due

    @property
    def _catches_up(self) -> bool:
        """Whether a quorum has executed what this node has not, and this node gets it."""
        history, view = self._history, self._view
        return history.ahead is not None and self._env.now - history.came_at < view.timeout_s
