"""Replica: applies what the log commits to a state machine, and answers the clients of one node.

How it works. A client's command is submitted and waits under its (session, serial). When the log commits it, on this
node like on every other, it is applied unless the session table knows its serial already, and whoever waits here is
answered. Linearizable reads wait until the protocol says that the local state is fresh enough. Commands are applied in
batches of the state machine, which end when they are large, or when somebody looks: a read or a snapshot.

A Replica is pure in the kernel's sense and runs unchanged in the simulator. It knows no protocol.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence, Set
from typing import Any, BinaryIO

import msgspec

from quorate.kernel import ROOT, App, Key, Path, Requester, StateMark
from quorate.kernel.app import Steps
from quorate.machines.state_machine import StateMachine
from quorate.machines.streams import read_exactly
from quorate.parts.log import configuration
from quorate.parts.log.entries import COMMAND, CONFIGURATION, Entry
from quorate.parts.log.replicated import Busy, Decided, Dropped, Leads, ReadFailed, ReadReady, Stateless
from quorate.service.audits import Audits
from quorate.service.clocks import CLOCK, Clocks
from quorate.service.deadlines import NEVER, TICK, TICK_S, Deadlines
from quorate.service.readings import GO_ON, LATE, Call, Readings, Waiting
from quorate.service.replica_marks import ReplicaMark, after_head
from quorate.service.reports import Reports
from quorate.service.requests import (
    COMMAND_BYTES_MAX,
    DECODE_ERRORS,
    UNANSWERED_PER_SESSION_MAX,
    Apply,
    Clock,
    CloseSession,
    Code,
    Command,
    Failure,
    OpenSession,
    Query,
    Reconfigure,
    Response,
    Result,
    Results,
    decode_client_command,
    decode_log_command,
    encode,
)
from quorate.service.sessions import GONE, SESSIONS_MAX, Session, Sessions
from quorate.service.staging import FULL_S, STAGE, STAGE_S, Staging

PENDING_MAX = 100_000
CHANGES_MAX = 64
"""Changes of members that clients wait for."""
WAITING_PER_CLOSED = 1000
"""What waits is searched for clients that have gone once there is one of them for so many: many leave at once."""
WHY = {
    Code.NO_SESSION: "too many commands of this session are unanswered",
    Code.TOO_LARGE: "its answer took too much space and is no longer kept",
}
"""What a command that was applied before is told, or that cannot be."""
FETCHED = "this node has just fetched its state"
IS_STAGING = "a rollback is under way"
IS_WITNESS = "this node is a witness, which keeps no state: ask another"
BATCH_MAX = 512
"""Commands that the machine may hold back at most. Durability is the journal's, so a batch need not end with a turn."""
BATCH_BYTES_MAX = 4 << 20
"""Likewise, of commands: they are written when the batch ends, all at once."""
_LENGTH = struct.Struct("<QI")
"""A snapshot begins with the applied index and the length of the encoded sessions."""


class Replica(App):
    """The upper half of one node. The limits must be the same on every node, ``pending_max`` aside."""

    def __init__(
        self,
        machine: StateMachine,
        *,
        sessions_max: int = SESSIONS_MAX,
        pending_max: int = PENDING_MAX,
        audits: Audits | None = None,
        clock_of: int | None = None,
    ) -> None:
        """``audits``: where the nodes compare what the machine has; None: they do not. ``clock_of``: this node, where
        the log is to say what time it is; None: it does not."""
        self.machine = machine
        self._clocks = None if clock_of is None else Clocks(clock_of)
        self._staging: Staging | None = None
        self.reports = None if audits is None else Reports(machine, audits)
        self.sessions = Sessions(sessions_max)
        self.applied_index = 0
        self.leader: int | None = None
        self.is_stateless = False
        """Whether this node is a witness: nothing is applied here, and nobody answered."""
        self.stalled_why: str | None = None
        self.on_leads: Callable[[], None] | None = None
        """Called when another node leads, or none."""
        self.on_configured: Callable[[], None] = _nothing
        """Called when the log, or a snapshot, has changed who votes, which nodes there are, or where they are."""
        self._stages = machine.stages
        self._pending_max = pending_max
        self._commands: dict[tuple[int, int], tuple[Requester, int, int]] = {}
        """Who waits for a command, the id of the request, and its deadline. Likewise below."""
        self._openings: dict[int, tuple[Requester, int, int]] = {}
        self._changes: dict[bytes, list[tuple[Requester, int]]] = {}
        self.deadlines = Deadlines()
        self.reads = Readings(self._begin_query, self._reply, self._refuse, self.deadlines)
        self._timers: set[str] = set()
        """Those that run."""
        self._asking: dict[int, tuple[Requester, Query, int]] = {}
        """Reads that wait until the state is fresh enough, by token, each with its deadline."""
        self._next_token = 0
        self._asked: list[int] = []
        self._ready: list[int] = []
        self._batch = self._batch_bytes = 0
        self._answers: list[tuple[Requester, Result | Results | Failure]] = []
        self._gone: set[Requester] = set()

    # --- requests ---

    def request(self, client: Requester, request: Command | Reconfigure | Query) -> None:
        """A client's command, change of members, or read."""
        if self.is_stateless:
            self._refuse(client, request.id, Code.STATELESS, IS_WITNESS)
        elif isinstance(request, Query):
            self._query(client, request)
        elif isinstance(request, Reconfigure):
            self._reconfigure(client, request)
        else:
            self._command(client, request)

    def closed(self, client: Requester) -> None:
        """Forget what it waits for, now or with the next that go. Its commands are in the log, or will be, as ever."""
        self.reads.closed(client)
        self._gone.add(client)
        if len(self._gone) * WAITING_PER_CLOSED >= self._waiting_count():
            self._forget(self._gone)
            self._gone = set()

    def _waiting_count(self) -> int:
        return len(self._commands) + len(self._openings) + len(self._asking) + len(self.reads)

    def _forget(self, gone: Set[Requester]) -> None:
        self._commands = {key: waiting for key, waiting in self._commands.items() if waiting[0] not in gone}
        self._openings = {key: waiting for key, waiting in self._openings.items() if waiting[0] not in gone}
        self._asking = {token: waiting for token, waiting in self._asking.items() if waiting[0] not in gone}
        self.reads.forget(gone)
        for value, many in list(self._changes.items()):
            self._changes[value] = [waiting for waiting in many if waiting[0] not in gone]
            if not self._changes[value]:
                del self._changes[value]

    def _query(self, client: Requester, request: Query) -> None:
        until = self.deadlines.until(request.remaining_ms)
        if self.reads.returns(Call.of(request), [Waiting(client, request.id)], until):
            return
        if request.serializable:
            self.reads.due([(client, request, until)])
        elif self.stalled_why is not None:
            self._refuse(client, request.id, Code.STORAGE, self.stalled_why)
        elif len(self._asking) >= self._pending_max:
            self._refuse(client, request.id, Code.BUSY, "too many reads are waiting")
        else:
            token = self._next_token
            self._next_token = token + 1
            self._asking[token] = (client, request, until)
            self._asked.append(token)

    def _command(self, client: Requester, request: Command) -> None:
        try:
            command = decode_client_command(request.entry)
        except DECODE_ERRORS as error:
            self._refuse(client, request.id, Code.MALFORMED, f"not a command: {error}")
            return
        if self.stalled_why is not None:
            self._refuse(client, request.id, Code.STORAGE, self.stalled_why)
            return
        if len(self._commands) + len(self._openings) >= self._pending_max:
            self._refuse(client, request.id, Code.BUSY, "too many commands are waiting")
            return
        until = self.deadlines.until(request.remaining_ms)
        if isinstance(command, Apply):
            session = self.sessions.find(command.session)
            if session is not None and command.serial in session.results:
                kept = session.results[command.serial]
                answer = self._answer_of(request.id, Code.TOO_LARGE if kept is GONE else kept)
                self._answers.append((client, answer))
                return
            refused = self.machine.refuses(command.operation)
            if refused is not None:
                self._answers.append((client, Result(request.id, refused)))
                return
            entry = self._stamped(command, request.entry)
            if entry is None:
                why = f"with what this node adds to it, the command has more than {COMMAND_BYTES_MAX} bytes"
                self._refuse(client, request.id, Code.TOO_LARGE, why)
                return
            self._commands[command.session, command.serial] = (client, request.id, until)
            self.port.submit((entry,))
            return
        if isinstance(command, OpenSession):
            self._openings[command.nonce] = (client, request.id, until)
        self.port.submit((request.entry,))

    def _stamped(self, command: Apply, entry: bytes) -> bytes | None:
        """The entry of the log: the client's, unless the machine adds to it; None where that makes it too large."""
        if not self.machine.stamps:
            return entry
        operation = self.machine.stamp(command.operation, self.port.wall_ns)
        if operation is command.operation:
            return entry
        if len(operation) > COMMAND_BYTES_MAX:
            return None
        return encode(msgspec.structs.replace(command, operation=operation))

    def _reconfigure(self, client: Requester, request: Reconfigure) -> None:
        """No session: a change that names its epoch has no effect a second time."""
        if configuration.decode_change(request.entry) is None:
            self._refuse(client, request.id, Code.MALFORMED, "this is no change of members")
        elif self.stalled_why is not None:
            self._refuse(client, request.id, Code.STORAGE, self.stalled_why)
        else:
            while sum(map(len, self._changes.values())) >= CHANGES_MAX:
                # The oldest may have been lost on its way to a leader.
                self._give_up_change(next(iter(self._changes)), "too many changes of members are waiting")
            self._changes.setdefault(request.entry, []).append((client, request.id))
            self.port.submit((request.entry,))

    def _give_up_change(self, value: bytes, why: str) -> None:
        for waiting in self._changes.pop(value, ()):
            self._refuse(*waiting, Code.UNAVAILABLE, why)

    def _refuse(self, client: Requester, request: int, code: Code, why: str) -> None:
        # Who leads is an output of the core: while those wait for the disk, what was heard last may be long over.
        leader = None if self.stalled_why is not None else self.leader
        self._answers.append((client, Failure(request, code, why, leader)))

    # --- outputs of the Host ---

    def output(self, value: Any, path: Path = ROOT) -> None:
        """One output, in order."""
        kind = type(value)
        if kind is Decided:
            self._apply(value)
        elif kind is ReadReady:
            self._ready.extend(value.tokens)
        elif kind is ReadFailed:
            for token in value.tokens:
                if waiting := self._asking.pop(token, None):
                    self._refuse(waiting[0], waiting[1].id, Code.UNAVAILABLE, value.why)
        elif kind is Dropped or kind is Busy:
            self._drop(value)
        elif kind is Stateless:
            self.is_stateless = True
            self.reports = None
            self._turn_away(IS_WITNESS)
            self.on_configured()
        elif kind is Leads:
            self._follow(value.leader)
            if self.on_leads is not None:
                self.on_leads()

    @property
    def is_midway(self) -> bool:
        """While a command is applied in steps."""
        return self._staging is not None

    def _apply(self, committed: Decided) -> None:
        assert committed.first_index == self.applied_index + 1, (committed.first_index, self.applied_index)
        self._apply_entries(committed.first_index, committed.entries)

    def _apply_entries(self, index: int, entries: Sequence[Entry]) -> None:
        """Those from ``index`` on, or up to one that takes long."""
        if not self._batch:
            self.machine.begin()
        self._batch += len(entries)
        for place, entry in enumerate(entries):
            self._batch_bytes += len(entry.data)
            has_changed = False
            if entry.kind == COMMAND:
                try:
                    command = decode_log_command(entry.data)
                except DECODE_ERRORS:
                    command = None  # the same on every replica: it means nothing
                if type(command) is Apply:
                    if self._stages and self._stage(command, index, entries, place):
                        self.applied_index = index - 1
                        return
                    self._apply_command(command)
                    has_changed = True
                elif type(command) is OpenSession:
                    self.sessions.open(index, nonce=command.nonce)
                    if waiting := self._openings.pop(command.nonce, None):
                        self._answers.append((waiting[0], Result(waiting[1], b"%d" % index)))
                elif type(command) is CloseSession:
                    self.sessions.close(command.session)
                elif type(command) is Clock:
                    self._tell_time(command)
                elif command is not None and self.reports is not None:
                    self.reports.take(index, command)
            elif entry.kind == CONFIGURATION:
                self._answers += [(client, Result(number, b"")) for client, number in self._changes.pop(entry.data, ())]
                self.on_configured()
            if self.reports is not None:
                self.reports.applied(index, has_changed)
            if has_changed and self._clocks is not None:
                self._clocks.changed()
            index += 1
        self.applied_index = index - 1

    def _tell_time(self, clock: Clock) -> None:
        self.machine.passes(clock.wall_ns)
        if self._clocks is not None:
            self._clocks.told()

    # --- commands that take long ---

    def _stage(self, command: Apply, index: int, entries: Sequence[Entry], place: int) -> bool:
        """Whether the command is one, and is to take effect: it was begun. ``place``: its own among the entries."""
        steps = self.machine.staged(command.operation)
        session = None if steps is None else self.sessions.use(command.session)
        if steps is None or session is None or self._known(session, command) is not None:
            return False
        waiting = self._commands.pop((command.session, command.serial), None)
        self._staging = Staging(command, session, waiting, steps, index + 1, entries[place + 1 :])
        self._set_timer(STAGE, STAGE_S)
        return True

    def _step_stage(self) -> None:
        """The next step, and what it wrote to the machine's files; with the last one, the log goes on."""
        staging = self._staging
        assert staging is not None
        if self._end_batch_if_there_is_space() is not None:
            self._set_timer(STAGE, FULL_S)
            return
        self.machine.begin()
        self._batch = 1
        try:
            next(staging.steps)
            self._end_batch_if_there_is_space()
            self._set_timer(STAGE, STAGE_S)
        except StopIteration as end:
            self._staging = None
            self._staged(staging, end.value)

    def _staged(self, staging: Staging, result: bytes) -> None:
        command, index = staging.command, staging.next_index - 1
        self.sessions.keep(command.session, command.serial, result)
        if staging.waiting is not None:
            self._answers.append((staging.waiting[0], self._answer_of(staging.waiting[1], result)))
        if self.reports is not None:
            self.reports.applied(index, True)
        if self._clocks is not None:
            self._clocks.changed()
        self.applied_index = index
        self._apply_entries(staging.next_index, staging.rest)

    def _apply_command(self, command: Apply) -> None:
        session = self.sessions.use(command.session)
        waiting = self._commands.pop((command.session, command.serial), None)
        if session is None:
            if waiting is not None:
                self._refuse(*waiting[:2], Code.NO_SESSION, f"session {command.session} has expired")
            return
        result = self._once(session, command)
        if waiting is not None:
            self._answers.append((waiting[0], self._answer_of(waiting[1], result)))

    def _answer_of(self, number: int, result: bytes | Code) -> Result | Failure:
        if isinstance(result, bytes):
            return Result(number, result)
        return Failure(number, result, WHY[result], self.leader)

    def _once(self, session: Session, command: Apply) -> bytes | Code:
        """The command's result, applying it only if it was not; a Code if that is not known any more."""
        known = self._known(session, command)
        if known is not None:
            return known
        result = self.machine.apply(command.operation)
        self.sessions.keep(command.session, command.serial, result)
        return result

    def _known(self, session: Session, command: Apply) -> bytes | Code | None:
        """The result of a command that is not to be applied. None: it is; what its client has is forgotten then."""
        serial, results = command.serial, session.results
        if serial in results:
            kept = results[serial]
            return Code.TOO_LARGE if kept is GONE else kept
        if serial < session.answered_below:
            return Code.NO_SESSION  # the client has the answer: this is a copy that came late
        if command.answered_below > session.answered_below:
            self.sessions.answered(command.session, command.answered_below)
        return Code.NO_SESSION if len(results) >= UNANSWERED_PER_SESSION_MAX else None

    def _drop(self, dropped: Dropped) -> None:
        """The protocol did not take these in; nothing happened."""
        code = Code.BUSY if isinstance(dropped, Busy) else Code.UNAVAILABLE
        for value in dropped.values:
            self._give_up_change(value, dropped.why)
            try:
                command = decode_log_command(value)
            except DECODE_ERRORS:
                continue
            waiting = None
            if isinstance(command, Apply):
                waiting = self._commands.pop((command.session, command.serial), None)
            elif isinstance(command, OpenSession):
                waiting = self._openings.pop(command.nonce, None)
            if waiting is not None:
                self._refuse(*waiting[:2], code, dropped.why)

    def _follow(self, leader: int | None) -> None:
        """A new leader may never have seen what waits here; the client sends the same again, which is safe."""
        if leader is None or leader == self.leader:
            self.leader = leader if leader is not None else self.leader
            return
        self.leader = leader
        self._turn_away(f"node {leader} leads now")

    def _turn_away(self, why: str) -> None:
        """Whoever waits for the outcome of a change; it may have taken place, or may yet."""
        changes = [(*waiting, NEVER) for many in self._changes.values() for waiting in many]
        for client, number, _ in [*self._commands.values(), *self._openings.values(), *changes]:
            self._refuse(client, number, Code.LEADER_CHANGED, why)
        self._changes.clear()
        self._commands.clear()
        self._openings.clear()

    def settle(self) -> None:
        """Serve the reads that became ready, and let the answers go."""
        if self._batch >= BATCH_MAX or self._batch_bytes >= BATCH_BYTES_MAX:
            self._end_batch_if_there_is_space()
        if self.reports is not None:
            self.reports.settle(self.port, self.leader is not None)
        if self._clocks is not None:
            self._clocks.settle(self.port)
        if self._asked:
            asked, self._asked = self._asked, []
            self.port.ask(asked)
        if self._ready:
            self.reads.due([waiting for token in self._ready if (waiting := self._asking.pop(token, None))])
            self._ready.clear()
        if self.reads.has_due:
            self._read_due()
        self._set_timers()
        if self._answers:
            answers, self._answers = self._answers, []
            reply = self.port.reply
            for client, answer in answers:
                reply(client, answer)

    def _read_due(self) -> None:
        """Serve reads that are due. A machine that cannot end its batch on a full disk cannot be asked.

        Nor is it tried on a disk that hangs: that would hold up the loop.
        """
        why = self.stalled_why if self._batch and self.stalled_why else self._end_batch_if_there_is_space()
        if why is not None:
            self.reads.refuse_due(why)
        else:
            self.reads.take()

    def _begin_query(self, query: bytes) -> Steps:
        return self.machine.query_steps(query)

    def _reply(self, client: Requester, response: Response) -> None:
        self.port.reply(client, response)

    def _set_timers(self) -> None:
        """For what is to go on after this."""
        if GO_ON not in self._timers and (pause_s := self.reads.pause_s) is not None:
            self._set_timer(GO_ON, pause_s)
        if TICK not in self._timers and self._waiting_count():
            self._set_timer(TICK, TICK_S)

    def _set_timer(self, key: str, delay_s: float) -> None:
        self._timers.add(key)
        self.port.set_timer(key, delay_s)

    def read(self, query: bytes) -> bytes:
        """Ask the state machine, which sees all that was applied."""
        self._end_batch()
        return self.machine.query(query)

    def _end_batch(self) -> None:
        if self._batch:
            self.machine.commit()
            self._batch = self._batch_bytes = 0

    def _end_batch_if_there_is_space(self) -> str | None:
        """Why there is none. The batch is kept then; it is in the log, so nothing is at stake but this node's reads."""
        try:
            self._end_batch()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return f"disk full: {error}"
        return None

    def on_timer(self, key: Key) -> None:
        """Of the reads, the deadlines and the reports."""
        if key == GO_ON:
            self._timers.discard(GO_ON)
            self.reads.step()
        elif key == TICK:
            self._timers.discard(TICK)
            self._tick()
        elif key == STAGE:
            self._timers.discard(STAGE)
            self._step_stage()
        elif key == CLOCK and self._clocks is not None:
            self._clocks.on_timer(self.port, self.leader)
        elif self.reports is not None and isinstance(key, str):
            self.reports.on_timer(key, self.port, self.leader == self.reports.node)

    def _tick(self) -> None:
        """Drop what nobody waits for any more. It is answered, or it would count among what its link asks for."""
        self.deadlines.now += 1
        now = self.deadlines.now
        late = [(client, query.id) for client, query, until in self._asking.values() if until <= now]
        for waiting in (self._commands, self._openings):
            late += [(client, number) for client, number, until in waiting.values() if until <= now]
        for client, number in late:
            self._refuse(client, number, Code.LEADER_CHANGED, LATE)
        self._asking = {token: waiting for token, waiting in self._asking.items() if waiting[2] > now}
        self._commands = {key: waiting for key, waiting in self._commands.items() if waiting[2] > now}
        self._openings = {key: waiting for key, waiting in self._openings.items() if waiting[2] > now}
        self.reads.tick()

    def stalled(self, why: str | None) -> None:
        """Refuse what needs the core, whose outputs wait for the disk, and turn away who waits. Old reads go on."""
        self.stalled_why = why
        if why is None:
            return
        asking, self._asking = self._asking, {}
        self._asked.clear()
        for client, query, _ in asking.values():
            self._refuse(client, query.id, Code.STORAGE, why)
        self._turn_away(f"it is not known here: {why}")

    def refused(self, values: Sequence[bytes], why: str, path: Path = ROOT) -> None:
        """As if the core had dropped them."""
        self._drop((Dropped if self.stalled_why is not None else Busy)(tuple(values), why))

    # --- snapshots ---

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        """The sessions and the machine's state, as they are now."""
        return after_head(self._head(), self.machine.snapshot())

    def mark(self, path: Path = ROOT) -> StateMark | None:
        """As the base says, if the machine does."""
        head = self._head()
        mark = self.machine.mark()
        return None if mark is None else ReplicaMark(head, mark)

    def _head(self) -> bytes:
        self._end_batch()
        sessions = self._encode_sessions()
        return encode_head(self.applied_index, sessions)

    def backup(self) -> Callable[[BinaryIO], None] | str:
        """What writes the machine's state as it is now, without the sessions; or why it cannot be captured now."""
        if self._staging is not None:
            return IS_STAGING
        why = self.stalled_why if self._batch and self.stalled_why else self._end_batch_if_there_is_space()
        if why is not None:
            return why
        try:
            return self.machine.snapshot()
        except (ValueError, OSError) as error:
            return str(error)

    def _encode_sessions(self) -> bytes:
        return self.sessions.encode()

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        """Load aside. Raises ValueError where the payload is cut short or corrupt."""
        applied_index, sessions = _read_head(file)
        adopt_machine = self.machine.restore(file)

        def adopt() -> None:
            self._end_batch()
            self.reads.restart()
            adopt_machine()
            self._adopted(applied_index, sessions)

        return adopt

    def reopen(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], StateMark]:
        """As the base says."""
        applied_index, sessions = _read_head(file)
        adopt_machine = self.machine.reopen(file)

        def adopt() -> StateMark:
            self._end_batch()
            self.reads.restart()
            mark = adopt_machine()
            self._adopted(applied_index, sessions)
            return ReplicaMark(self._head(), mark)

        return adopt

    def _adopted(self, applied_index: int, sessions: Sequence[tuple[int, Session]]) -> None:
        """The machine has another state now, and this is what belongs to it."""
        self.sessions.replace(sessions)
        self.applied_index = applied_index
        self._turn_away(FETCHED)
        self.on_configured()


def _read_head(file: BinaryIO) -> tuple[int, list[tuple[int, Session]]]:
    """The applied index and the sessions. Raises ValueError."""
    applied_index, length = _LENGTH.unpack(read_exactly(file, _LENGTH.size))
    try:
        return applied_index, Sessions.decode(read_exactly(file, length))
    except msgspec.MsgspecError as error:
        raise ValueError(f"the snapshot's session table is corrupt: {error}") from error


def encode_head(index: int, sessions: bytes) -> bytes:
    """What a snapshot has before the state of the machine: where it stands, and the sessions."""
    return _LENGTH.pack(index, len(sessions)) + sessions


def _nothing() -> None:
    """Nobody wants to know."""
