"""Validity: what is committed was asked for by a client. Nodes that lie may order requests, but make none up.

Clients sign, and the simulated ones are honest, so a right signature of one of them is the proof. A change of members
that counts for nothing, because its epoch is over, is the administrator's request all the same.
"""

from __future__ import annotations

from typing import Any

from quorate.parts import requests
from quorate.parts.crypto.keys import Scheme
from quorate.parts.log.entries import COMMAND
from quorate.parts.log.replicated import Decided
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.options import ADMINISTRATOR, CLIENTS_MAX

VALIDITY = "validity"


class Validity(Checker):
    """Looks at each index once, at the node that commits it first; agreement is another checker's affair."""

    def __init__(self, scheme: Scheme) -> None:
        self._keyring = scheme.keyring()
        self._clients = frozenset(scheme.client(number).public for number in (*range(CLIENTS_MAX), ADMINISTRATOR))
        self.checked = 0

    def output(self, node: int, value: Any) -> None:
        if type(value) is not Decided:
            return
        index = value.first_index
        for entry in value.entries[max(0, self.checked + 1 - index) :]:
            if entry.kind == COMMAND and (why := self._why_not(entry.data)):
                raise Violation(VALIDITY, f"node {node} commits {why} among those from index {index}")
        self.checked = max(self.checked, index + len(value.entries) - 1)

    def _why_not(self, data: bytes) -> str:
        request = requests.decode_signed_request(data)
        if request is None:
            return f"what is no request ({data[:40]!r})"
        if request.client not in self._clients:
            return "a request of nobody"
        claim = requests.claim(request)
        if not self._keyring.verify(claim.signer, claim.context, claim.message, claim.signature):
            return "a request that its client did not sign"
        return ""
