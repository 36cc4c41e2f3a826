"""Node: the Machine of one real node: a Host and an App on asyncio, with a journal, snapshots and peers.

How it works. Whatever comes in (frames of peers, submissions of the App, timers, finished jobs) is put into one list;
once an iteration of the loop, all of it becomes one step of the Shell, one journal frame and one write to each peer.
The Shell keeps what rests on that frame until the journal's thread reports it durable. The App's own jobs are done in
between, a few milliseconds at a time.

What stops a node: a journal that fails, a snapshot that the journal needs and that is damaged, and our own mistakes: a
node in doubt about its own state must not go on talking. ``wait`` raises the reason.
A full disk does not, nor one that hangs: either stalls the journal, the core and the App are told, and both go on when
it takes records again. What waits for the disk meanwhile is bounded (``burden.py``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from typing import Protocol as Interface

from quorate.kernel import (
    ROOT,
    App,
    AppEnded,
    Asked,
    Blame,
    Core,
    Done,
    Env,
    Fired,
    HandOver,
    Host,
    HungUp,
    Input,
    Job,
    Key,
    Machine,
    Part,
    Received,
    Record,
    Requester,
    RosterChange,
    Send,
    Shell,
    Stalled,
    Timer,
    Turn,
    seed_in,
)
from quorate.kernel import Path as CorePath
from quorate.kernel.work import Work
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.replicated import Restored, TakeSnapshot
from quorate.runtime.burden import Burden
from quorate.runtime.chance import new_seed, seeded_streams
from quorate.runtime.codec import Codec, MalformedMessage
from quorate.runtime.errors import (
    DiskHangs,
    DiskUnreadable,
    JournalCorrupt,
    MemoryLost,
    StorageError,
    problem_of,
)
from quorate.runtime.files import Identity
from quorate.runtime.folder import Beginning
from quorate.runtime.greeting import Told
from quorate.runtime.jobs import Doer, Jobs
from quorate.runtime.opening import Opened, Opening
from quorate.runtime.peer_links import PeerLimits
from quorate.runtime.peers import Peers
from quorate.runtime.scrubbing import DurableEnd, Scrubber
from quorate.runtime.submissions import Submissions
from quorate.runtime.threads import in_daemon

log = logging.getLogger("quorate.node")

CHECKPOINT_AFTER_BYTES = 32 << 20
"""A journal that has grown by this much is replaced by a checkpoint when the next snapshot is done."""
STEP_BYTES_MAX = 16 << 20
"""What a step takes of the peers' frames, unless one read is larger: where inputs are journaled, a step, with what
comes from elsewhere, is one journal frame of 64 MiB at most."""
DURABLE_WAIT_S = 1.0
"""What somebody asks about this node waits so long for the disk at most."""
ROSTERS = ("a closed roster (Node)", "an open one (OpenNode)")
HAND_OVER_S_MAX = 0.8
"""How long a node that stops waits until another leads in its place."""
HAND_OVER_POLL_S = 0.005
TRANSFER_S_MAX = 10.0
"""How long a transfer may take; a core gives up much sooner, after an election timeout."""
WORK_S = 0.005
"""How long the App's own jobs, or what goes up to it, may keep the loop before something else has its turn."""


class NodePort:
    """The Port of a Node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def submit(self, values: Sequence[bytes], path: CorePath = ROOT) -> None:
        """In line for a turn."""
        self._node.submit(values, path)

    def ask(self, tokens: Sequence[int], path: CorePath = ROOT) -> None:
        """In line for a turn."""
        self._node.ask(tokens, path)

    def reply(self, client: Requester, response: Any) -> None:
        """At once."""
        self._node.reply(client, response)

    def set_timer(self, key: Key, delay_s: float) -> None:
        """On the loop."""
        self._node.set_app_timer(key, delay_s)

    def cancel_timer(self, key: Key) -> None:
        """Whether it is set or not."""
        self._node.set_app_timer(key, None)

    @property
    def wall_ns(self) -> int:
        """The machine's."""
        return time.time_ns()


class Links(Interface):
    """What a node has of its connections to others."""

    async def start(self) -> None:
        """Listen and dial. Raises OSError."""

    async def stop(self) -> None:
        """Hang up."""

    def send_many(self, nodes: Iterable[int], payload: bytes, /) -> None:
        """To those that are there."""

    def cut(self, node: int, why: str, /) -> None:
        """Hang up on one that sent what it must not."""

    def hold(self, is_held: bool, /) -> None:
        """Read nothing of what others send, or read on."""


class Node(Machine):
    """One member of a cluster. Make it, ``await start()``, later ``await stop()``.

    ``make`` builds the core; ``codec`` knows its messages; ``addresses`` are those of the peer ports, by node;
    ``listen_at``: where this node listens, if not at its own address; ``keys``: this node's, if nodes have
    some; ``doers``: how jobs are done that neither the runtime nor the App knows, by type; ``shell`` is another one
    where a bug is planted. ``links`` are there in place of ``addresses`` where the roster is open (``OpenNode``).
    ``beginning``: whether the node is new or has a folder; ``on_folder`` is called, in a thread, once that is this
    process's alone, so that the App may have files in it.
    """

    is_open = False

    def __init__(
        self,
        *,
        node: int,
        cluster: str,
        protocol: str,
        addresses: Mapping[int, tuple[str, int]] = MappingProxyType({}),
        make: Callable[[Env], Core],
        codec: Codec,
        app: App,
        data: Path,
        listen_at: tuple[str, int] | None = None,
        keys: Keys | None = None,
        doers: Mapping[type, Doer] | None = None,
        shell: type[Shell] = Shell,
        links: Links | None = None,
        peer_limits: PeerLimits | None = None,
        beginning: Beginning = Beginning.EITHER,
        why_not_forget: Callable[[], str] = lambda: "",
        on_folder: Callable[[], object] | None = None,
    ) -> None:
        self.id = node
        self.app = app
        app.port = NodePort(self)
        if links is None:
            self.peers = Peers(
                *(node, cluster, protocol, addresses, self._on_frames),
                listen_at=listen_at,
                limits=peer_limits,
                keys=keys,
            )
            self.peers.on_forgotten = self._forgotten
            self.peers.on_hung_up = self._hung_up
        self._links: Links = links or self.peers
        self.on_roster: Callable[[], None] = _nothing
        """Called when a core has met a node or parted from one."""
        self._make = make
        self._members = tuple(addresses)
        self._shell_class = shell
        self._identity = Identity(cluster, node)
        self._data = data
        self._beginning = beginning
        self._why_not_forget = why_not_forget
        self._on_folder = on_folder or _nothing
        self._keyring = None if keys is None else keys.keyring
        self._doers = doers
        self._codec = codec
        self._tell = Told(log)
        self._inbox: list[Input] = []
        self._inbox_bytes = 0
        """Of the peers' frames in it."""
        self._asked: dict[CorePath, list[int]] = {}
        self._timers: dict[tuple[CorePath | None, Key], asyncio.TimerHandle] = {}
        """By path and key; an App's have no path."""
        self._work = Work(app)
        self._turn_is_due = self._work_is_due = self._rest_is_due = False
        self._pauses_at = 0.0
        """When what goes up has kept the loop long enough."""
        self._loads: set[asyncio.Task[None]] = set()
        self._is_started = False
        self._is_ending = False
        self._written = self._durable = 0
        """Sequence numbers: of the newest frame queued, and of the newest that is durable."""
        self._awaited: deque[tuple[int, Callable[[bool], None]]] = deque()
        """Who waits until a frame is durable, in order."""
        self._checkpoint_due = self._is_spoiled = False
        self._burden = Burden()
        self._refused: list[tuple[Sequence[bytes], CorePath]] = []
        self._stalled_at = 0.0

    # --- life ---

    async def start(self) -> None:
        """Recover, begin, join the peers. Raises StorageError, OSError; ValueError for a journal of other records."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # The disk may hang, and then the loop must go on: somebody may want this to end.
        opened = await in_daemon(self._open, "quorate-recovery")
        self._folder, self._journal, self._stores = opened.folder, opened.journal, opened.stores
        self._scrubber = Scrubber(
            *(self._data, self._identity, lambda: DurableEnd(*self._journal.durable_end)),
            on_damage=lambda error: self._from_thread(self._on_damage, error),
        )
        self._jobs = Jobs(self._stores, self.app, self._keyring, self._doers, self._end)
        try:
            self._take_up(opened.host)
            if not self.is_open:
                self.peers.incarnations.takes_repaired = self.host.root.is_repairable
                self.peers.incarnations.recall(self._folder.incarnation, self._folder.others, self._learnt)
            await self._links.start()
            self.shell.start(time.monotonic(), time.time_ns())
        except BaseException:
            await self._close()
            raise
        self._scrubber.start()
        self._is_started = True
        self.wake()

    def _open(self) -> Opened:
        """What is durable."""
        opening = Opening(
            *(self._data, self._identity, self._codec, self._new_host, self.app, self._why_not_forget),
            on_durable=lambda sequence: self._from_thread(self._on_durable, sequence),
            on_stall=lambda why: self._from_thread(self._on_stall, why),
        )
        opened = opening.open(self._beginning)
        try:
            self._on_folder()
            return opened
        except BaseException:
            opened.close()
            raise

    @property
    def is_loading(self) -> bool:
        """Whether the App still lacks what a snapshot of this node holds."""
        return self.shell.is_loading

    async def wait(self) -> None:
        """Return when the node was stopped; raise what makes it unable to go on."""
        await asyncio.shield(self._ended)

    async def hand_over(self) -> None:
        """If this node leads, have another lead, and wait a short time for that. Call it before ``stop``."""
        root = self.host.root if self._is_started else None
        if root is None or not root.hands_over or not root.standing().was_elected:
            return
        if not self.peers.connected():
            return  # nobody is there to lead
        self._put(HandOver())
        began_at = time.monotonic()
        while root.standing().leader in (None, self.id):
            if self._is_ending or not self.peers.connected():
                return  # nobody is there who could lead
            if time.monotonic() - began_at > HAND_OVER_S_MAX:
                log.warning("no other node leads after %g s: this one stops all the same", HAND_OVER_S_MAX)
                return
            await asyncio.sleep(HAND_OVER_POLL_S)
        log.info(
            "node %s leads in place of this one, after %.3f s", root.standing().leader, time.monotonic() - began_at
        )

    async def transfer(self, to: int | None) -> int | None:
        """Have another node lead, ``to`` or whichever is ready: which one does then, or None if this one leads on.

        Ask ``why_not_hand_over`` of the core before. This node leads.
        """
        root, has_begun = self.host.root, False
        self._put(HandOver(to=to))
        until = time.monotonic() + TRANSFER_S_MAX
        while not self._is_ending and time.monotonic() < until:
            await asyncio.sleep(HAND_OVER_POLL_S)
            leader = root.standing().leader
            if leader not in (None, self.id):
                return leader
            has_begun = has_begun or root.is_handing_over
            if leader == self.id and has_begun and not root.is_handing_over:
                break
        return None

    async def stop(self) -> None:
        """Leave in order: what is queued becomes durable. A second call does nothing, nor one before ``start``.

        Raises JournalFailed if it cannot, DiskHangs if a thread waits for the disk that no longer answers.
        """
        if self._is_started:
            self._end(None)
            await self._close()

    async def _close(self) -> None:
        self._is_ending = True
        self._folder.close()
        for handle in self._timers.values():
            handle.cancel()
        self._work.close()
        self._stores.stop()
        self._scrubber.stop()
        await self._links.stop()
        closing = self._loop.run_in_executor(None, self._journal.close)
        stopped, closed = await asyncio.gather(self._jobs.stop(), closing, return_exceptions=True)
        if isinstance(stopped, DiskHangs) and closed is not None:
            log.error("%s", stopped)  # beside the journal's
        for error in (closed, stopped):
            if error is not None:
                raise error

    def _new_host(self, records: Sequence[Record], anew: bytes) -> Host:
        seed = seed_in(records) or new_seed()
        return Host(
            *(self._make, self.id, self._members, seeded_streams(seed)),
            seed=seed,
            is_open=self.is_open,
            incarnation=anew,
        )

    def _take_up(self, host: Host) -> None:
        self.host = host
        if host.root.is_open != self.is_open:
            raise ValueError(f"{type(host.root).__name__} is for {ROSTERS[not self.is_open]}, this node is not")
        self.shell = self._shell_class(host, self.app, self, Restored)
        self._submissions = Submissions(self.wake, gathers=host.root.gathers)

    def _learnt(self) -> None:
        """Another node has called for the first time."""
        task = self._loop.create_task(in_daemon(self._keep, "quorate-folder"))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    def _keep(self) -> None:
        """In a thread: what is not written now is when the next one calls, or after a restart."""
        try:
            self._folder.know(self.peers.incarnations.copy)
        except OSError as error:
            log.warning("the incarnations of the other nodes are not kept: %s", error)

    def _forgotten(self, why: str) -> None:
        """Another node knows this one from a life of which it has nothing."""
        self._end(MemoryLost(f"{self._data}: {why}"))

    def give_up(self, error: BaseException) -> None:
        """For whoever stands above: this node cannot go on, for this reason."""
        if self._is_started:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """No more turns."""
        self._is_ending = True
        self._tell_waiting(is_durable=False)
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

    @property
    def stalled_why(self) -> str | None:
        """Why storage takes nothing, while it does not."""
        return self.shell.stalled_why

    @property
    def is_durable(self) -> bool:
        """Whether all that was written is, so that what this node says of itself holds after a crash."""
        return self._durable >= self._written

    def after_durable(self, call: Callable[[bool], None]) -> None:
        """Call with True when all that was written until now is durable; with False where the disk takes too long."""
        if self.is_durable:
            call(True)
        elif self.stalled_why is not None or self._is_ending:
            call(False)
        else:
            waiting = (self._written, call)
            self._awaited.append(waiting)
            self._loop.call_later(DURABLE_WAIT_S, self._tire_of, waiting)

    def _tire_of(self, waiting: tuple[int, Callable[[bool], None]]) -> None:
        if self._awaited and self._awaited[0] is waiting:  # who came before has been told, and later ones wait for more
            self._awaited.popleft()
            waiting[1](False)

    def _tell_waiting(self, *, is_durable: bool) -> None:
        awaited = self._awaited
        while awaited and (not is_durable or awaited[0][0] <= self._durable):
            awaited.popleft()[1](is_durable)

    # --- what the App asks for ---

    def submit(self, values: Sequence[bytes], path: CorePath = ROOT) -> None:
        """Values for the core's next step, unless too much waits for the disk."""
        if self._burden.takes(self._journal.backlog_bytes):
            self._submissions.add(values, path)
        else:
            self._refused.append((values, path))
        self.wake()

    def ask(self, tokens: Sequence[int], path: CorePath = ROOT) -> None:
        """Reads for the core's next step."""
        self._asked.setdefault(path, []).extend(tokens)
        self.wake()

    def tell(self, message: Any, path: CorePath = ROOT) -> None:
        """Have the core hear a message of this node's own, which somebody outside brought."""
        self._put(Received(self.id, message, path))

    def reply(self, client: Requester, response: Any) -> None:
        """Through the door at which the client stands."""
        client.reply(response)

    def set_app_timer(self, key: Key, delay_s: float | None) -> None:
        """None cancels it."""
        self._set_timer(None, key, delay_s)

    # --- inputs ---

    def wake(self) -> None:
        """Something came in, perhaps a request to the App: make a turn of it before the loop sleeps."""
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _put(self, item: Input) -> None:
        if self._is_ending:
            return  # no turn will take it out again
        self._inbox.append(item)
        self.wake()

    def _hung_up(self, peer: int) -> None:
        if self._is_started and self.host.root.hears_hang_ups:
            self._put(HungUp(peer))

    def _on_frames(self, sender: int, frames: list[bytes]) -> None:
        if self._is_ending:
            return
        size_bytes = sum(map(len, frames))
        if self._inbox_bytes + size_bytes > STEP_BYTES_MAX and self._inbox:
            self._turn()
        self._inbox_bytes += size_bytes
        decode, inbox = self._codec.decode_message, self._inbox
        try:
            for frame in frames:
                path, message = decode(frame)
                inbox.append(Received(sender, message, path))
        except MalformedMessage as error:
            self._links.cut(sender, str(error))
        self.wake()

    def _fire(self, path: CorePath | None, key: Key) -> None:
        self._timers.pop((path, key), None)
        if path is not None:
            self._put(Fired(key, path))
        elif not self._is_ending:
            self._guarded(lambda: self.shell.fired(key))
            self.wake()

    def _on_stall(self, why: str | None) -> None:
        if self._journal.failure is not None:
            self._end(self._journal.failure)
            return
        if not self._is_ending:
            self._guarded(lambda: self.shell.reported(why))

    def _on_durable(self, sequence: int) -> None:
        self._durable = sequence
        self._weigh()
        self._tell_waiting(is_durable=True)
        if self._submissions:
            self.wake()
        if not self._is_ending:
            self._guarded(lambda: self.shell.durable(sequence))

    def _weigh(self) -> None:
        backlog_bytes = self._journal.backlog_bytes
        if self._burden.weigh(backlog_bytes):
            self._links.hold(self._burden.is_heavy)
            what = "nothing is read from peers" if self._burden.is_heavy else "peers are read again"
            self._tell(f"{backlog_bytes} bytes wait for the journal: {what}")

    # --- the turn ---

    def _turn(self) -> None:
        """One step of everything that came in since the last."""
        self._turn_is_due = False
        if self._is_started and not self._is_ending:  # a peer may speak before all is recovered
            self._guarded(self._step)

    def _step(self) -> None:
        self.app.settle()
        if self._refused:
            self._refuse()
        if inputs := self._take_inputs():
            self.shell.step(inputs, time.monotonic(), time.time_ns())

    def _take_inputs(self) -> list[Input]:
        inputs, self._inbox, self._inbox_bytes = self._inbox, [], 0
        inputs += self._submissions.take(is_quiet=self.is_durable)
        if self._asked:
            inputs += [Asked(tuple(tokens), path) for path, tokens in self._asked.items()]
            self._asked.clear()
        return inputs

    def _refuse(self) -> None:
        refused, self._refused = self._refused, []
        why = self.shell.stalled_why or "too much waits for this node's disk: try again, or another node"
        for values, path in refused:
            self.app.refused(values, why, path)
        self.app.settle()

    def _guarded(self, act: Callable[[], Any]) -> None:
        """What raises here is our own mistake, or a disk that cannot be trusted: the node ends."""
        self._pauses_at = time.monotonic() + WORK_S
        try:
            act()
        except Exception as error:
            self._end(error)

    # --- Machine: what the Shell asks for ---

    def send(self, sends: Sequence[Send]) -> None:
        """To peers, each encoded once, and to ourselves."""
        for send in sends:
            others = send.to
            if self.id in others:
                self._put(Received(self.id, send.message, send.path))
                others = tuple(node for node in others if node != self.id)
            if others:
                self._links.send_many(others, self._codec.encode_message(send.path, send.message))

    def set_timers(self, timers: Sequence[Timer]) -> None:
        """On the loop."""
        now = time.monotonic()
        for timer in timers:
            self._set_timer(timer.path, timer.key, None if timer.at is None else timer.at - now)

    def _set_timer(self, path: CorePath | None, key: Key, delay_s: float | None) -> None:
        name = (path, key)
        if (handle := self._timers.pop(name, None)) is not None:
            handle.cancel()
        if delay_s is not None:
            self._timers[name] = self._loop.call_later(max(0.0, delay_s), self._fire, path, key)

    def change_roster(self, change: RosterChange) -> None:
        """Dial another, or hang up."""
        if isinstance(change, Part):
            self.peers.part(change.node, change.why)
        elif change.node is not None:
            self.peers.meet(change.node, change.address, change.key)
        self.on_roster()

    def blame(self, blame: Blame) -> None:
        """In the log."""
        self._tell(f"node {blame.node} {blame.why}")

    def releases(self, turn: Turn, was_held: bool) -> None:
        """An output may be the decision that submissions wait for."""
        if turn.outputs:
            self._submissions.decided()

    def pauses(self) -> bool:
        """Once it has taken a few milliseconds."""
        if time.monotonic() < self._pauses_at:
            return False
        if not self._rest_is_due:
            self._rest_is_due = True
            self._loop.call_soon(self._go_on)
        return True

    def _go_on(self) -> None:
        self._rest_is_due = False
        if not self._is_ending:
            self._guarded(self.shell.go_on)

    # --- a disk that takes nothing ---

    def tick_later(self, delay_s: float) -> None:
        """On the loop: if that is held up as well, nothing is concluded."""
        self._loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        if not self._is_ending:
            self._guarded(self.shell.tick)

    def writing(self) -> str:
        """Of the journal."""
        return self._journal.doing

    def stalls(self, why: str | None) -> None:
        """In the log, and in line for the cores; what they have not got is refused, as they answer only by the disk."""
        if why is None:
            log.warning("the journal takes records again, after %.1f s", time.monotonic() - self._stalled_at)
        else:
            self._stalled_at = time.monotonic()
            log.warning("the journal takes no records: %s", why)
            self._tell_waiting(is_durable=False)
            self._refused += [(values, path) for path, values in self._submissions.take_all().items()]
        self._put(Stalled(why))

    # --- snapshots and jobs ---

    def begin(self, job: Job) -> None:
        """In a thread, or by the App itself."""
        if job.work is None:
            self._jobs.cancel(job.path, job.key)
            self._work.cancel(job.path, job.key)
        elif type(job.work) in self.app.works:
            if (done := self._work.begin(job)) is not None:
                self._put(done)
            self._work_later()
        else:
            self._jobs.start(job, partial(self._done, job))

    def _done(self, job: Job, result: Any) -> None:
        if isinstance(job.work, TakeSnapshot):
            self._checkpoint_due = True
        self._put(Done(job.key, result, job.path))

    def _work_later(self) -> None:
        if not self._work_is_due and not self._work.is_idle:
            self._work_is_due = True
            self._loop.call_soon(self._work_on)

    def _work_on(self) -> None:
        """The App's own jobs, for a while."""
        self._work_is_due = False
        if not self._is_ending:
            self._guarded(self._do_work)

    def _do_work(self) -> None:
        until = time.monotonic() + WORK_S
        while not self._work.is_idle and time.monotonic() < until:
            for done in self._work.step():
                self._put(done)
        self._work_later()

    def load(self, value: Restored, path: CorePath) -> None:
        """In a thread."""
        task = self._loop.create_task(self._load(value.index, path))
        self._loads.add(task)  # the loop itself holds none that waits
        task.add_done_callback(self._loads.discard)

    async def _load(self, index: int, path: CorePath) -> None:
        try:
            adopt = await self._jobs.load(index, path)
        except Exception as error:
            self._end(error)
        else:
            if not self._is_ending:
                self._guarded(lambda: self.shell.loaded(adopt, path))

    # --- the journal ---

    def needs_less(self) -> None:
        """The cores' state has become smaller without a snapshot: a checkpoint is due, as after one."""
        self._checkpoint_due = True

    def is_checkpoint_due(self) -> bool:
        """After a snapshot, when there is much to be rid of."""
        if self._journal.has_checkpoint_under_way:
            return False
        return self._is_spoiled or (self._checkpoint_due and self._journal.size_bytes > CHECKPOINT_AFTER_BYTES)

    def _on_damage(self, error: StorageError) -> None:
        """Of a file that this node only needs after a crash: what is in the journal is in memory, too."""
        if isinstance(error, JournalCorrupt | DiskUnreadable):
            log.error("damage on the disk, for which this node replaces its journal: %s", problem_of(error))
            self._is_spoiled = True
        else:
            log.error("damage on the disk, which the next snapshot replaces: %s", problem_of(error))

    def append(self, records: Sequence[Record]) -> int:
        """One frame."""
        self._written = self._journal.append(self._codec.encode_records(records))
        self._weigh()
        return self._written

    def replace(self, state: Sequence[Record], records: Sequence[Record]) -> int:
        """A frame, and a checkpoint in the background, a frame for each record of the state."""
        written = self.append(records)
        self._checkpoint_due = self._is_spoiled = False
        self._journal.checkpoint(state, lambda record: self._codec.encode_records((record,)))
        return written


def _nothing() -> None:
    """Nobody wants to know."""


def _is_outside(error: BaseException) -> bool:
    """Whether the cause is the disk or a person, so that the text tells all and a traceback would only frighten."""
    return isinstance(error, StorageError | OSError | AppEnded)
