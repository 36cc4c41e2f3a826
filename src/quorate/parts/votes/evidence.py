"""Evidence: a proof that a node misbehaved, which convinces whoever can check its signatures.

How it works. A Conflict holds two statements that one node signed and that no correct node signs both of. Which
statements contradict each other is a rule of the protocol, registered by the context that they are signed under; most
protocols allow a node one value for each slot, be it a view and a sequence number or a height and a round, and say
``one_value_a_slot``. Evidence from a peer is a claim until ``holds`` finds nothing wrong with it.

A statement must name all that makes it unique. Where one key serves several groups, that includes the group: two
statements are compared by their bytes, and the signature binds neither cluster nor slot.

The two statements are in ascending order, so that the same two make equal claims whoever brings them. (The signatures
may still differ: Ed25519 lets the owner of a key make many of one statement.)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Final, TypeAlias

import msgspec

from quorate.kernel import NodeId
from quorate.parts.crypto.keys import CONTEXT_BYTES_MAX, SIGNATURE_BYTES_MAX, Context, Keyring, Keys, Public, Signature
from quorate.parts.votes.certificate import STATEMENT_BYTES_MAX, Statement
from quorate.parts.wire import decode_canonical

ENCODED_BYTES_MAX: Final = 2 * (STATEMENT_BYTES_MAX + SIGNATURE_BYTES_MAX) + CONTEXT_BYTES_MAX + 256

Rule: TypeAlias = Callable[[bytes, bytes], bool]
"""Whether no correct node signs both statements, in either order. It raises nothing, whatever the bytes."""
Rules: TypeAlias = Mapping[str, Rule]
"""The rules of a protocol, by the context that the statements are signed under."""


class Said(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A statement and its signature: a claim."""

    statement: Statement
    signature: Signature


class Conflict(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This node, or the owner of this public key, signed both statements under the context: a claim, until it holds.

    ``conflict`` makes one of two statements in any order.
    """

    node: NodeId | Public
    context: Context
    first: Said
    second: Said

    def holds(self, keys: Keyring | Keys, rules: Rules) -> str | None:
        """Why this proves nothing; None: it proves that the node misbehaved. No content makes it raise."""
        first, second = self.first, self.second
        rule = rules.get(self.context)
        if rule is None:
            return f"there is no rule for what is signed as {self.context!r}"
        if first.statement == second.statement:
            return "it is the same statement twice"
        if first.statement > second.statement:
            return "the statements are not in ascending order"
        if max(len(first.statement), len(second.statement)) > STATEMENT_BYTES_MAX:
            return f"a statement has more than {STATEMENT_BYTES_MAX} bytes"
        if not (rule(first.statement, second.statement) or rule(second.statement, first.statement)):
            return "the statements do not contradict each other"
        for said, which in ((first, "first"), (second, "second")):
            if not keys.verify(self.node, self.context, said.statement, said.signature):
                return f"the {which} signature is not the node's"
        return None


Evidence: TypeAlias = Conflict
"""All kinds of evidence. Each has ``node`` and ``holds``."""


def conflict(node: int | bytes, context: str, one: Said, other: Said) -> Conflict:
    """The claim that a node contradicted itself with these two."""
    first, second = sorted((one, other), key=_by_statement)
    return Conflict(node, context, first, second)


def one_value_a_slot(slot_of: Callable[[bytes], Hashable | None]) -> Rule:
    """The rule that a node signs one statement for each slot. ``slot_of`` says which; None: malformed, so for none."""
    return partial(_has_other_value, slot_of)


def _has_other_value(slot_of: Callable[[bytes], Hashable | None], first: bytes, second: bytes) -> bool:
    slot = slot_of(first)
    return slot is not None and first != second and slot == slot_of(second)


def encode_evidence(evidence: Evidence) -> bytes:
    """The one encoding of it, in msgpack."""
    return msgspec.msgpack.encode(evidence)


def decode_evidence(data: bytes | memoryview) -> Evidence:
    """What ``encode_evidence`` made, still to be checked. Raises ValueError for anything else."""
    return decode_canonical(data, _decode, ENCODED_BYTES_MAX, "not evidence")


def _by_statement(said: Said) -> bytes:
    return said.statement


_decode: Final = msgspec.msgpack.Decoder(Evidence).decode
