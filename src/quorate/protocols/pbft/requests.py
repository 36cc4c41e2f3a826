"""Clients' requests on their way to the order: checked, kept until they are executed, watched by a timer (§4.1, §4.4).

Every node gets a request from its client, or from another node. Its signature is checked off the loop. A backup that
waits too long for the execution of its oldest one suspects the primary; one that the primary may not have is passed
on to it. That the *oldest* is watched, not any, keeps a primary from starving a single client.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from quorate.kernel import Failed, Key
from quorate.parts import requests
from quorate.parts.crypto.keys import Signed, Verified, batches
from quorate.parts.log.replicated import Dropped
from quorate.protocols.pbft.messages import Forward
from quorate.protocols.pbft.replica import Replica

CHECK = "check"
CHECKS_MAX = 4096
"""Jobs that check signatures at a time; what comes beyond is refused, and comes again."""


class Check:
    """Values whose signatures are being checked: who brought them, and the number they are proposed at, if they are."""

    __slots__ = ("number", "sender", "sequence", "values")

    def __init__(self, number: int, sender: int, values: Sequence[tuple[bytes, bytes]], sequence: int | None) -> None:
        self.number = number
        self.sender = sender
        self.values = values
        self.sequence = sequence


class Requests(Replica):
    """The part of a node that keeps requests."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._checks: dict[int, Check] = {}
        self._checking: dict[bytes, int] = {}  # sizes, by digest
        self._checking_bytes = 0
        self._next_check = 0
        self._seen_at_beat: set[bytes] = set()

    def submit(self, values: Sequence[bytes]) -> None:
        """Requests of this node's clients."""
        if self._stalled is not None:
            self.env.deliver(Dropped(tuple(values), self._stalled))
            return
        self._take_in(self.env.id, values)

    def on_forward(self, sender: int, m: Forward) -> None:
        """§4.4: requests that a backup has and this node may not."""
        if self._stalled is None:
            self._take_in(sender, m.values)

    def _take_in(self, sender: int, values: Sequence[bytes]) -> None:
        fresh: dict[bytes, tuple[bytes, Signed]] = {}
        refused: list[bytes] = []
        for value in values:
            digest = sha256(value).digest()
            if digest in self.pending or digest in self._checking:
                continue
            request = requests.decode(value)
            if request is None:
                self._refuse(sender, value)
            elif len(self._checks) >= CHECKS_MAX or not self._has_room(value):
                refused.append(value)
            else:
                fresh[digest] = (value, requests.claim(request))
                self._hold(digest, value)
        if fresh:
            self._check(sender, fresh, None)
        if refused and sender == self.env.id:
            self.env.deliver(Dropped(tuple(refused), "too many requests wait"))

    def _check(self, sender: int, fresh: dict[bytes, tuple[bytes, Signed]], sequence: int | None) -> set[int]:
        """Have signatures checked; the numbers of the jobs."""
        for digest, (value, _) in fresh.items():
            self._hold(digest, value)
        items = list(fresh.items())
        place, numbers = 0, set()
        for job in batches([claim for _, (_, claim) in items]):
            part = items[place : place + len(job.items)]
            place += len(job.items)
            self._next_check += 1
            numbers.add(self._next_check)
            values = [(digest, value) for digest, (value, _) in part]
            self._checks[self._next_check] = Check(self._next_check, sender, values, sequence)
            self.env.work((CHECK, self._next_check), job)
        return numbers

    def on_done(self, key: Key, result: Any) -> None:
        """Signatures were checked."""
        if not isinstance(key, tuple) or key[0] != CHECK:
            super().on_done(key, result)
            return
        check = self._checks.pop(key[1], None)
        if check is None:
            return
        mask = result.mask if isinstance(result, Verified) else 0
        for place, (digest, value) in enumerate(check.values):
            is_wanted = self._release(digest)  # else it was executed meanwhile
            if mask >> place & 1:
                if is_wanted:
                    self._admit(digest, value)
            elif check.sequence is None:
                self._refuse(check.sender, value, result)
        if check.sequence is not None:
            if isinstance(result, Failed):
                self._not_checked(check)
            else:
                self._checked(check, mask == (1 << len(check.values)) - 1)

    def _hold(self, digest: bytes, value: bytes) -> None:
        """It takes up room while it is being checked."""
        if digest not in self._checking:
            self._checking[digest] = len(value)
            self._checking_bytes += len(value)

    def _release(self, digest: bytes) -> bool:
        size = self._checking.pop(digest, None)
        self._checking_bytes -= size or 0
        return size is not None

    def _checked(self, check: Check, is_good: bool) -> None:
        """Requests of a pre-prepare were checked."""
        raise NotImplementedError

    def _not_checked(self, check: Check) -> None:
        """Requests of a pre-prepare could not be checked."""
        raise NotImplementedError

    def _refuse(self, sender: int, value: bytes, result: Any = None) -> None:
        is_known = not isinstance(result, Failed)
        if sender == self.env.id:
            why = "the request is not signed by its client" if is_known else "its signature could not be checked"
            self.env.deliver(Dropped((value,), why))
        elif is_known:
            self._blame(sender, "passed on a request that its client did not sign")

    def _has_room(self, value: bytes) -> bool:
        config = self.config
        return (
            len(self.pending) + len(self._checking) < config.pending_max
            and self._pending_bytes + self._checking_bytes + len(value) <= config.pending_bytes_max
        )

    def _admit(self, digest: bytes, value: bytes) -> None:
        """A request whose signature is right waits for its execution."""
        if digest in self.pending or not self._has_room(value):
            return
        self.pending[digest] = value
        self._pending_bytes += len(value)
        self._queue.append(digest)
        if not self._request_alarm.is_set:
            self._watch()

    def _forget_request(self, value: bytes) -> None:
        """It was executed. The timer starts again for the next, if it was this that it ran for (§4.4)."""
        if not self.pending and not self._checking:
            return
        digest = sha256(value).digest()
        self._release(digest)
        if not self.pending:
            return
        is_oldest = next(iter(self.pending)) == digest
        if self.pending.pop(digest, None) is not None:
            self._pending_bytes -= len(value)
            if is_oldest:
                self._watch()

    def _forget_requests(self) -> None:
        """Nobody can tell which of them a snapshot holds. A client that has no answer sends its request again."""
        self.pending.clear()
        self._queue.clear()
        self._pending_bytes = 0
        self._watch()

    def _watch(self) -> None:
        """§4.4: a backup waits for its oldest request, but not while it changes views."""
        if self.pending and not self.is_changing and not self.is_primary and self.is_member:
            self._request_alarm.put_off(self._view_timeout_s)
        else:
            self._request_alarm.stop()

    def _requeue(self) -> None:
        proposed = self._proposed()
        self._queue.clear()
        self._queue.extend(digest for digest in self.pending if digest not in proposed)
        self._watch()

    def _proposed(self) -> set[bytes]:
        """Requests that have a number in this view and are not executed."""
        return {
            sha256(value).digest()
            for sequence, slot in self.slots.items()
            if sequence > self.executed and slot.digest is not None
            for value in self.batches.get(slot.digest, ())
        }

    def _pass_on(self) -> None:
        """Once a beat: what this backup has had for a beat, and the primary may lack."""
        if self.is_changing or self.is_primary or not self.pending:
            self._seen_at_beat.clear()
            return
        in_order = self._proposed()
        late: list[bytes] = []
        size = 0
        for digest in sorted(self._seen_at_beat & self.pending.keys() - in_order):
            value = self.pending[digest]
            size += len(value)
            if late and (size > self.config.batch_bytes_max or len(late) == self.config.batch_count_max):
                break
            late.append(value)
        if late:
            self.env.send(self.primary, Forward(tuple(late)))
        self._seen_at_beat = set(self.pending)
