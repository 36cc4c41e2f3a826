"""Tokens as text: what is read is what was written, and anything else is refused in words."""

from __future__ import annotations

import base64
from string import ascii_letters, digits

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.parts.log.configuration import invitation_lock
from quorate.runtime.keys import Ed25519Signer, generate_secret
from quorate.service.tokens import CHARACTERS_MAX, PREFIX, Token, TokenError, _checksum, new_token, read_token, to_text

ADMIN = Ed25519Signer(None, generate_secret())
TOKEN = new_token("example", 4, 0, None)
SIGNED = new_token("example", 5, 1, ADMIN)


def test_a_token_is_read_as_it_was_written() -> None:
    for token in (TOKEN, SIGNED):
        text = to_text(token)
        assert read_token(f"  {text}\n") == token
        assert text.isascii()
        assert " " not in text
        assert token.secret.hex() not in repr(token)
    assert (TOKEN.lock, SIGNED.lock) == (invitation_lock(TOKEN.secret), SIGNED.signer().public)
    assert new_token("example", 4, 0, None).secret != TOKEN.secret


@given(st.data())
def test_one_character_that_is_another_is_noticed(data: st.DataObject) -> None:
    text = to_text(data.draw(st.sampled_from([TOKEN, SIGNED])))
    place = data.draw(st.integers(0, len(text) - 1))
    how = data.draw(st.sampled_from(["", "A", "-", "é", " ", "\0", "/"]))
    changed = text[:place] + how + text[place + 1 :]
    if changed.strip() == text:
        return
    with pytest.raises(TokenError, match="`quorate members add`"):
        read_token(changed)


@pytest.mark.parametrize("token", [TOKEN, SIGNED], ids=["plain", "signed"])
def test_there_is_one_text_for_a_token(token: Token) -> None:
    """Base64 of the standard alphabet, and other spare bits at the end, would decode to the same bytes."""
    text = to_text(msgspec.structs.replace(token, secret=b"\xff" * 32, signature=token.signature))
    twins = [text.replace("_", "/", 1), *(text[:-1] + last for last in ascii_letters + digits + "-_")]
    assert twins[0] != text
    for twin in set(twins) - {text}:
        with pytest.raises(TokenError, match="this token is damaged"):
            read_token(twin)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: PREFIX + base64.b64encode(data).decode()))
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError, match="token"):
        read_token(text)


def test_what_is_too_long_is_not_decoded() -> None:
    with pytest.raises(TokenError, match="this is not a token, which begins with quorate-"):
        read_token(PREFIX + "A" * CHARACTERS_MAX)


@pytest.mark.parametrize(
    "said",
    [
        ("example", 4, bytes(31)),
        ("example", 1024, bytes(32)),
        ("example", 4, bytes(32), -1),
        ("x" * 200, 4, bytes(32)),
        ("example", 4, bytes(32), 0, b"", b"", "more"),
        (),
        7,
    ],
    ids=repr,
)
def test_what_a_token_cannot_say(said: object) -> None:
    data = msgspec.msgpack.encode(said)
    with pytest.raises(TokenError, match="run the release that printed it"):
        read_token(PREFIX + base64.urlsafe_b64encode(data + _checksum(data)).decode())


@pytest.mark.parametrize(
    "change",
    [
        {"node": 6},
        {"faults": 0},
        {"secret": bytes(32)},
        {"cluster": "other"},
        {"signature": bytes(64)},
        {"admin": b"x"},
    ],
    ids=repr,
)
def test_what_the_administrator_signed_cannot_be_changed(change: dict[str, object]) -> None:
    forged: Token = msgspec.structs.replace(SIGNED, **change)
    with pytest.raises(TokenError, match="not signed by the administrator whom it names"):
        read_token(to_text(forged))
