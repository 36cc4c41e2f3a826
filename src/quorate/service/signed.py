"""SignedReplica: a Replica where nodes may lie, so that clients sign and every node answers.

How it works. An entry of the log is a signed request (``parts/requests.py``): several commands of one client under one
signature, which the core checked before it was ordered. The commands are applied one after the other as the sessions
of that client's public key allow; a session of another key is as good as none. A client sends its request to every
node, and each answers it once the log has it (Castro and Liskov 1999, §4.2); a request that comes after that is
answered from the session table. Clients count equal answers (``client/votes.py``), so all that is in a Result, and the
code of a Failure, must follow from the log alone.

A new leader changes nothing for those who wait: every node has their requests and keeps at it.

Anybody who has seen a request can bring it again, a client or a node, and need not be its owner. What the sessions have
answered is answered from here and not ordered again (``Screen``, ``_spent``). An opening of a session that has expired,
and a query in the log, have no session that remembers them; how often these are ordered again is for the core to bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from hashlib import sha256
from typing import BinaryIO

from quorate.kernel import ROOT, Path, Requester, StateMark
from quorate.kernel.app import Steps
from quorate.machines.state_machine import StateMachine
from quorate.parts import requests as signed
from quorate.parts.log import configuration
from quorate.parts.log.entries import COMMAND, CONFIGURATION
from quorate.parts.log.replicated import Busy, Decided, Dropped, Screen, Screened
from quorate.service.readings import LATE, TOO_MANY, Call, Reading, Waiting
from quorate.service.replica import FETCHED, PENDING_MAX, Replica
from quorate.service.requests import (
    DECODE_ERRORS,
    Apply,
    CloseSession,
    Code,
    Command,
    Failure,
    Inspect,
    OpenSession,
    Reconfigure,
    Result,
    Results,
    SignedCommand,
    decode_signed_command,
)
from quorate.service.sessions import GONE, SESSIONS_MAX

RESULTS_BYTES_MAX = 1 << 20
"""Answers of one request go out together up to this size, and in several frames beyond."""


SCREENED_PER_STEP = 64
"""Requests that are looked up at a time, so that nothing else waits long."""
EXPIRED = "session %d has expired"


class SignedReplica(Replica):
    """As Replica, over a log of signed requests."""

    works = (Screen,)

    def __init__(
        self, machine: StateMachine, *, sessions_max: int = SESSIONS_MAX, pending_max: int = PENDING_MAX
    ) -> None:
        super().__init__(machine, sessions_max=sessions_max, pending_max=pending_max)
        self._requests: dict[bytes, list[tuple[Requester, int, int]]] = {}
        """Digest of a request to whoever sent it; a client that sends it twice waits twice."""
        self._requests_count = 0

    # --- requests ---

    def _command(self, client: Requester, request: Command) -> None:
        value = signed.decode_signed_request(request.entry)
        commands = [] if value is None else [_decode(command) for command in value.commands]
        if value is None or None in commands:
            self._refuse(client, request.id, Code.MALFORMED, "this cluster takes signed requests alone")
            return
        known = [self._spent(place, command, value.client) for place, command in enumerate(commands)]
        if None not in known:
            self._answer([(client, request.id)], [answer for answer in known if answer is not None])
        else:
            self._submit(client, request)

    def _reconfigure(self, client: Requester, request: Reconfigure) -> None:
        value = signed.decode_signed_request(request.entry)
        if value is None or len(value.commands) != 1 or configuration.decode_change(value.commands[0]) is None:
            self._refuse(client, request.id, Code.MALFORMED, "this is no signed change of members")
        else:
            self._submit(client, request)

    def _submit(self, client: Requester, request: Command | Reconfigure) -> None:
        if self.stalled_why is not None:
            self._refuse(client, request.id, Code.STORAGE, self.stalled_why)
        elif self._requests_count >= self._pending_max:
            self._refuse(client, request.id, Code.BUSY, "too many requests are waiting")
        else:
            self._requests_count += 1
            waiting = (client, request.id, self.deadlines.until(request.remaining_ms))
            self._requests.setdefault(sha256(request.entry).digest(), []).append(waiting)
            self.port.submit((request.entry,))

    def _waiting_count(self) -> int:
        return super()._waiting_count() + self._requests_count

    def _forget(self, gone: Set[Requester]) -> None:
        super()._forget(gone)
        self._keep(lambda waiting: waiting[0] not in gone)

    def _tick(self) -> None:
        super()._tick()
        now = self.deadlines.now
        for client, number, until in (waiting for many in self._requests.values() for waiting in many):
            if until <= now:
                self._refuse(client, number, Code.LEADER_CHANGED, LATE)
        self._keep(lambda waiting: waiting[2] > now)

    def _keep(self, is_kept: Callable[[tuple[Requester, int, int]], bool]) -> None:
        for digest, many in list(self._requests.items()):
            kept = [waiting for waiting in many if is_kept(waiting)]
            self._requests_count -= len(many) - len(kept)
            if kept:
                self._requests[digest] = kept
            else:
                del self._requests[digest]

    def _spent(self, place: int, command: SignedCommand | None, owner: bytes) -> Result | Failure | None:
        """The answer to a command that can have no effect any more, the same that the log would give; None if it can.

        Serials below ``answered_below`` and sessions that are gone stay so, as no id is used twice. A session whose id
        this node has not reached in the log may yet begin.
        """
        if isinstance(command, OpenSession):
            opened = self.sessions.opened(owner, command.nonce)
            return None if opened is None else Result(place, b"%d" % opened)
        if not isinstance(command, Apply | CloseSession):
            return None
        session = self.sessions.find(command.session, owner)
        if session is None:
            if command.session >= (self.applied_index + 1) * signed.COMMANDS_MAX:
                return None
            if isinstance(command, CloseSession):
                return Result(place, b"")
            return self._failure(place, Code.NO_SESSION, EXPIRED % command.session)
        if isinstance(command, CloseSession):
            return None
        if command.serial in session.results:
            kept = session.results[command.serial]
            return self._answer_of(place, Code.TOO_LARGE if kept is GONE else kept)
        if command.serial < session.answered_below:
            return self._answer_of(place, Code.NO_SESSION)
        return None

    def work(self, job: Screen) -> Steps:
        """Which of these requests nobody has to order again."""
        spent: list[int] = []
        for place, data in enumerate(job.values):
            if self.is_spent(data):
                spent.append(place)
            if place % SCREENED_PER_STEP == SCREENED_PER_STEP - 1:
                yield
        return Screened(tuple(spent))

    def in_order(self, job: Screen) -> bool:
        """They may take turns."""
        return False

    def takes(self, request: signed.Request) -> bool:
        """Whether all its commands are such as this cluster has."""
        return None not in map(_decode, request.commands)

    def is_spent(self, data: bytes) -> bool:
        """Whether nothing of this request can have an effect any more."""
        request = signed.decode_signed_request(data)
        return request is not None and all(
            self._spent(place, _decode(command), request.client) is not None
            for place, command in enumerate(request.commands)
        )

    def _answer(self, waiting: Iterable[tuple[Requester, int]], answers: Sequence[Result | Failure]) -> None:
        pieces: list[list[Result | Failure]] = []
        room = 0
        for answer in answers:
            size = len(answer.data) if isinstance(answer, Result) else 0
            if not pieces or size > room:
                pieces.append([])
                room = RESULTS_BYTES_MAX
            pieces[-1].append(answer)
            room -= size
        for client, request in waiting:
            self._answers += [(client, Results(request, tuple(piece))) for piece in pieces]

    # --- outputs of the Host ---

    def _apply(self, committed: Decided) -> None:
        index = committed.first_index
        assert index == self.applied_index + 1, (index, self.applied_index)
        for entry in committed.entries:
            if entry.kind == COMMAND:
                self._apply_request(index, entry.data)
            elif entry.kind == CONFIGURATION:
                self._answer(self._waiting_for(entry.data), [Result(0, b"")])
                self.on_configured()
            index += 1
        self.applied_index = index - 1

    def _apply_request(self, index: int, data: bytes) -> None:
        request = signed.decode_signed_request(data)
        if request is None:
            return  # the same on every replica: it means nothing
        first = index * signed.COMMANDS_MAX
        found = self._taken(data)
        waiting, until = _without_deadlines(found), max((until for _, _, until in found), default=0)
        answers: list[Result | Failure] = []
        for place, command in enumerate(map(_decode, request.commands)):
            if isinstance(command, Inspect):
                answers += self._inspect([Waiting(*each, place) for each in waiting], until, command, request.client)
            else:
                answers.append(self._apply_signed(first, place, command, request.client))
        self._answer(waiting, answers)

    def _inspect(self, waiting: list[Waiting], until: int, command: Inspect, owner: bytes) -> list[Result | Failure]:
        """The answer from the state at this place of the log, if it can be had at once; else it comes by itself.

        Of a call that is asked again while it is under way, it is the first answer.
        """
        if not waiting:
            return []
        call = Call(int.from_bytes(owner), command.call, command.query) if command.call else None
        if self.reads.returns(call, waiting, until):
            return []
        place = waiting[0].place or 0
        why = self._end_batch_if_there_is_space()
        if why is not None:
            return [self._failure(place, Code.STORAGE, why)]
        steps = self._begin_query(command.query)
        try:
            next(steps)
        except StopIteration as end:
            return [Result(place, end.value)]
        reading = Reading(waiting, command.query, steps, until, call)
        return [] if self.reads.go_on(reading) else [self._failure(place, Code.UNAVAILABLE, TOO_MANY)]

    def _apply_signed(self, first: int, place: int, command: SignedCommand | None, owner: bytes) -> Result | Failure:
        """The answer to one command. ``first + place`` is a number that no other command has."""
        if isinstance(command, Apply):
            session = self.sessions.use(command.session, owner, first // signed.COMMANDS_MAX)
            if session is None:
                return self._failure(place, Code.NO_SESSION, EXPIRED % command.session)
            self._begin_batch(len(command.operation))
            return self._answer_of(place, self._once(session, command))
        if isinstance(command, OpenSession):
            return Result(place, b"%d" % self.sessions.open(first + place, owner, command.nonce))
        if isinstance(command, CloseSession):
            self.sessions.close(command.session, owner)
            return Result(place, b"")
        return self._failure(place, Code.MALFORMED, "not a command, or a change of members that does not count now")

    def _begin_batch(self, size_bytes: int) -> None:
        if not self._batch:
            self.machine.begin()
        self._batch += 1
        self._batch_bytes += size_bytes

    def _drop(self, dropped: Dropped) -> None:
        code = Code.BUSY if isinstance(dropped, Busy) else Code.UNAVAILABLE
        for value in dropped.values:
            for client, request in self._waiting_for(value):
                self._refuse(client, request, code, dropped.why)

    def _follow(self, leader: int | None) -> None:
        self.leader = leader if leader is not None else self.leader

    def mark(self, path: Path = ROOT) -> StateMark | None:
        """None: nodes compare their snapshots, which are files for that."""
        return None

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        """As that of Replica. A snapshot may spare this node what others wait for: let them ask again."""
        adopt_rest = super().restore(file, path)

        def adopt() -> None:
            adopt_rest()
            waiting, self._requests, self._requests_count = self._requests, {}, 0
            for client, request, _ in (one for many in waiting.values() for one in many):
                self._refuse(client, request, Code.UNAVAILABLE, FETCHED)

        return adopt

    def _waiting_for(self, data: bytes) -> list[tuple[Requester, int]]:
        """Whoever waits for a request, from now on no more."""
        return _without_deadlines(self._taken(data))

    def _taken(self, data: bytes) -> list[tuple[Requester, int, int]]:
        found = self._requests.pop(sha256(data).digest(), []) if self._requests else []
        self._requests_count -= len(found)
        return found

    def _failure(self, place: int, code: Code, why: str) -> Failure:
        return Failure(place, code, why, self.leader)


def _without_deadlines(waiting: Iterable[tuple[Requester, int, int]]) -> list[tuple[Requester, int]]:
    return [(client, request) for client, request, _ in waiting]


def _decode(command: bytes) -> SignedCommand | None:
    try:
        decoded: SignedCommand = decode_signed_command(command)
    except DECODE_ERRORS:
        return None
    return decoded
