"""Signed requests: one encoding, one signature over all of it, and nothing else passes for one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.parts import requests
from quorate.parts.crypto.keys import Scheme, Symbolic, VerifyBatch
from quorate.parts.requests import COMMANDS_MAX, REQUEST_BYTES_MAX, Request, claim, decode_signed_request, sign
from quorate.runtime.keys import Ed25519

SCHEMES: dict[str, Scheme] = {"symbolic": Symbolic((1, 2)), "ed25519": Ed25519((1, 2))}
schemes = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
bodies = st.lists(st.binary(max_size=40), min_size=1, max_size=6)


def is_right(scheme: Scheme, value: bytes) -> bool:
    """Whether a value is a request that its client signed."""
    request = decode_signed_request(value)
    return request is not None and scheme.keyring().verify_batch(VerifyBatch((claim(request),))).mask == 1


@schemes
@given(st.integers(0, 3), bodies)
def test_a_request_comes_back_and_its_claim_holds(scheme, client, commands):
    signer = scheme.client(client)
    value = sign(signer, commands)
    request = decode_signed_request(value)
    assert request is not None
    assert (request.client, list(request.commands)) == (signer.public, commands)
    assert is_right(scheme, value)
    assert msgspec.msgpack.encode(request) == value


@schemes
@settings(max_examples=200)
@given(bodies, st.data())
def test_whatever_is_changed_in_a_request_nobody_has_signed(scheme, commands, data):
    value = bytearray(sign(scheme.client(1), commands))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] ^= data.draw(st.integers(1, 255))
    assert not is_right(scheme, bytes(value))


@schemes
@given(bodies, st.binary(min_size=1, max_size=4))
def test_a_request_that_is_cut_or_goes_on_is_none(scheme, commands, more):
    value = sign(scheme.client(1), commands)
    assert decode_signed_request(value + more) is None
    assert decode_signed_request(value[: -len(more)]) is None


@schemes
@given(bodies, bodies)
def test_commands_cannot_be_moved_between_requests_or_clients(scheme, one, two):
    ann, bob = scheme.client(1), scheme.client(2)
    first, second = (decode_signed_request(sign(ann, body)) for body in (one, two))
    assert first is not None
    assert second is not None
    swapped = Request(ann.public, second.commands, first.signature)
    assert is_right(scheme, msgspec.msgpack.encode(swapped)) == (one == two)
    stolen = Request(bob.public, first.commands, first.signature)
    assert not is_right(scheme, msgspec.msgpack.encode(stolen))


def test_commands_do_not_run_into_each_other() -> None:
    signer = SCHEMES["symbolic"].client(1)
    made = {sign(signer, body) for body in ([b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"", b"abc"])}
    signatures = {request.signature for value in made if (request := decode_signed_request(value)) is not None}
    assert len(signatures) == 4


def padded(value: Any) -> bytes:
    """The same value in an encoding that is not the shortest: an array of 16-bit length."""
    data = msgspec.msgpack.encode(value)
    assert data[0] == 0x93
    return b"\xdc\x00\x03" + data[1:]


def test_another_encoding_of_the_same_request_is_none() -> None:
    request = decode_signed_request(sign(SCHEMES["symbolic"].client(1), [b"put"]))
    assert msgspec.msgpack.decode(padded(request), type=Request) == request
    assert decode_signed_request(padded(request)) is None
    assert decode_signed_request(msgspec.msgpack.encode((*msgspec.structs.astuple(request), 1))) is None


@given(st.binary(max_size=200))
def test_bytes_that_are_no_request_are_none_and_raise_nothing(data: bytes) -> None:
    assert decode_signed_request(data) is None


@pytest.mark.parametrize("depth", [100, 1000, 100_000])
def test_bytes_that_are_nested_deeply_are_none(depth: int) -> None:
    assert decode_signed_request(b"\x93" + b"\x91" * depth) is None


def test_limits_of_a_request() -> None:
    signer = SCHEMES["symbolic"].client(1)
    assert decode_signed_request(sign(signer, [b""] * COMMANDS_MAX)) is not None
    with pytest.raises(ValueError, match="0 commands"):
        sign(signer, [])
    with pytest.raises(ValueError, match="1025 commands"):
        sign(signer, [b""] * (COMMANDS_MAX + 1))
    with pytest.raises(ValueError, match="sign fewer commands"):
        sign(signer, [bytes(REQUEST_BYTES_MAX)])
    body = [bytes(REQUEST_BYTES_MAX - 200)]
    assert decode_signed_request(sign(signer, body)) is not None
    for commands in ((), (b"",) * (COMMANDS_MAX + 1), (bytes(REQUEST_BYTES_MAX),)):
        assert decode_signed_request(msgspec.msgpack.encode(Request(signer.public, commands, bytes(32)))) is None
    for client in (b"", bytes(15), bytes(65)):
        assert decode_signed_request(msgspec.msgpack.encode(Request(client, (b"",), bytes(32)))) is None
    assert decode_signed_request(msgspec.msgpack.encode(Request(signer.public, (b"",), bytes(97)))) is None


def test_a_digest_that_leaves_the_client_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: a signature that binds the commands alone can be taken over with another key's name."""
    monkeypatch.setattr(requests, "_digest", lambda _, commands: requests.sha256(b"".join(commands)).digest())
    with pytest.raises(AssertionError):
        test_commands_do_not_run_into_each_other()
