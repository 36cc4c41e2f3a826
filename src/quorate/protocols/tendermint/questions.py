"""Questions: what a chain's app asks by jobs, and has no answer to yet. What could not be done is asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.kernel import Env, Failed, Key


class Questions:
    """Each is a job and what it is about, which is whatever helps the one who asks. ``name`` tells their keys apart.

    ``work``: the verb that has a job done, if it is not ``env.work``.
    """

    def __init__(self, env: Env, name: str = "ask", work: Callable[[Key, Any], None] | None = None) -> None:
        self._work = work or env.work
        self._name = name
        self._asked: dict[int, tuple[Any, Any]] = {}
        self._failed: list[tuple[Any, Any]] = []
        self._number = 0

    def ask(self, job: Any, about: Any = None) -> None:
        """Have it done, after those that were asked before."""
        self._number += 1
        self._asked[self._number] = (job, about)
        self._work((self._name, self._number), job)

    def is_of(self, key: Key) -> bool:
        """Whether it is the key of one of these."""
        return isinstance(key, tuple) and key[0] == self._name

    def done(self, key: Key, result: Any) -> tuple[Any, Any] | None:
        """The job that ended with this result, and what it is about; None: it is not one of these, or failed."""
        asked = self._asked.pop(key[1], None) if isinstance(key, tuple) and self.is_of(key) else None
        if asked is not None and isinstance(result, Failed):
            self._failed.append(asked)
            return None
        return asked

    def forget_failed(self) -> None:
        """Nobody wants to know any more."""
        self._failed.clear()

    def beat(self) -> None:
        """Ask again what failed."""
        failed, self._failed = self._failed, []
        for job, about in failed:
            self.ask(job, about)
