"""WaitingRequests (§4.1, §4.4): requests of clients, kept in the order in which they came until they are executed.

Every node gets a request from its client, or from another node. Its signature is checked off the loop. A backup passes
on to the primary what that may not have. How long it waits for their execution, ``watch.py`` says.

A node that lies can pass on whatever clients signed once, as often as it likes. What was executed lately is known here
by its digest, what the sessions have answered the App knows (``checks.py``); neither is ordered again. A client that
gives up a request has it count as answered, so what waits for long may be such a one: the App is asked then, too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from quorate.kernel import Env
from quorate.parts import requests
from quorate.parts.log.replicated import Busy, Dropped, Screen, Screened
from quorate.protocols.pbft.checks import Check, FreshRequests, SignatureChecks
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import Forward, PbftConfig
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.turns import Turns
from quorate.protocols.pbft.view import CurrentView

DOUBT = "doubt"
EXECUTED_MAX = 1 << 15
"""Requests whose execution is remembered, each by its digest."""


class WaitingRequests:
    """What waits for its execution, and the order in which a primary proposes it."""

    def __init__(
        self,
        env: Env,
        others: Others,
        config: PbftConfig,
        view: CurrentView,
        log: MessageLog,
        history: History,
        checks: SignatureChecks,
    ) -> None:
        self._env = env
        self._others = others
        self._config = config
        self._view = view
        self._log = log
        self._history = history
        self._checks = checks
        self.pending: OrderedDict[bytes, bytes] = OrderedDict()
        """By digest, the oldest first."""
        self.pending_bytes = 0
        self.turns = Turns()
        """Of what has no number yet."""
        self._executed: OrderedDict[bytes, None] = OrderedDict()  # digests, the oldest first
        self._came: dict[bytes, float] = {}  # when, by digest
        self._has_progress = False
        self._seen_at_beat: set[bytes] = set()
        self._passed_on: set[bytes] = set()  # at the last beat
        self._doubted: tuple[bytes, ...] = ()  # digests of those of which the App is asked

    # --- in ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Requests of this node's clients."""
        if self._view.stalled is not None:
            self._env.deliver(Dropped(tuple(values), self._view.stalled))
            return
        fresh, again, refused = self._fresh(self._env.id, values)
        if fresh:
            self._checks.ask(self._env.id, fresh, None)
        # What was executed while it was on its way down, the App may have answered by now. Else it is a read whose
        # answer was lost, which a primary orders once more. A backup would wait in vain: nobody orders it for being
        # passed on.
        if again and self._view.is_primary:
            self._checks.screen(self._env.id, again)
        if refused:
            self._env.deliver(Busy(tuple(refused), "too many requests wait"))

    def on_forward(self, sender: int, m: Forward) -> None:
        """§4.4: requests that a backup has and this node may not."""
        if self._view.stalled is None:
            fresh, _, _ = self._fresh(sender, m.values)
            if fresh:
                self._checks.screen(sender, fresh)

    def _fresh(self, sender: int, values: Sequence[bytes]) -> tuple[FreshRequests, FreshRequests, list[bytes]]:
        """Those that are new, those that our own clients ask for again, and those that there is no room for."""
        checks, is_own = self._checks, sender == self._env.id
        fresh: FreshRequests = {}
        again: FreshRequests = {}
        refused: list[bytes] = []
        for value in values:
            digest = sha256(value).digest()
            was_executed = digest in self._executed
            if digest in self.turns:
                self.turns.add(sender, digest)
            if digest in self.pending or digest in checks.held or (was_executed and not is_own):
                continue
            request = requests.decode_signed_request(value)
            if request is None:
                self._refuse(sender, value)
            elif checks.is_full or not self._has_room(value) or (is_own and self._is_late):
                refused.append(value)
            elif was_executed:
                again[digest] = (value, requests.claim(request))
            else:
                fresh[digest] = (value, requests.claim(request))
                checks.hold(digest, value)
        return fresh, again, refused

    def is_known(self, digest: bytes) -> bool:
        """Whether this request's signature was checked, here or by those who decided it."""
        return digest in self.pending or digest in self._executed

    def checked(self, check: Check) -> None:
        """Signatures were checked, of requests that were brought here or proposed."""
        for place, (digest, value) in enumerate(check.values):
            is_wanted = self._checks.release(digest)  # else it was executed meanwhile
            if check.mask >> place & 1:
                if is_wanted:
                    self._admit(check.sender, digest, value)
            elif check.sequence is None:
                self._refuse(check.sender, value, is_known=check.failure is None)

    def _refuse(self, sender: int, value: bytes, *, is_known: bool = True) -> None:
        if sender == self._env.id:
            why = "the request is not signed by its client" if is_known else "its signature could not be checked"
            self._env.deliver(Dropped((value,), why))
        elif is_known:
            self._others.blame(sender, "passed on a request that its client did not sign")

    def _has_room(self, value: bytes) -> bool:
        config, checks = self._config, self._checks
        return (
            len(self.pending) + len(checks.held) < config.pending_max
            and self.pending_bytes + checks.held_bytes + len(value) <= config.pending_bytes_max
        )

    @property
    def _is_late(self) -> bool:
        """Whether more waits than is ordered at a time, and has waited for half the time after which the primary is
        suspected. What clients send now would be ordered when they have given up, and so would all that follows: no
        more of it is taken. What other nodes pass on is, as they hold the primary to it."""
        config = self._config
        if self.pending_bytes <= config.inflight_batches * config.batch_bytes_max:
            return False
        return self._env.now - self._came[next(iter(self.pending))] > config.request_timeout_s / 2

    def _admit(self, sender: int, digest: bytes, value: bytes) -> None:
        """A request whose signature is right waits for its execution."""
        if digest in self.pending or not self._has_room(value):
            return
        self.pending[digest] = value
        self.pending_bytes += len(value)
        self.turns.add(sender, digest)
        self._came[digest] = self._env.now

    # --- out ---

    def next_batch(self) -> tuple[bytes, ...]:
        """What a primary proposes next; empty if nothing waits for a number."""
        config = self._config
        batch: list[bytes] = []
        size = 0
        while len(batch) < config.batch_count_max and (digest := self.turns.first()) is not None:
            value = self.pending[digest]
            size += len(value)
            if batch and size > config.batch_bytes_max:
                break
            batch.append(value)
            self.turns.take()
        return tuple(batch)

    def requeue(self) -> None:
        """A view began: what is pending is to be proposed in it, or its execution awaited."""
        numbered = self._log.numbered(self._history.executed)
        self.turns.clear()
        for digest in self.pending:
            if digest not in numbered:
                self.turns.add(self._env.id, digest)

    def forget(self, value: bytes) -> None:
        """It was executed."""
        digest = sha256(value).digest()
        self._executed[digest] = None
        if len(self._executed) > EXECUTED_MAX:
            self._executed.popitem(last=False)
        self._checks.release(digest)
        self._end(digest)

    def _end(self, digest: bytes) -> None:
        """It waits no more, if it did."""
        oldest = next(iter(self.pending), None)
        value = self.pending.pop(digest, None)
        if value is None or oldest is None:
            return
        self.pending_bytes -= len(value)
        self.turns.discard(digest)
        if digest == oldest or self._is_in_turn(self._came[digest], self._came[oldest]):
            self._has_progress = True
        del self._came[digest]

    def _is_in_turn(self, came: float, oldest_came: float) -> bool:
        """Whether an honest primary may have had a request before the one that came here first of those that wait."""
        return came <= oldest_came + self._config.request_timeout_s

    def take_progress(self) -> bool:
        """Whether requests were executed in their turn since the last call: none that the oldest did not have to
        wait for."""
        has_progress, self._has_progress = self._has_progress, False
        return has_progress

    def forget_all(self) -> None:
        """Nobody can tell which of them a snapshot holds. A client that has no answer sends its request again."""
        self.pending.clear()
        self.turns.clear()
        self._came.clear()
        self.pending_bytes = 0

    # --- to the primary ---

    def pass_on(self) -> None:
        """Once a beat: what this backup has had for a beat, and the primary may lack. The oldest first."""
        if self._view.is_changing or self._view.is_primary or not self.pending:
            self._seen_at_beat.clear()
            self._passed_on.clear()
            return
        config = self._config
        numbered = self._log.numbered(self._history.executed)
        late: dict[bytes, bytes] = {}  # by digest
        size = 0
        for digest, value in self.pending.items():
            if digest not in self._seen_at_beat or digest in numbered:
                continue
            size += len(value)
            if late and (size > config.batch_bytes_max or len(late) == config.batch_count_max):
                break
            late[digest] = value
        if late:
            self._env.send(self._view.primary, Forward(tuple(late.values())))
        self._seen_at_beat = set(self.pending)
        self._doubt(late)

    def _doubt(self, late: Mapping[bytes, bytes]) -> None:
        """What got no number though it was passed on, the primary's App may know to be answered, or given up by its
        client: nobody orders that any more. Ask this node's App before the primary is suspected for it."""
        again = tuple(digest for digest in late if digest in self._passed_on)
        self._passed_on = set(late)
        if again and not self._doubted:
            self._doubted = again
            self._env.work(DOUBT, Screen(tuple(late[digest] for digest in again)))

    def doubted(self, result: Any) -> None:
        """The App has said it; if it could not, it is asked again."""
        doubted, self._doubted = self._doubted, ()
        for place in result.spent if isinstance(result, Screened) else ():
            self._end(doubted[place])
