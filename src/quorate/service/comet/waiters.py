"""Waiters: those who wait for an answer about one thing; all are told the same, and only the first has it asked for."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiters(Generic[T]):
    """By what they wait for, which is bytes."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, list[asyncio.Future[T]]] = {}

    def wait(self, about: bytes) -> tuple[asyncio.Future[T], bool]:
        """The answer to come, and whether nobody waited for it before."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(about, [])
        waiting.append(answer)
        return answer, len(waiting) == 1

    def tell(self, about: bytes, answer: T) -> None:
        """All who wait for it."""
        for waiting in self._waiting.pop(about, ()):
            if not waiting.done():
                waiting.set_result(answer)

    def cancel(self) -> None:
        """Nobody is told any more."""
        for some in self._waiting.values():
            for waiting in some:
                waiting.cancel()
        self._waiting.clear()
