"""The open handshake, as frames in and out: who proves what to whom, and what is worthless elsewhere."""

from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.parts.crypto.keys import to_sign
from quorate.runtime import handshake, open_handshake
from quorate.runtime.keys import Ed25519Signer, Ed25519Verifier
from quorate.runtime.open_handshake import CalledSide, DiallerSide, Knock, Myself
from quorate.runtime.proving import Admitted, Challenge, Mismatch, Proof
from quorate.runtime.sealing import Ephemeral

NONCES = [bytes([number]) * 32 for number in range(8)]
ANN, BOB, EVE = (Myself("net/1", Ed25519Signer(None, bytes([number]) * 32)) for number in (1, 2, 3))


def fresh(nonce: bytes) -> Ephemeral:
    return Ephemeral(nonce, blake2b(nonce, digest_size=32).digest())


def begun(dialler: Myself = ANN, called: Myself = BOB, nonces: tuple[bytes, bytes] = (NONCES[0], NONCES[1])):
    return DiallerSide(dialler, fresh(nonces[0]), 7501), CalledSide(called, fresh(nonces[1]))


def test_two_who_belong_together_prove_their_keys() -> None:
    ann, bob = begun()
    knock = bob.knocked(ann.opening)
    assert (knock.key, knock.network, knock.port, knock.nonce) == (ANN.key, "net/1", 7501, NONCES[0])
    bob.proved(ann.challenged(bob.challenge()))
    ann.admitted(bob.admission())
    assert (ann.key, bob.key) == (BOB.key, ANN.key)


def refused(step: Callable[[], object], code: str, text: str) -> None:
    with pytest.raises(Mismatch, match=text) as caught:
        step()
    assert caught.value.refusal.code == code
    frame = handshake.encode(caught.value.refusal)
    assert handshake.answer_in(frame) == caught.value.refusal
    assert len(frame) <= handshake.HELLO_SIZE_BYTES_MAX


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"magic": b"quorate"}, "magic", "this is a port of an open Quorate network"),
        ({"version": 1}, "version", "you speak 1: run the same release"),
        ({"network": "net/2"}, "network", "this is network 'net/1', you are of 'net/2'"),
        ({"key": BOB.key}, "self", "this is you yourself"),
        ({"key": ANN.key[:31]}, "malformed", "no Knock"),
        ({"nonce": b""}, "malformed", "no Knock"),
        ({"port": 65536}, "malformed", "no Knock"),
        ({"network": "n" * 197}, "malformed", "no Knock"),
    ],
)
def test_a_knock_that_does_not_fit_is_refused_with_the_reason(changes: dict, code: str, text: str) -> None:
    ann, bob = begun()
    knock = msgspec.structs.replace(msgspec.msgpack.decode(ann.opening, type=Knock), **changes)
    refused(lambda: bob.knocked(msgspec.msgpack.encode(knock)), code, text)


def test_a_node_of_a_closed_cluster_is_told_so_and_the_other_way_round() -> None:
    hello = handshake.encode(handshake.client_hello())
    refused(lambda: begun()[1].knocked(hello), "magic", "open Quorate network")
    me = handshake.LocalNode("c", "raft", 0, frozenset({0}))
    judged = handshake.judge(begun()[0].opening, me, "peer")
    assert isinstance(judged, handshake.Refused)
    assert judged.code == "magic"


def test_another_version_is_told_so_whatever_else_it_says() -> None:
    frame = msgspec.msgpack.encode([open_handshake.MAGIC, 99, {"all": "new"}])
    refused(lambda: begun()[1].knocked(frame), "version", "you speak 99")


def test_a_dialler_wants_one_key_or_any_but_its_own() -> None:
    ann = DiallerSide(ANN, fresh(NONCES[0]), 0, expected=EVE.key)
    refused(
        lambda: ann.challenged(CalledSide(BOB, fresh(NONCES[1])).challenge()),
        "key",
        "it has another key, " + BOB.key.hex(),
    )
    ann = DiallerSide(ANN, fresh(NONCES[0]), 0)
    refused(lambda: ann.challenged(CalledSide(ANN, fresh(NONCES[1])).challenge()), "self", "this node itself")


def test_a_refusal_is_the_reason_at_every_step() -> None:
    no = handshake.encode(handshake.refused("full", "come\nback " + "x" * 900))
    ann, bob = begun()
    refused(lambda: ann.challenged(no), "full", r"refused us: 'come\\nback x+'$")
    bob.knocked(ann.opening)
    ann.challenged(bob.challenge())
    refused(lambda: ann.admitted(no), "full", "refused us")


# --- proofs shown where they do not belong ---


def knocked(bob: CalledSide, knock: bytes) -> CalledSide:
    bob.knocked(knock)
    return bob


def test_a_recorded_proof_is_worthless_the_next_time() -> None:
    ann, bob = begun()
    knocked(bob, ann.opening)
    proof = ann.challenged(bob.challenge())
    bob.proved(proof)
    again = knocked(CalledSide(BOB, fresh(NONCES[2])), ann.opening)
    refused(lambda: again.proved(proof), "proof", "not by the key")
    admission = bob.admission()
    later = DiallerSide(ANN, fresh(NONCES[3]), 7501)
    later.challenged(bob.challenge())
    refused(lambda: later.admitted(admission), "proof", "not by the key")


def test_a_proof_that_was_meant_for_another_is_worthless() -> None:
    """Eve is dialled by Ann, and would pass for her with Bob, who gave her a nonce."""
    ann = DiallerSide(ANN, fresh(NONCES[0]), 7501)
    bob = knocked(CalledSide(BOB, fresh(NONCES[1])), ann.opening)
    challenge = msgspec.msgpack.decode(bob.challenge(), type=Challenge)
    proof = ann.challenged(msgspec.msgpack.encode(msgspec.structs.replace(challenge, key=EVE.key)))  # Eve names herself
    refused(lambda: bob.proved(proof), "proof", "not by the key")


def test_somebody_between_who_swaps_keys_is_found_out_by_both() -> None:
    ann, bob = begun()
    swapped = msgspec.structs.replace(msgspec.msgpack.decode(ann.opening, type=Knock), key=EVE.key)
    knocked(bob, msgspec.msgpack.encode(swapped))
    proof = ann.challenged(bob.challenge())
    refused(lambda: bob.proved(proof), "proof", "not by the key")
    refused(lambda: ann.admitted(bob.admission()), "proof", "not by the key")


def test_what_one_said_is_worthless_when_it_is_said_back() -> None:
    """Ann's own signature, under the other role, for the same frames."""
    ann, bob = begun()
    knocked(bob, ann.opening)
    proof = msgspec.msgpack.decode(ann.challenged(bob.challenge()), type=Proof)
    reflected = msgspec.msgpack.encode(Admitted(proof.signature))
    refused(lambda: ann.admitted(reflected), "proof", "not by the key")
    admitted = msgspec.msgpack.decode(bob.admission(), type=Admitted)
    refused(lambda: bob.proved(msgspec.msgpack.encode(Proof(admitted.signature))), "proof", "not by the key")


def test_a_signature_names_the_role() -> None:
    ann, bob = begun()
    knocked(bob, ann.opening)
    proof = msgspec.msgpack.decode(ann.challenged(bob.challenge()), type=Proof)
    admitted = msgspec.msgpack.decode(bob.admission(), type=Admitted)
    transcript = msgspec.msgpack.encode((ann.opening, bob.challenge()))
    for role, made, key in (("dialler", proof, ANN.key), ("called", admitted, BOB.key)):
        other = {"dialler": "called", "called": "dialler"}[role]
        assert Ed25519Verifier(key).verify(to_sign("net/1", f"stranger {role}", transcript), made.signature)
        assert not Ed25519Verifier(key).verify(to_sign("net/1", f"stranger {other}", transcript), made.signature)


@pytest.mark.parametrize(
    ("field", "value"),
    [("network", "net/2"), ("nonce", NONCES[5]), ("port", 1), ("share", fresh(NONCES[5]).share)],
)
def test_every_field_of_the_opening_frames_is_signed(field: str, value: object) -> None:
    ann = DiallerSide(ANN, fresh(NONCES[0]), 7501)
    knock = msgspec.msgpack.decode(ann.opening, type=Knock)
    changed = msgspec.msgpack.encode(msgspec.structs.replace(knock, **{field: value}))
    network = value if field == "network" else "net/1"
    bob = knocked(CalledSide(Myself(network, BOB.signer), fresh(NONCES[1])), changed)
    refused(lambda: bob.proved(ann.challenged(bob.challenge())), "proof", "not by the key")


def test_the_bytes_are_signed_and_not_what_they_mean() -> None:
    ann, bob = begun()
    assert ann.opening[15:16] == b"\x02"
    longer = ann.opening[:15] + b"\xcc\x02" + ann.opening[16:]
    assert msgspec.msgpack.decode(longer, type=Knock) == msgspec.msgpack.decode(ann.opening, type=Knock)
    knocked(bob, longer)
    refused(lambda: bob.proved(ann.challenged(bob.challenge())), "proof", "not by the key")


def test_a_key_for_which_anybody_can_sign_is_refused() -> None:
    zero = bytes(32)
    knock = Knock(open_handshake.MAGIC, 2, "net/1", zero, NONCES[0], 0, fresh(NONCES[0]).share)
    bob = knocked(CalledSide(BOB, fresh(NONCES[1])), msgspec.msgpack.encode(knock))
    refused(lambda: bob.proved(msgspec.msgpack.encode(Proof(bytes(64)))), "key", "not a key to be known by")


# --- any bytes ---


def step(call: Callable[[bytes], object], frame: bytes) -> None:
    with suppress(Mismatch):
        call(frame)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2048))
def test_any_bytes_are_judged_at_every_step(frame: bytes) -> None:
    ann, bob = begun()
    step(bob.knocked, frame)
    bob.knocked(ann.opening)
    step(bob.proved, frame)
    step(ann.challenged, frame)
    ann.challenged(bob.challenge())
    step(ann.admitted, frame)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 3), st.data())
def test_a_changed_frame_never_raises_and_never_completes_a_handshake(number: int, data: st.DataObject) -> None:
    def carried(position: int, frame: bytes) -> bytes:
        """What arrives of a frame."""
        if position != number:
            return frame
        changed = bytearray(frame)
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
        return bytes(changed[: data.draw(st.integers(0, len(changed))) or None])

    ann, bob = begun()
    try:
        bob.knocked(knock := carried(0, ann.opening))
        proof = ann.challenged(challenge := carried(1, bob.challenge()))
        bob.proved(proof := carried(2, proof))
        ann.admitted(carried(3, bob.admission()))
    except Mismatch:
        return
    assert (knock, challenge) == (ann.opening, bob.challenge())
    assert msgspec.msgpack.decode(proof, type=Proof)
