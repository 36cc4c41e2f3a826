"""Right and wrong uses of handles, for mypy alone: nobody runs this. ``# E: text`` is an error that mypy must give."""

# ruff: noqa
# fmt: off
from typing import assert_type

from quorate import Async, ConfigError, NoQuorum, QuorateError, Replicated, TooLarge
from quorate import command, connect, connect_many, read, replicate, replicate_many


class Counter(Replicated):
    def __init__(self) -> None:
        self.value = 0

    @command
    def add(self, amount: int = 1, *, twice: bool = False) -> int:
        self.value += 2 * amount if twice else amount
        return self.value

    @read
    def names(self, prefix: str) -> list[str]:
        return [prefix]


def blocking() -> None:
    replication = replicate(Counter, node=1, nodes={1: "127.0.0.1:7801"}, data="data", timeout_s=3)
    with replication as counter:
        assert_type(counter, Counter)
        assert_type(counter.add(5, twice=True), int)
        assert_type(counter.names("a"), list[str])
        assert_type(replication.local.names("a"), list[str])
        assert_type(replication.leader, int | None)
        counter.add("5")  # E: Argument 1 to "add" of "Counter" has incompatible type "str"; expected "int"
        counter.sub(5)  # E: "Counter" has no attribute "sub"
        text: str = counter.add()  # E: Incompatible types in assignment (expression has type "int", variable has type "str")
    with connect(Counter, "127.0.0.1:7802") as remote:
        assert_type(remote.add(), int)
    replicate(Counter, timout_s=3)  # E: Unexpected keyword argument "timout_s" for "replicate"; did you mean "timeout_s"?
    replicate(Counter, timeout_s="3")  # E: Argument "timeout_s" to "replicate" has incompatible type "str"; expected "float"
    replicate(Counter, nodes=["127.0.0.1:1"])  # E: Argument "nodes" to "replicate" has incompatible type "list[str]"
    replicate(int)  # E: Value of type variable "R" of "replicate" cannot be "int"
    connect(Counter)  # E: Missing positional argument "endpoints" in call to "connect"


async def awaited() -> None:
    async with replicate(Counter) as counter:
        assert_type(counter, Async[Counter])
        assert_type(await counter(Counter.add, 5), int)
        assert_type(await counter(Counter.names, prefix="a"), list[str])
        await counter(Counter.add, "5")  # E: Argument 2 to "__call__" of "Async" has incompatible type "str"; expected "int"
        await counter(str.upper)  # E: Argument 1 to "__call__" of "Async" has incompatible type
    async with connect(Counter, "127.0.0.1:7802") as remote:
        assert_type(await remote(Counter.add), int)


async def with_the_plugin() -> None:
    async with replicate(Counter) as counter:
        assert_type(await counter.add(5, twice=True), int)
        assert_type(await counter.names("a"), list[str])
        await counter.add("5")  # E: Argument 1 to "add" of "Counter" has incompatible type "str"; expected "int"
        await counter.sub(5)  # E: "Counter" has no method "sub" to await through its handle
        await counter.value  # E: "Counter" has no method "value" to await through its handle


async def many() -> None:
    with replicate_many({"hits": Counter}) as node:
        assert_type(node.handle("hits", Counter).add(), int)
        assert_type(node.handle_local("hits", Counter).names("a"), list[str])
        node.handle("hits", Counter).add("5")  # E: Argument 1 to "add" of "Counter" has incompatible type "str"
        node.handle("hits", int)  # E: Value of type variable "K" of "handle" of "_Many" cannot be "int"
    async with connect_many({"hits": Counter}, "127.0.0.1:7802") as remote:
        assert_type(await remote.handle_async("hits", Counter).add(), int)


def errors() -> None:
    try:
        raise TooLarge("text", took_effect=True)
    except TooLarge as error:
        assert_type(error.took_effect, bool)
    except (NoQuorum, QuorateError, ConfigError):
        pass
