"""Requests: commands that a client signed, so that no node can make one up.

How it works. A value that a Byzantine protocol orders is a Request: a client's public key, commands that are opaque
here, and one signature for all of them (as many puts share an fsync, so do those that are under way together share a
signature). The signature binds the commands and the key, and no time: that a command takes effect once is for the
sessions above, whose serials are in the commands (Castro and Liskov 1999, §4.2, have the timestamp for this).

Whoever makes a key is a client. What a key may do is for the state machine to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quorate.parts.crypto.keys import Keyring, Public, Signature, Signed, Signer

CONTEXT: Final = "request"
COMMANDS_MAX: Final = 1024
REQUEST_BYTES_MAX: Final = 2 << 20


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A claim until its signature is checked: this client wants these commands, in this order."""

    client: Public
    commands: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=COMMANDS_MAX)]
    signature: Signature


def sign(signer: Signer, commands: Sequence[bytes]) -> bytes:
    """The value to submit. Raises ValueError for no commands, too many, or too large ones."""
    if not 1 <= len(commands) <= COMMANDS_MAX:
        raise ValueError(f"{len(commands)} commands in a request, not 1 to {COMMANDS_MAX}")
    body = tuple(commands)
    value = _encode(Request(signer.public, body, signer.sign(CONTEXT, _digest(signer.public, body))))
    if len(value) > REQUEST_BYTES_MAX:
        raise ValueError(f"a request of {len(value)} bytes, at most {REQUEST_BYTES_MAX}: sign fewer commands together")
    return value


def decode_signed_request(value: bytes) -> Request | None:
    """What ``sign`` made, its signature still to be checked; None for anything else."""
    if len(value) > REQUEST_BYTES_MAX:
        return None
    try:
        request = _decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    # One request has one encoding: else a node could have copies of it ordered under other digests.
    return request if _encode(request) == value else None


def claim(request: Request) -> Signed:
    """What a Keyring or a VerifyBatch is to check."""
    return Signed(request.client, CONTEXT, _digest(request.client, request.commands), request.signature)


def is_signed(value: bytes, keyring: Keyring) -> bool:
    """Whether this is a request and its client signed it; for who can wait for that check."""
    request = decode_signed_request(value)
    if request is None:
        return False
    signed = claim(request)
    return keyring.verify(signed.signer, signed.context, signed.message, signed.signature)


def _digest(client: bytes, commands: tuple[bytes, ...]) -> bytes:
    return sha256(_encode((client, commands))).digest()


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Request).decode
