"""ZIP-215: what RFC 8032 leaves open is answered, by points that the test computes itself."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from quorate.parts.crypto.zip215 import verify_zip215

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def sqrt(square: int) -> int | None:
    root = pow(square, (P + 3) // 8, P)
    for candidate in (root, root * pow(2, (P - 1) // 4, P) % P):
        if candidate * candidate % P == square % P:
            return candidate
    return None


def x_of(y: int) -> int | None:
    """An x of the point with this y on -x^2 + y^2 = 1 + d x^2 y^2; None: there is none."""
    return sqrt((y * y - 1) * pow(D * y * y + 1, -1, P) % P)


def doubled(point: tuple[int, int]) -> tuple[int, int]:
    x, y = point
    product = D * x * x * y * y % P
    return 2 * x * y * pow(1 + product, -1, P) % P, (y * y + x * x) * pow(1 - product, -1, P) % P


def small_order_ys() -> list[int]:
    """The y of the points whose eightfold is the neutral one: of order 1, 2, 4, and by halving once more, 8."""
    found = [1, P - 1, 0]
    root = sqrt(D)  # order 8: y^2 = x^2 up to sign, so that doubling gives y = 0; it solves d y^4 + 2 y^2 - 1 = 0
    assert root is None
    for sign in (1, -1):
        inner = sqrt((1 + D) % P)
        assert inner is not None
        square = (sign * inner - 1) * pow(D, -1, P) % P
        y = sqrt(square)
        if y is not None:
            found += [y, P - y]
    return sorted(found)


def encodings() -> list[bytes]:
    """Every encoding of a point of small order: y, and y + p where it fits 255 bits, each with both signs."""
    ys = [y + more for y in small_order_ys() for more in (0, P) if y + more < 2**255]
    return [(y | sign << 255).to_bytes(32, "little") for y in ys for sign in (0, 1)]


def test_there_are_fourteen_encodings_of_small_order() -> None:
    for y in small_order_ys():
        x = x_of(y)
        assert x is not None
        assert doubled(doubled(doubled((x, y)))) == (0, 1)
    assert len(set(encodings())) == 14


@pytest.mark.parametrize("key", encodings())
def test_small_order_keys_and_points_are_accepted(key: bytes) -> None:
    """All 196 pairs, with s = 0, of any message: the cofactor makes both sides neutral."""
    for point in encodings():
        assert verify_zip215(key, b"Zcash", point + bytes(32))
        assert not verify_zip215(key, b"Zcash", point + (1).to_bytes(32, "little"))


@given(st.binary(max_size=200), st.integers(0, 511))
def test_a_signature_is_of_one_message_by_one_key(message: bytes, bit: int) -> None:
    signature = KEY.sign(message)
    flipped = (int.from_bytes(signature, "big") ^ 1 << bit).to_bytes(64, "big")
    assert verify_zip215(PUBLIC, message, signature)
    assert not verify_zip215(PUBLIC, message, flipped)
    assert not verify_zip215(PUBLIC, message + b"x", signature)


def test_s_has_one_form() -> None:
    signature = KEY.sign(b"m")
    s = int.from_bytes(signature[32:], "little")
    assert not verify_zip215(PUBLIC, b"m", signature[:32] + (s + ORDER).to_bytes(32, "little"))


@given(st.binary(max_size=70), st.binary(max_size=40))
def test_any_bytes_are_no_error(signature: bytes, key: bytes) -> None:
    assert verify_zip215(key, b"m", signature) is False


def test_lengths() -> None:
    signature = KEY.sign(b"m")
    assert not verify_zip215(PUBLIC, b"m", signature + b"\0")
    assert not verify_zip215(PUBLIC, b"m", signature[:-1])
    assert not verify_zip215(PUBLIC + b"\0", b"m", signature)
    assert not verify_zip215((2).to_bytes(32, "little"), b"m", signature)  # on no point of the curve
