"""Requests that a client signs, as the transactions of a chain that serves the key-value store or objects."""

from __future__ import annotations

import itertools

from quorate.machines.kv import commands as kv
from quorate.parts import requests
from quorate.parts.crypto.keys import Signer
from quorate.runtime.keys import Ed25519Signer, generate_secret
from quorate.service.requests import Apply, OpenSession, encode


class SignedTxs:
    """Of one client of a cluster. ``session``: the id of its session, once a block has the first transaction."""

    def __init__(self, cluster: str, signer: Signer | None = None) -> None:
        self.signer = (signer or Ed25519Signer(None, generate_secret())).within(cluster)
        self.session = 0
        self._numbers = itertools.count(1)

    def opening(self) -> bytes:
        """A session."""
        return requests.sign(self.signer, [encode(OpenSession(next(self._numbers)))])

    def opened(self, index: int) -> None:
        """The opening is the transaction of this index in all of the chain, the first being 1."""
        self.session = index * requests.COMMANDS_MAX

    def put(self, key: bytes, value: bytes) -> bytes:
        """A key of the store."""
        assert self.session, "a session comes first"
        operation = kv.encode(kv.Put(key, value))
        return requests.sign(self.signer, [encode(Apply(self.session, next(self._numbers), 0, operation))])
