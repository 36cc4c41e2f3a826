"""PendingRequests: what clients asked for and no height has decided, and whether what others propose is signed.

Signatures are checked off the loop, by jobs. Requests that are being checked take up room like those that wait, so
nobody fills a node with what nobody signed. A request that waits here need not be checked when it is proposed; so a
proposal is mostly judged at once.

What another node tells of (``passing.py``) takes up that node's share of the room at most. It was checked there, so one
that nobody signed is blamed on who told of it.

Clients send to all nodes, and what reaches this one shortly after it was decided is let go, or it would be decided
twice. Later it is taken in again: a client repeats what it has no answer to, and a read is then to be ordered anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from quorate.kernel import Env, Key
from quorate.parts import requests
from quorate.parts.crypto.keys import Signed, Verified, batches
from quorate.parts.log.replicated import Busy, Dropped
from quorate.protocols.tendermint.messages import TendermintConfig

CHECK: Final = "check"
CHECKS_MAX: Final = 4096
"""Jobs under way, beyond which no requests are taken in. What is judged is bounded by the proposals that are kept."""
UNSIGNED: Final = "not signed by a client"
NO_ROOM: Final = "too many requests wait"


class _Check:
    """A job: what it checks, and the proposed value that this is part of; None: clients brought it here, or a node did,
    ``source``."""

    __slots__ = ("claims", "proposed", "source", "values")

    def __init__(
        self, proposed: bytes | None, source: int | None, values: dict[bytes, bytes], claims: Sequence[Signed]
    ) -> None:
        self.proposed = proposed
        self.source = source
        self.values = values
        self.claims = claims


class PendingRequests:
    """By digest, in the order in which they came."""

    def __init__(self, env: Env, config: TendermintConfig) -> None:
        self._env = env
        self._config = config
        self.waiting: dict[bytes, bytes] = {}
        self._held: dict[bytes, int] = {}  # sizes of what waits or is being checked
        self._held_bytes = 0
        self._sources: dict[bytes, int] = {}  # which node told of what is held
        self._of_nodes: dict[int, tuple[int, int]] = {}  # count and bytes of that, by node
        self._checks: dict[int, _Check] = {}
        self._left: dict[bytes, int] = {}  # by proposed value, how many of its jobs have not ended
        self._failed: list[_Check] = []
        self._number = 0
        self._decided_at: dict[bytes, float] = {}  # by digest, the oldest first

    # --- in ---

    def holds(self, value: bytes) -> bool:
        """Whether it waits or is being checked, or was decided just now."""
        digest = sha256(value).digest()
        return digest in self._held or digest in self._decided_at

    def is_held(self, digest: bytes) -> bool:
        """Whether what has this digest waits or is being checked."""
        return digest in self._held

    def submit(self, values: Sequence[bytes], source: int | None = None) -> None:
        """Requests of this node's clients; or, with a ``source``, what that node tells of."""
        fresh: dict[bytes, tuple[bytes, Signed]] = {}
        unsigned, refused = [], []
        for value in values:
            digest = sha256(value).digest()
            if digest in self._held or digest in self._decided_at:
                continue
            request = requests.decode_signed_request(value)
            if request is None:
                unsigned.append(value)
            elif not self._has_room(value, source):
                refused.append(value)
            else:
                fresh[digest] = (value, requests.claim(request))
                self._hold(digest, value, source)
        self._ask(None, fresh, source)
        if unsigned:
            self._refuse(unsigned, source)
        if refused and source is None:
            self._env.deliver(Busy(tuple(refused), NO_ROOM))

    def _refuse(self, unsigned: Sequence[bytes], source: int | None) -> None:
        if source is None:
            self._env.deliver(Dropped(tuple(unsigned), UNSIGNED))
        else:
            self._env.blame(source, "tells of a request that no client signed")

    def _has_room(self, value: bytes, source: int | None = None) -> bool:
        config = self._config
        has_room = (
            len(self._checks) < CHECKS_MAX
            and len(self._held) < config.pending_max
            and self._held_bytes + len(value) <= config.pending_bytes_max
        )
        if source is None or not has_room:
            return has_room
        (count, size), parts = self._of_nodes.get(source, (0, 0)), len(self._env.peers)
        return not count or (
            count < config.pending_max // parts and size + len(value) <= config.pending_bytes_max // parts
        )

    def _hold(self, digest: bytes, value: bytes, source: int | None = None) -> None:
        self._held[digest] = len(value)
        self._held_bytes += len(value)
        if source is not None:
            self._sources[digest] = source
            self._count(source, 1, len(value))

    def _count(self, source: int, more: int, size: int) -> None:
        before = self._of_nodes.get(source, (0, 0))
        self._of_nodes[source] = (before[0] + more, before[1] + size)

    def judge(self, proposed: bytes, values: Sequence[bytes]) -> bool | None:
        """Whether clients signed all that is proposed; None: ``done`` will tell."""
        fresh: dict[bytes, tuple[bytes, Signed]] = {}
        for value in values:
            digest = sha256(value).digest()
            if digest not in self.waiting:
                request = requests.decode_signed_request(value)
                if request is None:
                    return False
                fresh[digest] = (value, requests.claim(request))
        if not fresh:
            return True
        self._left[proposed] = self._ask(proposed, fresh)
        return None

    def _ask(self, proposed: bytes | None, fresh: dict[bytes, tuple[bytes, Signed]], source: int | None = None) -> int:
        items = list(fresh.items())
        place = jobs = 0
        for job in batches([claim for _, (_, claim) in items]):
            part = items[place : place + len(job.items)]
            place += len(job.items)
            jobs += 1
            self._begin(_Check(proposed, source, {digest: value for digest, (value, _) in part}, job.items))
        return jobs

    def _begin(self, check: _Check) -> None:
        self._number += 1
        self._checks[self._number] = check
        for job in batches(check.claims):
            self._env.work((CHECK, self._number), job)

    def done(self, key: Key, result: Any) -> tuple[bytes, bool] | None:
        """A job ended; a value that is judged by that, and whether it is valid."""
        check = self._checks.pop(key[1], None) if isinstance(key, tuple) and key[0] == CHECK else None
        if check is None:
            return None
        if check.proposed is None:
            self._checked(check, result)
            return None
        if check.proposed not in self._left:
            return None
        if not isinstance(result, Verified):
            self._failed.append(check)
            return None
        self._admit(check, result.mask)
        left = self._left.pop(check.proposed) - 1
        is_right = result.mask == (1 << len(check.values)) - 1
        if is_right and left:
            self._left[check.proposed] = left
            return None
        return check.proposed, is_right

    def _checked(self, check: _Check, result: Any) -> None:
        wrong, was_checked = [], isinstance(result, Verified)
        mask = result.mask if was_checked else 0
        for place, (digest, value) in enumerate(check.values.items()):
            if digest not in self._held:
                continue  # decided meanwhile
            if mask >> place & 1:
                self.waiting[digest] = value
            else:
                self._release(digest)
                wrong.append(value)
        if wrong and (was_checked or check.source is None):
            self._refuse(wrong, check.source)

    def _admit(self, check: _Check, mask: int) -> None:
        """What others proposed, this node may propose: those who were told of it must not wait for one that lies."""
        for place, (digest, value) in enumerate(check.values.items()):
            if mask >> place & 1 and digest not in self._held and self._has_room(value):
                self._hold(digest, value)
                self.waiting[digest] = value

    def again(self) -> None:
        """Once a beat. What could not be checked, for want of room say, is tried again."""
        long_ago = self._env.now - self._config.propose_s
        self._decided_at = {digest: at for digest, at in self._decided_at.items() if at > long_ago}
        failed, self._failed = self._failed, []
        for check in failed:
            if check.proposed in self._left:
                self._begin(check)

    # --- out ---

    def next_batch(self) -> tuple[bytes, ...]:
        """What a proposer proposes next, one request at least where any waits."""
        config = self._config
        batch: list[bytes] = []
        size = 0
        for value in self.waiting.values():
            size += len(value)
            if batch and (size > config.batch_bytes_max or len(batch) >= config.batch_count_max):
                break
            batch.append(value)
        return tuple(batch)

    def decided(self, values: Sequence[bytes]) -> None:
        """These wait no more, and what was proposed beside them need not be judged."""
        self._left.clear()
        self._failed.clear()
        self._checks = {number: check for number, check in self._checks.items() if check.proposed is None}
        for value in values:
            digest = sha256(value).digest()
            self._release(digest)
            self._decided_at[digest] = self._env.now

    def forget_all(self) -> None:
        """The state is another one, in which these may have been decided; clients repeat what was not."""
        self.waiting.clear()
        self._held.clear()
        self._held_bytes = 0
        self._sources.clear()
        self._of_nodes.clear()
        self._checks.clear()
        self._left.clear()
        self._failed.clear()

    def _release(self, digest: bytes) -> None:
        size = self._held.pop(digest, 0)
        self._held_bytes -= size
        source = self._sources.pop(digest, None)
        if source is not None:
            self._count(source, -1, -size)
        self.waiting.pop(digest, None)
