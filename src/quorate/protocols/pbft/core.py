"""PBFT: a replicated log among nodes of which f may lie, with n = 3f + 1 of them.

Sources. Castro and Liskov, "Practical Byzantine fault tolerance" (OSDI 1999), whose section numbers stand beside the
rules, and Castro's thesis (2001).

How it works. In each view one node, the primary, gives numbers to batches of clients' requests; two rounds of votes
among all (``normal.py``) make an order first certain within the view, then certain in every later one. Checkpoints
(``checkpoints.py``) bound what is remembered; at one of them other members may begin to vote (``members.py``). A
primary that stands in the way is replaced (``views.py``). Who fell behind fetches what was decided, with proof
(``transfer.py``). Requests are signed by their clients, and a node that lies can neither invent nor change one
(``requests.py``).

Durable state, so that a crash is only a crash: ``Accepted`` and ``Stored`` (what this node voted for), ``Prepared``
(what it may have committed), ``Changing`` and ``Entered`` (its view), ``Executed`` (stable checkpoints and the order
up to them), ``Taken`` (snapshots). All that a node says waits for the records before it, by the kernel's barrier.

Deviations. (1) A pre-prepare counts as its primary's prepare, signed as such, so that one certificate of a quorum
proves an order. (2) A prepare carries the primary's signature: two that differ prove that it lied, and end its view at
once. (3) A checkpoint's digest is a hash over the order, not over the state. Execution is deterministic, so they are
equal together; and no checkpoint has to read the state. (4) The last-reply cache of §4.2 is the session table of the
service above, part of its snapshots; this core orders a request that comes again, and the sessions do not repeat it.
(5) The timer runs for the oldest waiting request, so that no client is starved. (6) MACs serve for commits and for what
one node tells another that is behind, which no third needs to believe; with signatures for the rest, the view change is
the simple one of OSDI 1999. (7) A quorum's commits decide for a node that has left their view, or did not prepare there
itself, and so does the word of f + 1 nodes that executed it: it could else stay behind for as long as the others need
no other view. (8) No tentative execution.
"""

from __future__ import annotations

from quorate.kernel import Env, Key
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.replicated import Restored
from quorate.protocols.pbft.messages import MESSAGES, PbftConfig
from quorate.protocols.pbft.replica import BEAT, EXECUTE, REQUEST, TERM, VIEW
from quorate.protocols.pbft.transfer import Transfer


class Pbft(Transfer):
    """One node."""

    messages = MESSAGES

    def __init__(self, env: Env, config: PbftConfig, keys: Keys) -> None:
        super().__init__(env, config, keys)

    def start(self) -> None:
        """After recovery: execute again what is proven, and go on in the view."""
        if self.images:
            self.env.deliver(Restored(self.images[-1].index, TERM))
        self._recover()
        self._flush()
        if self.executed > self.low and self.executed % self.config.checkpoint_batches == 0:
            self._make_checkpoint()  # of the snapshot: it may be the others' last one, too
        self._announce()
        self._take_up_view()
        self._beat()

    def on_timer(self, key: Key) -> None:
        """A beat, a time-out, or the rest of what is to be executed."""
        if key == BEAT:
            self._beat()
        elif key == EXECUTE:
            self._is_paused = False
        elif key == REQUEST:
            if self._request_alarm.is_due():
                self._suspect()
        elif key == VIEW and self._view_alarm.is_due():
            self._view_is_late()

    def on_stalled(self, why: str | None) -> None:
        """While the disk is full be silent: whoever waits for this node will do without it."""
        self._stalled = why
        if why is None:
            self._watch()  # timers may have run out meanwhile
            self._look_at_changes()
            for slot in list(self.slots.values()):
                self._check_prepared(slot)

    def settle(self) -> None:
        """What the inputs of this step share: execute, propose, answer. Once."""
        self._execute_ready()
        self._forget_proven()
        self._meet_new_members()
        self._propose()
        self._answer_reads()
