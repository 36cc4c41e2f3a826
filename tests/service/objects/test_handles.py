"""The blocking handle: the marked methods and nothing else; what it must not be used for it says before it does it."""

import ast
import asyncio
import copy
import inspect
import sys
import time
import types
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

from quorate import BlocksLoop, Client, CommandFailed, NotRunning, OutcomeUnknown, TooLarge, replicate
from quorate.service.objects import Replication

from tests.service.objects.kinds import GATE, Counter


@pytest.fixture(scope="module")
def replication() -> Iterator[Replication[Counter]]:
    with (found := replicate(Counter)):
        yield found


@pytest.fixture
def counter(replication: Replication[Counter]) -> Counter:
    return replication.start()


def test_calls_are_checked_where_they_are_made(counter: Counter) -> None:
    before = counter.get()
    assert counter.add(5) == before + 5
    assert counter.add(amount=2, twice=True) == before + 9
    for args, kwargs in (((1, 2, 3), {}), ((), {"much": 1}), ((1,), {"amount": 1})):
        with pytest.raises(TypeError, match=r"^Counter\.add: "):
            counter.add(*args, **kwargs)
    assert counter.get() == before + 9


def test_an_attribute_that_is_no_marked_method_says_what_to_write(counter: Counter) -> None:
    with pytest.raises(AttributeError, match=r"Counter\.n is not marked .* the state is on the nodes, .*@read"):
        _ = counter.n
    with pytest.raises(AttributeError, match=r"Counter\.n cannot be set .* write a @command method"):
        counter.n = 5
    with pytest.raises(AttributeError, match=r"Counter\.n cannot be deleted .* write a @command method"):
        del counter.n
    with pytest.raises(AttributeError, match=r"Counter\.reset is not marked .* a handle calls only those"):
        counter.reset()
    assert [hasattr(counter, name) for name in ("add", "get", "n", "reset", "nothing")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_it_looks_like_what_it_is(counter: Counter) -> None:
    assert repr(counter) == str(counter) == "<replication of Counter>"
    assert [name for name in dir(counter) if not name.startswith("__")] == [
        "add",
        "blob",
        "fail",
        "get",
        "much",
        "wait",
    ]
    assert str(inspect.signature(counter.add)) == "(amount: int = 1, *, twice: bool = False) -> int"
    assert counter.add.__doc__ == "Add to it."
    assert type(counter).__name__ == "Counter"


def test_marked_special_methods_work(counter: Counter) -> None:
    assert len(counter) == counter.get()  # type: ignore[arg-type]


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, ForkingPickler.dumps])
def test_it_is_neither_copied_nor_pickled(counter: Counter, how: object) -> None:
    with pytest.raises(
        TypeError, match=r"a handle of Counter is neither copied nor pickled.*connect\(Counter"
    ) as caught:
        how(counter)  # type: ignore[operator]
    assert "@read" in str(caught.value)


def test_in_a_coroutine_it_refuses_before_anything_is_sent(counter: Counter, replication: Replication[Counter]) -> None:
    before = counter.get()

    async def main() -> None:
        with pytest.raises(BlocksLoop, match=r"nothing was sent.*async with"):
            await counter.add()  # type: ignore[misc]
        with pytest.raises(BlocksLoop, match="async with"):
            counter.add()
        for call in (replication.start, replication.wait_ready, replication.local.get):
            with pytest.raises(BlocksLoop):
                call()
        with pytest.raises(BlocksLoop), replicate(Counter):
            raise AssertionError("it started")
        assert await asyncio.to_thread(counter.add) == before + 1
        assert replication.is_leader  # waits for nothing

    asyncio.run(main())
    assert counter.get() == before + 1


def test_the_blocking_client_refuses_in_a_coroutine_too() -> None:
    async def main() -> None:
        with Client("127.0.0.1:9", timeout_s=5) as client, pytest.raises(BlocksLoop, match="AsyncClient"):
            client.put(b"a", b"b")

    asyncio.run(main())


def test_a_cell_of_a_notebook_may_block_and_its_coroutines_may_not(counter: Counter, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    cell = {"__name__": "__main__", "counter": counter, "found": []}

    def run(source: str) -> Any:
        return types.FunctionType(compile(source, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), cell)()

    async def main() -> None:
        before = await asyncio.to_thread(counter.get)
        run("found.append(counter.add())")
        run("def f():\n    return counter.add()\nfound.append(f())")
        assert cell["found"] == [before + 1, before + 2]
        with pytest.raises(BlocksLoop):
            await run("await counter.add()")
        asyncio.get_running_loop().call_soon(lambda: cell["found"].append(refusal_of(counter)))
        await asyncio.sleep(0)
        assert cell["found"][-1] is BlocksLoop

    asyncio.run(main())


def refusal_of(counter: Counter) -> type[BaseException] | None:
    try:
        counter.add()
    except BlocksLoop as error:
        return type(error)
    return None


def test_a_call_ends_in_time_while_the_node_is_busy() -> None:
    with (replication := replicate(Counter, timeout_s=0.3)) as counter:
        assert counter.add() == 1
        GATE.clear()
        try:
            began = time.monotonic()
            with pytest.raises(OutcomeUnknown, match=r"within 0\.3 s.*busy.*may still take effect"):
                counter.wait()
            assert time.monotonic() - began < 20.0, "not when the node has time again"
        finally:
            GATE.set()
        replication.wait_ready(5)
        assert counter.get() == 2, "it took effect, which nobody could know"


def test_too_large_says_whether_the_command_took_effect(counter: Counter) -> None:
    before = counter.get()
    with pytest.raises(TooLarge, match="the command took effect, but the answer has 2500") as caught:
        counter.blob(2_500_000)
    assert caught.value.took_effect
    assert counter.get() == before + 1
    with pytest.raises(TooLarge, match=r"the answer has 2500.* ask for less at once") as caught:
        counter.much(2_500_000)
    assert not caught.value.took_effect
    assert "took effect" not in str(caught.value)


def test_what_a_command_raised_is_raised_at_the_caller(counter: Counter) -> None:
    before = counter.get()
    for name, error in (("key", KeyError), ("stop", CommandFailed), ("exit", CommandFailed)):
        with pytest.raises(error, match=name):
            counter.fail(name)
    assert counter.get() == before


def test_the_class_is_checked_when_it_is_given() -> None:
    class Forgotten:
        def add(self) -> None: ...

    with pytest.raises(
        TypeError, match=r"Forgotten is not a subclass of Replicated: write class Forgotten\(Replicated\)"
    ):
        replicate(Forgotten)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="is not a class: give the class itself"):
        replicate(Counter())  # type: ignore[arg-type]


def test_a_call_before_the_start_or_after_the_end_says_what_to_do() -> None:
    replication = replicate(Counter)
    with pytest.raises(NotRunning, match="replication of Counter is not running: use it in a with block"):
        replication.local.get()
    with replication as counter:
        counter.add()
    with pytest.raises(NotRunning, match="with block"):
        counter.add()
