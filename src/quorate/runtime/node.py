"""Node: a Host and an App on asyncio, with a journal, snapshots and peers. The real counterpart of a simulated node.

How it works. Whatever comes in (frames of peers, submissions of the App, timers, finished jobs) is put into one list;
once an iteration of the loop, all of it becomes one ``Host.step``, one journal frame and one write to each peer. The
Barrier keeps what rests on that frame until the journal's thread reports it durable. Submissions that come while the
journal is busy, or while the batch before them is undecided (for GATHER_S at most), wait and go together: many clients
thus share one turn, one fsync and one message a peer, the more the more there are.

What stops a node: a journal that fails, a snapshot that the journal needs and that is damaged, and our own mistakes: a
node in doubt about its own state must not go on talking. ``wait`` raises the reason.
A full disk does not: it stalls the journal, the core and the App are told, and both go on when there is space.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from quorate.kernel import (
    App,
    Asked,
    Barrier,
    Blame,
    Client,
    Core,
    Done,
    Env,
    Fired,
    Host,
    Input,
    Job,
    Key,
    Record,
    Send,
    Stalled,
    Submitted,
    Timer,
    Turn,
)
from quorate.kernel import Path as CorePath
from quorate.kernel.inputs import Received
from quorate.parts.keys import Keyring
from quorate.parts.replicated import Restored, TakeSnapshot
from quorate.runtime.codec import Codec, MalformedMessage
from quorate.runtime.errors import StorageError
from quorate.runtime.files import Identity
from quorate.runtime.greeting import Told
from quorate.runtime.jobs import Jobs
from quorate.runtime.journal import Journal
from quorate.runtime.peers import Peers
from quorate.runtime.snapshots import SnapshotStore

log = logging.getLogger("quorate.node")

GATHER_S = 0.005
"""How long submissions may wait for the batch before them. Longer than a decision takes on a local network, and short
against one that crosses a continent, where batches are to overlap."""
CHECKPOINT_AFTER_BYTES = 32 << 20
"""A journal that has grown by this much is replaced by a checkpoint when the next snapshot is done."""
SUBMITTED_BYTES_MAX = 4 << 20
SUBMITTED_VALUES_MAX = 8192
"""What one turn takes of the App; more waits for the next. What a core makes of it, be it a record or a message, must
fit a journal frame of 64 MiB and a frame to a peer of 16 MiB, and a leader may get as much of each follower at once."""


class Node:
    """One member of a cluster. Make it, ``await start()``, later ``await stop()``.

    ``make`` builds the core; ``codec`` knows its messages; ``addresses`` are those of the peer ports, by node;
    ``reply`` writes an App's response to a client; ``keyring`` is there where the protocol's nodes sign.
    """

    def __init__(
        self,
        *,
        node: int,
        cluster: str,
        protocol: str,
        addresses: Mapping[int, tuple[str, int]],
        make: Callable[[Env], Core],
        codec: Codec,
        app: App,
        reply: Callable[[Client, Any], None],
        data: Path,
        keyring: Keyring | None = None,
    ) -> None:
        self.id = node
        self.app = app
        app.port = self
        self.host = Host(make, node, tuple(addresses), random.SystemRandom())
        self.reply = reply
        self.peers = Peers(node, cluster, protocol, addresses, self._on_frames)
        self.stalled_why: str | None = None
        self._identity = Identity(cluster, node)
        self._data = data
        self._keyring = keyring
        self._codec = codec
        self._barrier = Barrier()
        self._tell = Told(log)
        self._inbox: list[Input] = []
        self._submitted: list[bytes] = []
        self._asked: list[int] = []
        self._timers: dict[tuple[CorePath, Key], asyncio.TimerHandle] = {}
        self._turn_is_due = False
        self._is_started = False
        self._is_recovered = False
        self._is_ending = False
        self._journal_bytes = 0
        self._written = self._durable = 0
        """Sequence numbers: of the newest frame queued, and of the newest that is durable."""
        self._undecided_since: float | None = None
        """When submissions last went to the core, unless outputs have come since."""
        self._gathering: asyncio.TimerHandle | None = None
        self._checkpoint_due = False
        self._loading: deque[Any] | None = None
        """Outputs and jobs that wait for a snapshot to be loaded; None when none is."""

    # --- life ---

    async def start(self) -> None:
        """Recover, begin, join the peers. Raises StorageError, OSError; ValueError for a journal of other records."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._journal, frames = Journal.open(
            self._data / "journal",
            identity=self._identity,
            on_durable=lambda sequence: self._from_thread(self._on_durable, sequence),
            on_stall=lambda why: self._from_thread(self._on_stall, why),
        )
        try:
            self._jobs = Jobs(SnapshotStore(self._data / "snapshots", self._identity), self.app, self._keyring)
        except BaseException:
            self._journal.close()
            raise
        try:
            self._recover(frames)
            del frames
            await self.peers.start()
            turn = self.host.start(time.monotonic())
            self._is_recovered = not turn.outputs  # else when they have been handed up
            self._act(turn)
        except BaseException:
            await self._close()
            raise
        self._is_started = True
        self.wake()

    @property
    def is_loading(self) -> bool:
        """Whether the App still lacks what a snapshot of this node holds."""
        return not self._is_recovered or self._loading is not None

    async def wait(self) -> None:
        """Return when the node was stopped; raise what makes it unable to go on."""
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Leave in order: what is queued becomes durable. A second call does nothing, nor one before ``start``.

        Raises JournalFailed if it cannot.
        """
        if self._is_started:
            self._end(None)
            await self._close()

    async def _close(self) -> None:
        self._is_ending = True
        for handle in self._timers.values():
            handle.cancel()
        await self.peers.stop()
        await self._jobs.stop()
        await self._loop.run_in_executor(None, self._journal.close)

    def _recover(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self._journal_bytes += len(frame)
            for record in self._codec.decode_records(frame):
                self.host.restore(record)

    def _end(self, error: BaseException | None) -> None:
        """No more turns."""
        self._is_ending = True
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            log.error("node %d cannot go on: %s", self.id, error, exc_info=None if _is_outside(error) else error)
            self._ended.set_exception(error)
            self._ended.exception()  # whether anybody waits or not, it has been told

    def _from_thread(self, call: Callable[[Any], None], argument: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, argument)

    # --- Port: what the App asks for ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Values for the core's next step."""
        self._submitted.extend(values)
        self.wake()

    def ask(self, tokens: Sequence[int]) -> None:
        """Reads for the core's next step."""
        self._asked.extend(tokens)
        self.wake()

    # --- inputs ---

    def wake(self) -> None:
        """Something came in, perhaps a request to the App: make a turn of it before the loop sleeps."""
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _put(self, item: Input) -> None:
        self._inbox.append(item)
        self.wake()

    def _on_frames(self, sender: int, frames: list[bytes]) -> None:
        decode, inbox = self._codec.decode_message, self._inbox
        try:
            for frame in frames:
                path, message = decode(frame)
                inbox.append(Received(sender, message, path))
        except MalformedMessage as error:
            self.peers.cut(sender, str(error))
        self.wake()

    def _fire(self, path: CorePath, key: Key) -> None:
        self._timers.pop((path, key), None)
        self._put(Fired(key, path))

    def _on_stall(self, why: str | None) -> None:
        if self._journal.failure is not None:
            self._end(self._journal.failure)
            return
        if why is None:
            log.info("the journal takes records again")
        else:
            log.warning("the journal takes no records: %s", why)
        self.stalled_why = why
        self.app.stalled(why)
        self._put(Stalled(why))

    def _on_durable(self, sequence: int) -> None:
        self._durable = sequence
        if self._submitted:
            self.wake()
        released = self._barrier.durable(sequence)
        if released and not self._is_ending:
            try:
                for turn in released:
                    self._release(turn)
                self.app.settle()
            except Exception as error:
                self._end(error)

    # --- the turn ---

    def _turn(self) -> None:
        """One step of everything that came in since the last."""
        self._turn_is_due = False
        if self._is_ending:
            return
        try:
            self.app.settle()
            if inputs := self._take_inputs():
                self._act(self.host.step(inputs, time.monotonic()))
        except Exception as error:
            self._end(error)

    def _take_inputs(self) -> list[Input]:
        inputs, self._inbox = self._inbox, []
        if self._submitted and self._may_submit():
            self._undecided_since = time.monotonic()
            inputs.append(Submitted(self._take_submitted()))
        if self._asked:
            inputs.append(Asked(tuple(self._asked)))
            self._asked.clear()
        return inputs

    def _may_submit(self) -> bool:
        """Whether the submissions that wait go now; if not, something that comes will wake this node."""
        if self._durable < self._written:
            return False
        if self._undecided_since is None:
            return True
        waits_until = self._undecided_since + GATHER_S
        if (now := time.monotonic()) >= waits_until:
            return True
        if self._gathering is None:
            self._gathering = self._loop.call_later(waits_until - now, self._gathered)
        return False

    def _gathered(self) -> None:
        self._gathering = None
        self.wake()

    def _take_submitted(self) -> tuple[bytes, ...]:
        """The oldest submissions, as many as fit a turn, but at least one; what is left makes another turn."""
        count = size_bytes = 0
        for value in self._submitted[:SUBMITTED_VALUES_MAX]:
            count += 1
            size_bytes += len(value)
            if size_bytes >= SUBMITTED_BYTES_MAX:
                break
        taken = tuple(self._submitted[:count])
        del self._submitted[:count]
        if self._submitted:
            self.wake()
        return taken

    def _act(self, turn: Turn) -> None:
        """Do the effects, or leave them with the Barrier."""
        for send in turn.early:
            self._send(send)
        sequence = None
        if turn.records:
            sequence = self._written = self._write(turn.records)
        for timer in turn.timers:
            self._set_timer(timer)
        for blame in turn.blames:
            self._blame(blame)
        if self._barrier.add(turn, sequence) and (turn.sends or turn.outputs or turn.jobs):
            self._release(turn)
            self.app.settle()

    def _send(self, send: Send) -> None:
        others = send.to
        if self.id in others:
            self._put(Received(self.id, send.message, send.path))
            others = tuple(node for node in others if node != self.id)
        if others:
            self.peers.send_many(others, self._codec.encode_message(send.path, send.message))

    def _set_timer(self, timer: Timer) -> None:
        name = (timer.path, timer.key)
        if (handle := self._timers.pop(name, None)) is not None:
            handle.cancel()
        if timer.at is not None:
            delay_s = max(0.0, timer.at - time.monotonic())
            self._timers[name] = self._loop.call_later(delay_s, self._fire, timer.path, timer.key)

    def _blame(self, blame: Blame) -> None:
        self._tell(f"node {blame.node} {blame.why}")

    def _release(self, turn: Turn) -> None:
        """What the Barrier let go, in the order of the design: sends, then outputs, then jobs."""
        for send in turn.sends:
            self._send(send)
        if turn.outputs:
            self._undecided_since = None
            if self._submitted:
                self.wake()
        if self._loading is None:
            self._hand_up(deque((*turn.outputs, *turn.jobs)))
        else:
            self._loading.extend(turn.outputs)
            self._loading.extend(turn.jobs)

    def _hand_up(self, waiting: deque[Any]) -> None:
        """Outputs to the App and jobs to the threads, in order, up to the first that wants a snapshot loaded."""
        while waiting:
            item = waiting.popleft()
            if type(item) is Job:
                self._jobs.start(item.work, partial(self._done, item))
            elif type(item) is Restored:
                self._loading = waiting
                self._load_task = self._loop.create_task(self._load(item.index))
                return
            else:
                self.app.output(item)
        self._is_recovered = True

    # --- snapshots and jobs ---

    def _done(self, job: Job, result: Any) -> None:
        if isinstance(job.work, TakeSnapshot):
            self._checkpoint_due = True
        self._put(Done(job.key, result, job.path))

    async def _load(self, index: int) -> None:
        """Load a snapshot in a thread; what comes after it waits in ``_loading``."""
        try:
            adopt = await self._jobs.load(index)
            if self._is_ending:
                return
            adopt()
            waiting, self._loading = self._loading, None
            assert waiting is not None
            self._hand_up(waiting)
            self.app.settle()
        except Exception as error:
            self._end(error)

    # --- the journal ---

    def _write(self, records: Sequence[Record]) -> int:
        """One frame for the Turn; now and then a checkpoint that holds this Turn's state in place of all before."""
        if self._checkpoint_due and self._journal_bytes > CHECKPOINT_AFTER_BYTES:
            return self._checkpoint()
        frame = self._codec.encode_records(records)
        self._journal_bytes += len(frame)
        return self._journal.append(frame)

    def _checkpoint(self) -> int:
        self._checkpoint_due = False
        frames = [self._codec.encode_records((record,)) for record in self.host.checkpoint()]
        self._journal_bytes = sum(map(len, frames))
        log.info("journal: checkpoint of %d bytes", self._journal_bytes)
        return self._journal.checkpoint(frames)


def _is_outside(error: BaseException) -> bool:
    """Whether the cause is the disk or a person, so that the text tells all and a traceback would only frighten."""
    return isinstance(error, StorageError | OSError)
