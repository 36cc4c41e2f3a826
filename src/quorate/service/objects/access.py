"""ObjectAccess: the way from handles to the nodes. What ``replicate`` and ``connect`` give is one each.

How it works. A call is checked and encoded where it is made, travels over a client's connection, and its outcome is
decoded where it was made. Between ``with`` and its end the connection is on an event loop in a thread, and calls block;
between ``async with`` and its end it is on the program's own loop, and calls are awaited. All the rest is the same.
"""

from __future__ import annotations

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self, TypeAlias, TypeVar

from quorate.machines.objects.machine import Replicated
from quorate.service.client import aio
from quorate.service.client.errors import NodeFailed, NoQuorum, NotRunning, OutcomeUnknown, Unreachable
from quorate.service.client.loop_thread import LoopThread, check_process, refuse_on_loop
from quorate.service.objects.handles import Async, handle_of
from quorate.service.objects.methods import Methods
from quorate.service.objects.settings import checked_timeout

R = TypeVar("R", bound=Replicated)
Arguments: TypeAlias = tuple[Any, ...]
Keywords: TypeAlias = Mapping[str, Any]
AskOf: TypeAlias = Callable[[Methods, str, Arguments, Keywords], Any]
T = TypeVar("T")
GRACE_S: Final = 0.5
"""How much later than the connection the caller of a blocking call gives up: only if the loop does not run."""
NO_QUESTION: Final = b""
"""A read that every state machine answers with an error: it tells that reads are answered, and nothing else."""


class Line:
    """An open connection: ``thread`` runs its loop, or None: the program does."""

    def __init__(self, connection: aio.Connection, loop: asyncio.AbstractEventLoop, thread: LoopThread | None) -> None:
        self.connection = connection
        self.loop = loop
        self.thread = thread
        self.pid = os.getpid()


class ObjectAccess(ABC, Generic[R]):
    """Use as a context manager, ``with`` or ``async with``; its value is the handle. Or call ``start`` and ``stop``."""

    what: ClassVar[str]
    """What it is called in errors."""

    def __init__(self, kinds: Mapping[str, type[Replicated]], timeout_s: float) -> None:
        """Raises TypeError for a class that cannot be replicated, ConfigError for a timeout that is none.

        ``kinds``: by the object's name, which is empty if there is one object.
        """
        self._methods = {name: Methods(kind, name) for name, kind in kinds.items()}
        self._title = ", ".join(name or methods.kind.__name__ for name, methods in self._methods.items())
        self._timeout_s = checked_timeout(timeout_s)
        self._line: Line | None = None
        self._lock = threading.Lock()
        self._handle: R = self._blocking()
        self._async: Async[R] = self._awaited()

    def _blocking(self) -> Any:
        """The value of a with block."""
        return self._handle_of("")

    def _awaited(self) -> Any:
        """The value of an ``async with`` block."""
        return self._async_of("")

    def _handle_of(self, name: str, is_local: bool = False) -> Any:
        methods = self._methods[name]
        ask = self._local(methods, self._ask_and_wait_here) if is_local else self._ask_and_wait
        text = f"<{'local reads' if is_local else self.what} of {methods.title}>"
        return handle_of(methods.kind, methods, partial(ask, methods), text)

    def _async_of(self, name: str, is_local: bool = False) -> Any:
        methods = self._methods[name]
        ask = self._local(methods, self._ask_here) if is_local else self._ask
        text = f"<async {'local reads' if is_local else self.what} of {methods.title}>"
        return Async(methods, partial(ask, methods), text)

    # --- what differs ---

    @abstractmethod
    def _connection(self) -> aio.Connection:
        """One that is not open yet."""

    @abstractmethod
    def _raise_thread(self, is_for_calls: bool) -> LoopThread | None:
        """What must run before there is a connection, and the thread on which it may be. Blocks."""

    @abstractmethod
    def _end_thread(self) -> None:
        """The opposite. Blocks."""

    @abstractmethod
    def _read_here(self, line: Line, query: bytes) -> Coroutine[Any, Any, bytes]:
        """A read that asks one node, whatever it knows; awaited on the loop of the connection."""

    def _failure(self) -> NodeFailed | None:
        """Why no call can be made any more."""
        return None

    # --- with ---

    def start(self) -> R:
        """The handle; its calls block until a quorum of nodes is there, up to ``timeout_s``.

        Once started, this returns the same handle again; after ``stop`` it starts anew. Raises BlocksLoop in a
        coroutine, Forked in a fork of the process where it runs; StorageError, OSError where a node cannot start.
        """
        refuse_on_loop("write `async with` in a coroutine")
        if self._line is not None:
            check_process(self._line.pid, self.what)
        with self._lock:
            if self._line is None:
                thread = self._raise_thread(True)
                assert thread is not None
                try:
                    connection = self._connection()
                    thread.run(connection.__aenter__())
                except BaseException:
                    self._end_thread()
                    raise
                self._line = Line(connection, thread.loop, thread)
            elif self._line.thread is None:
                raise self._is_taken("an `async with` block")
            return self._handle

    def stop(self) -> None:
        """End it in order. A second call does nothing; nor does one in a fork of the process where it runs."""
        line = self._line
        if line is not None and line.pid != os.getpid():
            return
        with self._lock:
            line, self._line = self._line, None
            try:
                if line is not None and line.thread is not None and not line.thread.is_over:
                    line.thread.run(line.connection.close())
            finally:
                self._end_thread()

    def __enter__(self) -> R:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- async with ---

    async def __aenter__(self) -> Async[R]:
        if self._line is not None:
            check_process(self._line.pid, self.what)
            raise self._is_taken("a with block")
        starting = asyncio.ensure_future(asyncio.to_thread(self._raise_thread, False))
        try:
            await asyncio.shield(starting)
            connection = self._connection()
            await connection.__aenter__()
        except BaseException:
            # A start is not stopped in the middle; whoever cancels it waits until it can be undone.
            await asyncio.wait([starting])
            await asyncio.to_thread(self._end_thread)
            raise
        self._line = Line(connection, asyncio.get_running_loop(), None)
        return self._async

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        line, self._line = self._line, None
        if line is None or line.pid != os.getpid():
            return
        try:
            await line.connection.close()
        finally:
            await asyncio.shield(asyncio.to_thread(self._end_thread))

    # --- beside the handle ---

    @property
    def local(self) -> R:
        """A handle for reads that one node answers by itself, at once, from a state that may be old. It blocks."""
        handle: R = self._handle_of("", is_local=True)
        return handle

    @property
    def local_async(self) -> Async[R]:
        """The same for coroutines."""
        handle: Async[R] = self._async_of("", is_local=True)
        return handle

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Block until the cluster answers, so long at most (None: ``timeout_s`` of this object).

        Raises NoQuorum, Unreachable, NodeFailed; Refused where the nodes cannot be asked.
        """
        line = self._running()
        refuse_on_loop("await ready() in a coroutine")
        within_s = self._timeout_s if timeout_s is None else checked_timeout(timeout_s)
        self._wait(line, self._until_ready(line, within_s), within_s, is_read=True)

    async def ready(self, timeout_s: float | None = None) -> None:
        """As ``wait_ready``, in a coroutine."""
        line = self._running()
        self._check_loop(line)
        await self._until_ready(line, self._timeout_s if timeout_s is None else checked_timeout(timeout_s))

    async def _until_ready(self, line: Line, timeout_s: float) -> None:
        why = ""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        await line.connection.query(NO_QUESTION)
                        return
                    except NotRunning:
                        raise
                    except (Unreachable, NoQuorum) as error:  # it has taken its time
                        why = str(error)
        except TimeoutError:
            why = why or line.connection.core.why or "no quorum of nodes was found"
            raise NoQuorum(f"not ready within {timeout_s:g} s: {why}") from None

    # --- calls ---

    def _ask_and_wait(self, methods: Methods, name: str, args: Arguments, kwargs: Keywords) -> Any:
        line = self._running()
        refuse_on_loop("use `async with` and await, or asyncio.to_thread")
        payload, is_read = methods.pack(name, args, kwargs), name in methods.reads
        return methods.unpack(self._wait(line, self._send(line, is_read, payload), self._timeout_s, is_read))

    def _ask(self, methods: Methods, name: str, args: Arguments, kwargs: Keywords) -> Coroutine[Any, Any, Any]:
        line = self._running()
        self._check_loop(line)
        return self._outcome(line, methods, name in methods.reads, methods.pack(name, args, kwargs))

    async def _outcome(self, line: Line, methods: Methods, is_read: bool, payload: bytes) -> Any:
        return methods.unpack(await self._send(line, is_read, payload))

    async def _send(self, line: Line, is_read: bool, payload: bytes) -> bytes:
        return await (line.connection.query(payload) if is_read else line.connection.command(payload))

    def _ask_and_wait_here(self, methods: Methods, name: str, args: Arguments, kwargs: Keywords) -> Any:
        line = self._running()
        refuse_on_loop("use local_async and await")
        payload = methods.pack(name, args, kwargs)
        return methods.unpack(self._wait(line, self._read_here(line, payload), self._timeout_s, True))

    async def _ask_here(self, methods: Methods, name: str, args: Arguments, kwargs: Keywords) -> Any:
        line = self._running()
        self._check_loop(line)
        return methods.unpack(await self._read_here(line, methods.pack(name, args, kwargs)))

    def _local(self, methods: Methods, ask: AskOf) -> AskOf:
        def ask_reads(_: Methods, name: str, args: Arguments, kwargs: Keywords) -> Any:
            if name not in methods.reads:
                kind = methods.kind.__name__
                raise AttributeError(f"{kind}.{name} is a @command: only @read methods are answered here")
            return ask(methods, name, args, kwargs)

        return ask_reads

    def _wait(self, line: Line, work: Coroutine[Any, Any, T], timeout_s: float, is_read: bool) -> T:
        if line.thread is None:
            work.close()
            raise NotRunning(f"this {self.what} runs in an `async with` block: await the calls of its handle there")
        try:
            return line.thread.run(work, timeout_s + GRACE_S)
        except TimeoutError:
            text = f"no answer within {timeout_s:g} s: the node in this process is busy, perhaps with a long command"
            raise (NoQuorum(text) if is_read else OutcomeUnknown(f"{text}; it may still take effect")) from None

    def _running(self) -> Line:
        line = self._line
        if line is None:
            text = "is not running: use it in a with block, or call start()"
            raise NotRunning(f"the {self.what} of {self._title} {text}")
        check_process(line.pid, self.what)
        if (failure := self._failure()) is not None:
            raise NodeFailed(str(failure)) from failure.__cause__
        return line

    def _check_loop(self, line: Line) -> None:
        if line.thread is not None:
            raise NotRunning(f"this {self.what} runs in a with block, whose calls block: write `async with` to await")
        if asyncio.get_running_loop() is not line.loop:
            raise NotRunning(f"this {self.what} belongs to another event loop: use it there, or make one here")

    def _is_taken(self, by: str) -> RuntimeError:
        return RuntimeError(f"this {self.what} runs in {by} already: end that first, or make another")

    def _cut(self, why: str) -> None:
        """Have the calls that are under way end now. Callable in any thread."""
        line = self._line
        if line is not None and not line.loop.is_closed():
            line.loop.call_soon_threadsafe(_Cut(line.connection, why))

    def __repr__(self) -> str:
        state = "running" if self._line is not None else "not running"
        return f"<{type(self).__name__} of {self._title}, {state}>"


class _Cut:
    """Closes a connection, on its loop; remembers the task, which the loop does not."""

    def __init__(self, connection: aio.Connection, why: str) -> None:
        self._connection = connection
        self._why = why
        self._task: asyncio.Task[None] | None = None

    def __call__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._connection.close(self._why))
        self._task.add_done_callback(self._forget)
        return self

    def _forget(self, _: asyncio.Task[None]) -> None:
        self._task = None
