"""The handle of coroutines: awaited, cancelled, bounded in time; its calls leave the program's loop free."""

import asyncio
import time

import pytest

from quorate import Async, CommandFailed, NotRunning, OutcomeUnknown, connect, replicate

from tests.runtime.servers import run, until
from tests.service.objects.kinds import ENTERED, GATE, QUICK, Counter, addresses


def test_calls_are_awaited_and_may_be_many_at_once() -> None:
    async def main() -> None:
        async with replicate(Counter) as counter:
            assert isinstance(counter, Async)
            assert await counter.add(5) == 5
            assert await counter(Counter.add, amount=2, twice=True) == 9
            assert sorted(await asyncio.gather(*(counter.add() for _ in range(50)))) == list(range(10, 60))
            assert await counter.get() == await counter.__len__() == 59
            assert repr(counter) == "<async replication of Counter>"
            with pytest.raises(TypeError, match=r"Counter\.add: too many"):
                counter.add(1, 2)
            with pytest.raises(TypeError, match="is not a marked method"):
                counter(Counter.reset)
            with pytest.raises(AttributeError, match=r"Counter\.n is not marked"):
                _ = counter.n
            assert await counter.get() == 59
            for name, error in (("key", KeyError), ("stop", CommandFailed), ("exit", CommandFailed)):
                with pytest.raises(error, match=name):
                    await counter.fail(name)
        with pytest.raises(NotRunning):
            await counter.add()

    run(main())


def test_a_call_that_is_cancelled_or_late_leaves_the_handle_usable() -> None:
    async def main() -> None:
        async with (replication := replicate(Counter, timeout_s=0.3)) as counter:
            await replication.ready()
            GATE.clear()
            ENTERED.clear()
            try:
                call = asyncio.create_task(counter.wait())
                await until(ENTERED.is_set)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                began = time.monotonic()
                with pytest.raises(OutcomeUnknown, match=r"within 0\.3 s"):
                    await counter.add()
                assert time.monotonic() - began < 20.0, "not when the node has time again"
            finally:
                GATE.set()
            await replication.ready(5)
            n = await counter.add()
            assert n in (2, 3), "the late one has taken effect or not: that is what an unknown outcome says"
            assert await counter.get() == n

    run(main())


def test_the_loop_of_the_program_runs_on_while_the_node_is_busy() -> None:
    async def main() -> None:
        async with (replication := replicate(Counter)) as counter:
            await replication.ready()
            GATE.clear()
            call = asyncio.create_task(counter.wait())
            try:
                for _ in range(20):
                    await asyncio.sleep(0.001)
                    assert replication.is_leader
                assert not call.done(), "the loop did not wait for the node"
            finally:
                GATE.set()
            assert await call == 1

    run(main())


def test_a_handle_belongs_to_its_loop() -> None:
    async def use(counter: Async[Counter]) -> None:
        await counter.add()

    async def main() -> None:
        async with (replication := replicate(Counter)) as counter:
            with pytest.raises(NotRunning, match="another event loop"):
                await asyncio.to_thread(asyncio.run, use(counter))
            with pytest.raises(NotRunning, match="async with"):
                await asyncio.to_thread(replication.wait_ready)
            with pytest.raises(RuntimeError, match=r"runs in .* already"):
                async with replication:
                    raise AssertionError("it runs twice")

    run(main())


def test_a_start_that_fails_or_is_cancelled_leaves_nothing(tmp_path) -> None:
    nodes = addresses(1)

    async def main() -> None:
        async with replicate(Counter, nodes=nodes, data=tmp_path):
            with pytest.raises(Exception, match="this one, which runs another node"):
                async with replicate(Counter, nodes=addresses(1), data=tmp_path):
                    raise AssertionError("two nodes on one folder")
        task = asyncio.create_task(replicate(Counter, nodes=nodes, data=tmp_path).__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with replicate(Counter, nodes=nodes, data=tmp_path) as counter:
            assert await counter.add() == 1

    run(main())


def test_three_nodes_and_a_connection_on_one_loop(tmp_path) -> None:
    nodes = addresses(3)

    async def main() -> None:
        parts = [
            replicate(Counter, node=node, nodes=nodes, data=tmp_path / f"{node}", protocol_options=QUICK)
            for node in nodes
        ]
        handles = await asyncio.gather(*(part.__aenter__() for part in parts))
        try:
            await asyncio.gather(*(part.ready() for part in parts))
            assert sorted(await asyncio.gather(*(handle.add() for handle in handles))) == [1, 2, 3]
            endpoints = ",".join(part.endpoint for part in parts)
            async with (remote := connect(Counter, endpoints)) as counter:
                assert await counter.add(10) == 13
                assert {status.leader for _, status in await remote.statuses_async()} == {parts[0].leader}
            leaders = [part for part in parts if part.is_leader]
            assert [part.status().node for part in leaders] == [parts[1].leader]
            async with asyncio.timeout(60):
                while [await part.local_async.get() for part in parts] != [13] * 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            await asyncio.gather(*(part.__aexit__(None, None, None) for part in parts))

    run(main())
