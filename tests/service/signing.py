"""What tests of signed requests share: a stand-in for a protocol whose nodes sign, and nodes that lie to clients.

The stand-in orders by Raft, which bears no lies among nodes. It shows what is above the log: a signed request is one
value, every node gets it and submits it, and whoever forges one gets nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from quorate.kernel import App, Env, Rng
from quorate.parts import requests as signed
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.replicated import Dropped
from quorate.protocols import REGISTRY, ProtocolEntry
from quorate.protocols.raft import Raft, RaftConfig
from quorate.protocols.traits import SIGNED_BYZANTINE
from quorate.service.requests import Failure, Query, Result
from quorate.service.signed import SignedReplica
from quorate.trials.subjects import SESSIONS_MAX, RegisterSubject


class SignedRaft(Raft):
    """Raft that takes in what a client has signed."""

    def __init__(self, env: Env, config: RaftConfig, keys: Keys) -> None:
        super().__init__(env, config)
        self.keys = keys

    def submit(self, values: Sequence[bytes]) -> None:
        good = tuple(value for value in values if self._is_signed(value))
        if len(good) < len(values):
            bad = tuple(value for value in values if value not in good)
            self.env.deliver(Dropped(bad, "the signature is wrong"))
        super().submit(good)

    def _is_signed(self, value: bytes) -> bool:
        request = signed.decode_signed_request(value)
        if request is None:
            return False
        claim = signed.claim(request)
        return self.keys.verify(claim.signer, claim.context, claim.message, claim.signature)


STAND_IN = msgspec.structs.replace(
    REGISTRY["raft"], name="signed", title="Raft with signed requests", core=SignedRaft, traits=SIGNED_BYZANTINE
)


@contextmanager
def registered(entry: ProtocolEntry = STAND_IN) -> Iterator[ProtocolEntry]:
    """The stand-in is a protocol for a while."""
    REGISTRY[entry.name] = entry
    try:
        yield entry
    finally:
        del REGISTRY[entry.name]


class Lying(SignedReplica):
    """Does what the log says and tells clients another thing. ``lie`` makes a falsehood of a result."""

    def __init__(self, *arguments: Any, lie: Callable[[bytes], bytes], **limits: Any) -> None:
        super().__init__(*arguments, **limits)
        self._lie = lie

    def _answer(self, waiting: Any, answers: Sequence[Result | Failure]) -> None:
        super()._answer(waiting, [Result(answer.id, self._lie(getattr(answer, "data", b""))) for answer in answers])

    def _query(self, client: Any, request: Query) -> None:
        self._answers.append((client, Result(request.id, self._lie(b""))))


class LyingRegisters(RegisterSubject):
    """Registers in memory; these nodes lie about them."""

    liars: tuple[int, ...] = ()
    lie: Callable[[bytes], bytes]

    def app(self, node: int, rng: Rng) -> App:
        if node not in self.liars:
            return super().app(node, rng)
        return Lying(self.machine(node), sessions_max=SESSIONS_MAX, lie=self.lie)
