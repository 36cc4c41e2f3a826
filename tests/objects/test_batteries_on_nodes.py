"""Batteries on real nodes: what they raise is raised again as itself, and a restart keeps what they hold."""

from pathlib import Path

import pytest

from quorate.objects import Counter, Full, Queue, RateLimiter, ReplicatedDict, StaleToken
from quorate.service.objects import replicate

from tests.ports import free_pairs


def test_errors_are_raised_as_themselves() -> None:
    with replicate(Queue) as queue:
        queue.configure(1)
        assert queue.put({"build": [17]}) == 1
        with pytest.raises(Full, match="size_max is 1") as full:
            queue.put("another")
        assert type(full.value) is Full
        with pytest.raises(StaleToken, match="token 99 stands for no job"):
            queue.ack(99)
        assert queue.waiting() == 1


def test_a_lease_ends_by_the_clock_of_real_nodes() -> None:
    with replicate(Queue) as queue:
        queue.put("job")
        first = queue.take(lease_s=0.2)
        assert first is not None
        second = None
        while second is None:
            second = queue.take(lease_s=60)
        assert (second.token, second.job, second.attempt) == (2, "job", 2)
        with pytest.raises(StaleToken, match="token 1"):
            queue.ack(first.token)
        queue.ack(second.token)
        assert queue.take() is None


def test_of_300_requests_at_a_limit_of_100_exactly_100_pass() -> None:
    with replicate(RateLimiter) as limiter:
        assert sum(limiter.allow("client") for _ in range(300)) == 100


def test_a_restart_keeps_what_is_stored(tmp_path: Path) -> None:
    nodes = {1: f"127.0.0.1:{free_pairs(1)[0]}"}
    with replicate(ReplicatedDict, data=tmp_path / "data", nodes=nodes, node=1) as entries:
        entries.update({("a", 1): {"x": [1, 2]}, "b": None})
        assert entries.compare_and_set("b", None, b"bytes")
    with replicate(ReplicatedDict, data=tmp_path / "data", nodes=nodes, node=1) as entries:
        assert entries.items() == [(("a", 1), {"x": [1, 2]}), ("b", b"bytes")]


def test_many_add_and_none_is_lost() -> None:
    with replicate(Counter) as counter:
        for _ in range(20):
            counter.add(2)
        assert counter.get() == 40
