"""Where nodes may lie nothing is granted for a time, and what needs no time works."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.machines.objects.machine import Replicated
from quorate.objects import Election, Lock, NoTrustedTime, PriorityQueue, Queue, RateLimiter

from tests.objects.replicas import Pair


@pytest.mark.parametrize(
    ("kind", "method", "args"),
    [
        (Queue, "take", []),
        (PriorityQueue, "take", [10]),
        (Lock, "acquire", ["a"]),
        (Election, "campaign", ["a"]),
        (RateLimiter, "allow", ["a"]),
    ],
)
def test_what_depends_on_the_time_is_refused(kind: type[Replicated], method: str, args: list[Any]) -> None:
    with pytest.raises(NoTrustedTime, match="leases and rates need a clock that all believe"):
        Pair(kind, trusts_members=False).call(method, *args)
    Pair(kind).call(method, *args)


def test_what_needs_no_time_works() -> None:
    queue = Pair(Queue, trusts_members=False)
    assert queue.call("put", "a") == 1
    assert queue.call("waiting") == 1
