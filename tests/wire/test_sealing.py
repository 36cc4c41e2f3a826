"""Sealed frames: what one side sealed opens for the other, once and in order, and nothing else does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.runtime.framing import SEALED_BYTES
from quorate.runtime.sealing import Ephemeral, SealedChannel, sealed_channel

TRANSCRIPT = b"what both saw"


def pair(transcript: bytes = TRANSCRIPT) -> tuple[SealedChannel, SealedChannel]:
    """The dialler's and the called's."""
    one, two = Ephemeral(), Ephemeral()
    secret = one.agree(two.share)
    assert secret == two.agree(one.share)
    return sealed_channel(secret, TRANSCRIPT, is_dialler=True), sealed_channel(secret, transcript, is_dialler=False)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=8))
def test_frames_open_in_order_in_both_directions(payloads: list[bytes]) -> None:
    ann, bob = pair()
    for sender, receiver in ((ann, bob), (bob, ann)):
        frames = [sender.seal(payload) for payload in payloads]
        assert [len(frame) - len(payload) for frame, payload in zip(frames, payloads, strict=True)] == [
            SEALED_BYTES
        ] * len(frames)
        assert [receiver.unseal(frame) for frame in frames] == payloads


def opens_not(receiver: SealedChannel, frame: bytes) -> None:
    with pytest.raises(ValueError, match="not sealed by the other side"):
        receiver.unseal(frame)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.integers(0), st.integers(1, 255))
def test_a_changed_byte_does_not_open(payload: bytes, at: int, change: int) -> None:
    ann, bob = pair()
    frame = bytearray(ann.seal(payload))
    frame[at % len(frame)] ^= change
    opens_not(bob, bytes(frame))


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_do_not_open(frame: bytes) -> None:
    opens_not(pair()[1], frame)


def test_a_frame_again_left_out_too_early_or_thrown_back_does_not_open() -> None:
    ann, bob = pair()
    first, second = ann.seal(b"first"), ann.seal(b"second")
    opens_not(bob, second)
    ann, bob = pair()
    first = ann.seal(b"first")
    assert bob.unseal(first) == b"first"
    opens_not(bob, first)
    ann, bob = pair()
    opens_not(ann, ann.seal(b"first"))
    assert first != second


def test_frames_of_another_connection_do_not_open() -> None:
    (ann, _), (_, bob) = pair(), pair()
    opens_not(bob, ann.seal(b"first"))


def test_sides_that_saw_another_handshake_have_other_keys() -> None:
    ann, bob = pair(b"what the called saw")
    opens_not(bob, ann.seal(b"first"))


def test_an_empty_payload_is_none() -> None:
    ann, bob = pair()
    opens_not(bob, ann.seal(b""))


@pytest.mark.parametrize("share", [bytes(32), (1).to_bytes(32, "little"), (2**255 - 19).to_bytes(32, "little")])
def test_a_share_with_which_the_secret_would_be_known_is_refused(share: bytes) -> None:
    with pytest.raises(ValueError, match="computing shared key"):
        Ephemeral().agree(share)
