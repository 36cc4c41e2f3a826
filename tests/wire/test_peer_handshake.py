"""The handshake of nodes with keys, as frames in and out: which proofs count, and where they are worthless."""

from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.runtime import handshake
from quorate.runtime.handshake import HELLO_SIZE_BYTES_MAX, Hello, Welcome, answer_in, encode, judge
from quorate.runtime.peer_handshake import KeyedHello, PeerCalled, PeerDialler
from quorate.runtime.proving import Admitted, Challenge, Mismatch, Proof
from quorate.runtime.sealing import Ephemeral

from tests.wire.keyed import SCHEME, called, dialler, key_of, local

pack = msgspec.msgpack.encode
OTHER_SHARE = Ephemeral(None, b"s" * 32).share


def refused(step: Callable[[], object], code: str, text: str) -> None:
    with pytest.raises(Mismatch, match=text) as caught:
        step()
    assert caught.value.refusal.code == code
    frame = encode(caught.value.refusal)
    assert answer_in(frame) == caught.value.refusal
    assert len(frame) <= HELLO_SIZE_BYTES_MAX


def asked(node: int = 1, target: int = 0) -> tuple[PeerDialler, PeerCalled]:
    """A dial of which the called has seen the Hello."""
    ann, bob = dialler(node, target), called(target)
    assert bob.greeted(ann.opening, key_of) == node
    return ann, bob


def test_two_nodes_prove_their_keys_and_can_talk() -> None:
    ann, bob = asked()
    bob.proved(ann.challenged(bob.challenge()))
    mine, theirs = ann.admitted(bob.admission()), bob.channel()
    assert (ann.key, bob.key) == (key_of(0), key_of(1))
    assert theirs.unseal(mine.seal(b"hi")) == b"hi"
    assert len(ann.opening) <= HELLO_SIZE_BYTES_MAX


# --- who is refused at once ---


def hello(**changes: object) -> bytes:
    right = msgspec.msgpack.decode(dialler(1, 0).opening, type=KeyedHello)
    return pack(msgspec.structs.replace(right, **changes))


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"magic": b"redis"}, "magic", "do not speak its protocol"),
        ({"version": 9}, "version", "you speak 9: run the same release"),
        ({"role": "client"}, "role", "this is the peer port"),
        ({"cluster": "other"}, "cluster", "this is cluster 'c', you are of cluster 'other'"),
        ({"protocol": "vote"}, "protocol", "this node runs 'raft', you run 'vote'"),
        ({"target": 2}, "target", "this is node 0, you want node 2"),
        ({"node": 0}, "node", "I am node 0 myself"),
        ({"node": 9}, "node", "you are node 9, this cluster has 0, 1, 2, 3"),
        ({"node": None}, "node", "you are node None"),
        ({"nonce": b""}, "malformed", "no Hello"),
        ({"nonce": bytes(31)}, "malformed", "no Hello"),
        ({"share": bytes(33)}, "malformed", "no Hello"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused_with_the_reason(changes: dict, code: str, text: str) -> None:
    refused(lambda: called(0).greeted(hello(**changes), key_of), code, text)


def test_a_hello_without_a_proof_to_come_is_refused_whoever_it_names() -> None:
    """The downgrade: what nodes without keys say, and imposter.py said."""
    for node in (1, 2, 3):
        plain = encode(local(node).hello(0))
        assert isinstance(judge(plain, local(0), "peer"), Hello), "a node without keys would take it"
        refused(lambda frame=plain: called(0).greeted(frame, key_of), "proof", "nodes of raft prove their keys")


def test_a_called_node_that_asks_for_no_proof_is_left() -> None:
    welcome = encode(Welcome(1, "raft", "c", 0))
    refused(lambda: dialler(1, 0).challenged(welcome), "malformed", "answered with no Challenge")
    ann, bob = asked()
    ann.challenged(bob.challenge())
    refused(lambda: ann.admitted(welcome), "malformed", "did not admit us")


def test_a_node_without_keys_takes_a_keyed_hello_for_a_plain_one_and_learns_nothing_from_it() -> None:
    judged = judge(dialler(1, 0).opening, local(0), "peer")
    assert judged == local(1).hello(0)


def test_a_node_whose_key_is_not_known_is_refused() -> None:
    refused(lambda: called(0).greeted(dialler(1, 0).opening, lambda _: None), "key", "knows no public key of node 1")


def test_a_refusal_is_the_reason_at_every_step() -> None:
    no = encode(handshake.refused("full", "come\nback " + "x" * 900))
    ann, bob = asked()
    refused(lambda: dialler(1, 0).challenged(no), "full", r"refused us: 'come\\nback x+'$")
    ann.challenged(bob.challenge())
    refused(lambda: ann.admitted(no), "full", "refused us")


# --- proofs that are worthless ---

WRONG = "not by the key that you name, or not for this handshake"


def test_a_liar_is_nobody_but_itself() -> None:
    for claims in (1, 2):
        ann, bob = dialler(claims, 0, by=3), called(0)
        bob.greeted(ann.opening, key_of)
        refused(lambda ann=ann, bob=bob: bob.proved(ann.challenged(bob.challenge())), "proof", WRONG)


def test_a_called_liar_is_not_whom_the_dialler_wants() -> None:
    ann = dialler(1, 0)
    liar = PeerCalled(local(0), SCHEME.keys(3), Ephemeral())
    liar.greeted(ann.opening, key_of)
    refused(lambda: ann.challenged(liar.challenge()), "key", "it has another key")
    ann, bob = asked()
    challenge = bob.challenge()  # it knows the public key, and cannot sign
    ann.challenged(challenge)
    forged = PeerCalled(local(0), SCHEME.keys(3), Ephemeral())
    forged._challenge, forged._opening = challenge, ann.opening
    refused(lambda: ann.admitted(forged.admission()), "proof", WRONG)


def test_a_recorded_handshake_is_worthless_the_next_time() -> None:
    """A stale nonce: the called's is fresh each time, and so is the dialler's."""
    ann, bob = asked()
    proof = ann.challenged(bob.challenge())
    bob.proved(proof)
    again = called(0)
    again.greeted(ann.opening, key_of)
    refused(lambda: again.proved(proof), "proof", WRONG)
    later = dialler(1, 0)
    later.challenged(bob.challenge())
    refused(lambda: later.admitted(bob.admission()), "proof", WRONG)


def test_a_proof_thrown_back_is_worthless() -> None:
    ann, bob = asked()
    proof = msgspec.msgpack.decode(ann.challenged(bob.challenge()), type=Proof)
    refused(lambda: ann.admitted(pack(Admitted(proof.signature))), "proof", WRONG)
    admitted = msgspec.msgpack.decode(bob.admission(), type=Admitted)
    refused(lambda: bob.proved(pack(Proof(admitted.signature))), "proof", WRONG)


def test_a_proof_of_the_other_role_is_worthless() -> None:
    """Node 0 dials node 1 while node 1 dials node 0: what it says on one connection proves nothing on the other."""
    ann, bob = asked(1, 0)
    back, called_back = asked(0, 1)
    mine = ann.challenged(bob.challenge())
    theirs = back.challenged(called_back.challenge())
    refused(lambda: bob.proved(theirs), "proof", WRONG)
    refused(lambda: called_back.proved(mine), "proof", WRONG)


def test_a_proof_that_is_relayed_is_for_the_one_it_was_made_for() -> None:
    """Node 3 is dialled by node 1, and would pass for it at node 0's door."""
    ann, bob = dialler(1, 3), called(0)
    forwarded = msgspec.structs.replace(msgspec.msgpack.decode(ann.opening, type=KeyedHello), target=0)
    bob.greeted(pack(forwarded), key_of)
    nonce = msgspec.msgpack.decode(bob.challenge(), type=Challenge)
    proof = ann.challenged(pack(msgspec.structs.replace(nonce, key=key_of(3))))
    refused(lambda: bob.proved(proof), "proof", WRONG)


@pytest.mark.parametrize("side", ["dialler", "called"])
def test_somebody_between_who_swaps_the_shares_is_found_out(side: str) -> None:
    ann, bob = dialler(1, 0), called(0)
    eve = Ephemeral()
    opening, challenge = ann.opening, bob.challenge()
    if side == "dialler":
        opening = pack(msgspec.structs.replace(msgspec.msgpack.decode(opening, type=KeyedHello), share=eve.share))
    else:
        challenge = pack(msgspec.structs.replace(msgspec.msgpack.decode(challenge, type=Challenge), share=eve.share))
    bob.greeted(opening, key_of)
    proof = ann.challenged(challenge)
    refused(lambda: bob.proved(proof), "proof", WRONG)
    refused(lambda: ann.admitted(bob.admission()), "proof", WRONG)


def test_a_proof_for_another_cluster_is_worthless() -> None:
    """Both clusters have the same keys, and a liar in between changes what names them."""
    ann, bob = dialler(1, 0, cluster="other"), called(0)
    renamed = msgspec.structs.replace(msgspec.msgpack.decode(ann.opening, type=KeyedHello), cluster="c")
    bob.greeted(pack(renamed), key_of)
    refused(lambda: bob.proved(ann.challenged(bob.challenge())), "proof", WRONG)


def test_what_is_signed_names_the_cluster_even_where_the_frames_are_the_same() -> None:
    opening, fresh = dialler(1, 0).opening, Ephemeral()
    here, there = (PeerDialler(local(1), SCHEME.keys(1).within(name), 0, key_of(0), fresh) for name in ("c", "other"))
    bob = called(0)
    for side in (here, there):
        side.opening = opening
    bob.greeted(opening, key_of)
    bob.proved(here.challenged(bob.challenge()))
    refused(lambda: bob.proved(there.challenged(bob.challenge())), "proof", WRONG)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nonce", bytes(32)),
        ("share", Ephemeral(bytes(32), b"s" * 32).share),
        ("node", 2),
        ("target", 0),
        ("cluster", "c"),
        ("version", 1),
    ],
)
def test_every_field_of_the_hello_is_signed(field: str, value: object) -> None:
    """Also the encoding of those that are equal: the bytes are signed, and not what they mean."""
    ann = dialler(1, 0)
    decoded = msgspec.msgpack.decode(ann.opening)
    names = KeyedHello.__struct_fields__
    changed = list(decoded)
    changed[names.index(field)] = value
    frame = pack(changed) if changed != decoded else pack([*decoded, "more"])
    bob = called(0)
    bob.greeted(frame, key_of)
    bob.key = key_of(1)
    refused(lambda: bob.proved(ann.challenged(bob.challenge())), "proof", WRONG)


# --- any bytes ---


def step(call: Callable[[bytes], object], frame: bytes) -> None:
    with suppress(Mismatch):
        call(frame)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2048))
def test_any_bytes_are_judged_at_every_step(frame: bytes) -> None:
    ann, bob = dialler(1, 0), called(0)
    step(lambda data: bob.greeted(data, key_of), frame)
    bob.greeted(ann.opening, key_of)
    step(bob.proved, frame)
    step(ann.challenged, frame)
    ann.challenged(bob.challenge())
    step(ann.admitted, frame)


fields = st.binary(max_size=40) | st.integers(-2, 70000) | st.text(max_size=8) | st.none()


@settings(max_examples=100, deadline=None)
@given(st.lists(fields, max_size=10), st.sampled_from(["challenge", "proof", "admitted", "refused", ""]))
def test_frames_of_the_right_shape_with_any_fields_are_judged(values: list, tag: str) -> None:
    frame = pack([tag, *values] if tag else values)
    test_any_bytes_are_judged_at_every_step.hypothesis.inner_test(frame)


keys32 = st.binary(min_size=32, max_size=32)


@settings(deadline=None)
@given(keys32, keys32, keys32, st.binary(min_size=64, max_size=64))
def test_the_frames_come_back_as_they_were(key: bytes, nonce: bytes, share: bytes, signature: bytes) -> None:
    for made in (Challenge(key, nonce, share), Proof(signature), Admitted(signature)):
        assert msgspec.msgpack.decode(pack(made), type=type(made)) == made
    plain = local(1).hello(0)
    fields = {name: getattr(plain, name) for name in Hello.__struct_fields__}
    keyed = KeyedHello(**fields, nonce=nonce, share=share)
    assert msgspec.msgpack.decode(pack(keyed), type=KeyedHello) == keyed
    assert msgspec.msgpack.decode(pack(keyed), type=Hello) == plain


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

    ann, bob = dialler(1, 0), called(0)
    try:
        bob.greeted(hello := carried(0, ann.opening), key_of)
        proof = ann.challenged(challenge := carried(1, bob.challenge()))
        bob.proved(carried(2, proof))
        ann.admitted(carried(3, bob.admission()))
    except Mismatch:
        return
    assert (hello, challenge) == (ann.opening, bob.challenge())


def test_a_share_that_would_give_the_keys_away_ends_the_handshake() -> None:
    ann = dialler(1, 0)
    bob = called(0)
    bob.greeted(hello(share=bytes(32)), key_of)
    refused(bob.channel, "share", "not a share to agree on keys with")
    challenge = msgspec.structs.replace(msgspec.msgpack.decode(bob.challenge(), type=Challenge), share=bytes(32))
    refused(lambda: ann.challenged(pack(challenge)), "share", "not a share to agree on keys with")


def test_a_signature_names_the_role_and_the_kind_of_handshake() -> None:
    ann, bob = asked()
    proof = msgspec.msgpack.decode(ann.challenged(bob.challenge()), type=Proof)
    admitted = msgspec.msgpack.decode(bob.admission(), type=Admitted)
    transcript = pack((ann.opening, bob.challenge()))
    contexts = [f"{kind} {role}" for kind in ("peer", "stranger") for role in ("dialler", "called")]
    for made, node, right in ((proof, 1, "peer dialler"), (admitted, 0, "peer called")):
        holds = [name for name in contexts if SCHEME.keyring().verify(node, name, transcript, made.signature)]
        assert holds == [right]
