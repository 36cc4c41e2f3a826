"""LockState: lockedValue and validValue of the paper at the open height, as they are kept over a crash.

The rules have both by name (``height.py``). Here are the blocks, with the prevotes that make them valid. A lock is a
valid value too. Durable, each before what rests on it leaves: ``Locked`` and ``Valid``.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.kernel import Env
from quorate.protocols.tendermint.messages import Locked, Valid


class LockState:
    """Of one height at a time. The attributes may be read; they change by the methods."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self.lock: Locked | None = None
        self.valid: Valid | None = None

    def lock_on(self, locked: Locked) -> None:
        """It is valid as well."""
        self.lock = self.valid = locked
        self._env.persist(locked)

    def keep(self, valid: Valid) -> None:
        """A valid value of a later round. The lock stays."""
        self.valid = valid
        self._env.persist(valid)

    def clear(self) -> None:
        """The height is decided."""
        self.lock = self.valid = None

    def restore(self, record: Valid) -> None:
        """One durable record of the open height."""
        self.valid = record
        if isinstance(record, Locked):
            self.lock = record

    def records(self) -> Iterator[Valid]:
        """Those that replace all before."""
        if self.lock is not None:
            yield self.lock
        if self.valid is not None and self.valid is not self.lock:
            yield self.valid
