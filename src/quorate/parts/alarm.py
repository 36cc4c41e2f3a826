"""Alarm: a timer that is put off far more often than it runs out.

An election timer is reset by every message of the leader. To tell the shell each time would cost more than the message,
so ``put_off`` only moves a deadline; the timer that is set runs out early, sees the deadline and sets itself again.
"""

from quorate.kernel import Env, Key


class Alarm:
    """One timer of a core. The core passes ``on_timer(key)`` on to ``is_due``."""

    __slots__ = ("_env", "_set", "deadline", "key")

    def __init__(self, env: Env, key: Key) -> None:
        self._env = env
        self.key = key
        self.deadline: float | None = None
        """When it rings, by the local clock; None: not at all."""
        self._set: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether the alarm will ring."""
        return self.deadline is not None

    def put_off(self, delay: float) -> None:
        """Ring ``delay`` seconds from now instead, whatever was set before."""
        self.deadline = deadline = self._env.now + delay
        # A timer that runs out too early is harmless, one that runs out too late is not.
        if self._set is None or deadline < self._set:
            self._set = deadline
            self._env.set_timer(self.key, delay)

    def stop(self) -> None:
        """Do not ring. The timer that is set runs out and finds nothing due."""
        self.deadline = None

    def is_due(self) -> bool:
        """The timer ran out: True if the alarm rings now, else it has set itself again."""
        self._set = None
        deadline, now = self.deadline, self._env.now
        if deadline is None:
            return False
        if now < deadline:
            self._set = deadline
            self._env.set_timer(self.key, deadline - now)
            return False
        self.deadline = None
        return True
