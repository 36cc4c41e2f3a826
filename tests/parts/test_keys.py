"""Both schemes: what was signed is accepted, and nothing else is; who holds one key signs as nobody else."""

import copy
from hashlib import sha512

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import mask_of
from quorate.parts.crypto import keys
from quorate.parts.crypto.keys import (
    BATCH_ITEMS_MAX,
    CONTEXT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    SIGNATURE_BYTES_MAX,
    Keyring,
    Keys,
    Scheme,
    Signed,
    Symbolic,
    Verified,
    Verifier,
    VerifyBatch,
    batches,
    to_sign,
)
from quorate.runtime.keys import Ed25519, Ed25519Signer, Ed25519Verifier, _other_form, generate_secret, keyring_of

NODES = (1, 2, 3, 4)
SCHEMES: dict[str, Scheme] = {"symbolic": Symbolic(NODES, b"seed"), "ed25519": Ed25519(NODES)}

schemes = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
contexts = st.text(st.characters(max_codepoint=127), min_size=1, max_size=CONTEXT_BYTES_MAX)
messages = st.binary(max_size=64)
clusters = st.text(max_size=8) | st.sampled_from(["", "a", "b", "\1a"])


@schemes
@given(st.sampled_from(NODES), contexts, messages, st.sampled_from(NODES), contexts, messages)
def test_a_signature_holds_for_its_node_context_and_message_alone(scheme, node, context, message, other, where, what):
    signature = scheme.signer(node).sign(context, message)
    keyring = scheme.keyring()
    assert keyring.verify(node, context, message, signature), "also a replay of the whole"
    same = (other, where, what) == (node, context, message)
    assert keyring.verify(other, where, what, signature) == same


@schemes
@given(contexts, messages, st.integers(0, 511), st.integers(0, 96))
def test_a_signature_with_a_bit_turned_or_another_length_is_wrong(scheme, context, message, bit, length):
    signature = bytearray(scheme.signer(1).sign(context, message))
    keyring = scheme.keyring()
    if length != len(signature):
        assert not keyring.verify(1, context, message, bytes(signature[:length].ljust(length, b"\0")))
    signature[bit // 8 % len(signature)] ^= 1 << bit % 8
    assert not keyring.verify(1, context, message, bytes(signature))


@schemes
@given(
    st.integers() | st.sampled_from(NODES),
    st.text(max_size=40),
    st.binary(max_size=64),
    st.binary(max_size=2 * SIGNATURE_BYTES_MAX) | st.binary(min_size=64, max_size=64),
)
def test_no_content_makes_a_check_raise(scheme, node, context, message, signature):
    assert scheme.keyring().verify(node, context, message, signature) is False


@schemes
def test_a_liar_with_its_own_signer_signs_as_nobody_else(scheme: Scheme) -> None:
    keyring, liar = scheme.keyring(), copy.copy(scheme.signer(3))
    heard = scheme.signer(1).sign("vote", b"yes")
    forged = [liar.sign("vote", b"no"), liar.sign("vote", b"yes"), heard, bytes(len(heard)), b""]
    assert not any(keyring.verify(1, "vote", b"no", signature) for signature in forged)
    assert not keyring.verify(3, "vote", b"yes", heard), "nor does it take the vote of another for its own"
    liar.node = 1
    assert not keyring.verify(1, "vote", b"no", liar.sign("vote", b"no")), "the secret counts, not what it calls itself"


@given(clusters, contexts, messages, clusters, contexts, messages)
def test_what_is_signed_differs_wherever_cluster_context_or_message_does(cluster, context, message, town, where, what):
    same = (cluster, context, message) == (town, where, what)
    assert (to_sign(cluster, context, message) == to_sign(town, where, what)) == same


def test_nothing_runs_into_what_follows() -> None:
    assert to_sign("", "prepare", b"d") != to_sign("", "prep", b"ared")
    assert to_sign("a", "b", b"") != to_sign("", "a", b"b")
    assert to_sign("town", "\4vote", b"") != to_sign("town\4vote", "v", b"")


@pytest.mark.parametrize("context", ["", "x" * (CONTEXT_BYTES_MAX + 1), "größe", "\ud800"])
@schemes
def test_contexts_that_are_none_are_refused(scheme: Scheme, context: str) -> None:
    with pytest.raises(ValueError, match="a context has 1 to 32 characters"):
        scheme.signer(1).sign(context, b"")
    assert not scheme.keyring().verify(1, context, b"", bytes(64))


def test_a_message_that_is_too_large_is_refused() -> None:
    scheme = SCHEMES["symbolic"]
    assert scheme.keyring().verify(
        1, "c", bytes(MESSAGE_BYTES_MAX), scheme.signer(1).sign("c", bytes(MESSAGE_BYTES_MAX))
    )
    with pytest.raises(ValueError, match="sign their digest"):
        scheme.signer(1).sign("c", bytes(MESSAGE_BYTES_MAX + 1))
    assert not scheme.keyring().verify(1, "c", bytes(MESSAGE_BYTES_MAX + 1), bytes(32))


@schemes
@given(st.lists(st.tuples(st.sampled_from((*NODES, 9)), st.booleans()), max_size=10))
def test_a_batch_says_of_each_item_what_verify_says(scheme, claims):
    items = [
        Signed(node, "vote", b"yes", scheme.signer(node if honest and node != 9 else 2).sign("vote", b"yes"))
        for node, honest in claims
    ]
    right = [place for place, (node, honest) in enumerate(claims) if node != 9 and (honest or node == 2)]
    assert scheme.keyring().verify_batch(VerifyBatch(tuple(items))) == Verified(mask_of(right))


def test_a_full_batch_and_its_result_cross_a_wire_and_a_larger_one_is_cut() -> None:
    scheme = SCHEMES["symbolic"]
    items = [Signed(1, "vote", b"%d" % place, scheme.signer(1).sign("vote", b"%d" % place)) for place in range(100)]
    jobs = list(batches(items))
    assert [item for job in jobs for item in job.items] == items
    for job, size in zip(jobs, (BATCH_ITEMS_MAX, 100 - BATCH_ITEMS_MAX), strict=True):
        decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(job), type=VerifyBatch)
        verified = scheme.keyring().verify_batch(decoded)
        assert verified == Verified(2**size - 1)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(verified), type=Verified) == verified
    with pytest.raises(ValueError, match="64 claims in a batch, at most 63"):
        VerifyBatch(tuple(items[:64]))


@schemes
def test_copies_share_the_keys_and_no_text_shows_a_secret(scheme: Scheme) -> None:
    signer, keyring = scheme.signer(1), scheme.keyring()
    assert copy.deepcopy([signer, keyring]) == [signer, keyring]
    assert repr(signer).endswith("Signer(1)")
    assert repr(keyring) == "Keyring([1, 2, 3, 4])"
    assert keyring.nodes == NODES


@schemes
def test_strangers_have_no_signer(scheme: Scheme) -> None:
    with pytest.raises(KeyError):
        scheme.signer(9)


def test_symbolic_keys_are_the_same_in_every_run_and_others_under_another_seed() -> None:
    sign = Symbolic(NODES, b"seed").signer(1).sign("vote", b"yes")
    assert sign == SCHEMES["symbolic"].signer(1).sign("vote", b"yes")
    assert sign.hex()[:16] == "a02e1a74f28e9dc1"
    assert not Symbolic(NODES, b"other").keyring().verify(1, "vote", b"yes", sign)


class Gullible(Verifier):
    """Believes everything."""

    public = b"gullible"

    def verify(self, data: bytes, signature: bytes) -> bool:
        return True


def test_a_signature_that_is_too_large_reaches_no_scheme() -> None:
    keyring = Keyring({1: Gullible()})
    assert keyring.verify(1, "vote", b"yes", bytes(SIGNATURE_BYTES_MAX))
    assert not keyring.verify(1, "vote", b"yes", bytes(SIGNATURE_BYTES_MAX + 1))


def test_ed25519_signs_as_the_rfc_does() -> None:
    """RFC 8032 §7.1, test 1, for the key; the signature is over our own frame."""
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signer = Ed25519Signer(1, secret)
    assert signer.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    signature = signer.sign("vote", b"yes")
    assert Ed25519Verifier(signer.public).verify(b"quorate signed\0\0\0\4voteyes", signature)


def test_two_nodes_with_one_key_are_refused() -> None:
    public = Ed25519Signer(1, generate_secret()).public
    with pytest.raises(ValueError, match="nodes 1 and 2 have the same key"):
        keyring_of({1: public, 2: public})


ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"


@pytest.mark.parametrize(
    "public",
    [
        "00" * 32,
        "01" + "00" * 31,
        "01" + "00" * 30 + "80",
        "00" * 31 + "80",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        ORDER_8,
        ORDER_8[:-2] + "85",
    ],
)
def test_keys_for_which_anybody_can_sign_are_refused(public: str) -> None:
    with pytest.raises(ValueError, match="anybody could sign"):
        Ed25519Verifier(bytes.fromhex(public))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_of_another_length_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Ed25519Verifier(bytes(size))
    with pytest.raises(ValueError, match="32"):
        Ed25519Signer(1, bytes(size))


# --- clients, and what two nodes share ---


@schemes
def test_a_client_signs_as_the_owner_of_its_public_key_alone(scheme: Scheme) -> None:
    ann, bob, keyring = scheme.client(1), scheme.client(2), scheme.keyring()
    assert ann.node is None
    assert scheme.client(1).public == ann.public != bob.public
    signature = ann.sign("request", b"put")
    assert keyring.verify(ann.public, "request", b"put", signature)
    for other in (bob.public, ann.public[:-1], ann.public + b"\0", b"", bytes(32), 1, keyring.public(1)):
        assert not keyring.verify(other, "request", b"put", signature)
    assert not keyring.verify(ann.public, "vote", b"put", signature)
    node = scheme.signer(1)
    assert keyring.verify(node.public, "request", b"put", node.sign("request", b"put")), "a node may be a client"


@schemes
def test_a_batch_checks_clients_beside_nodes(scheme: Scheme) -> None:
    ann = scheme.client(1)
    good = Signed(ann.public, "request", b"put", ann.sign("request", b"put"))
    vote = Signed(1, "vote", b"yes", scheme.signer(1).sign("vote", b"yes"))
    forged = Signed(scheme.client(2).public, "request", b"put", good.signature)
    assert scheme.keyring().verify_batch(VerifyBatch((good, forged, vote))) == Verified(0b101)


def test_a_keyring_keeps_so_many_strangers_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "STRANGERS_MAX", 3)
    made: list[bytes] = []

    def stranger(public: bytes) -> Verifier:
        made.append(public)
        if public == b"none":
            raise ValueError("no key")
        return Gullible()

    keyring = Keyring({1: Gullible()}, stranger)
    for public in (b"a", b"b", b"none", b"a", b"b", b"none"):
        assert keyring.verify(public, "c", b"m", b"s") == (public != b"none")
        assert len(keyring._strangers) <= 3
    assert made == [b"a", b"b", b"none"]
    keyring.verify(b"c", "c", b"m", b"s")
    assert len(keyring._strangers) == 1
    assert not Keyring({1: Gullible()}).verify(b"a", "c", b"m", b"s"), "a keyring of nodes alone knows no stranger"


@schemes
def test_two_agree_on_a_secret_that_no_third_has(scheme: Scheme) -> None:
    signers = [*(scheme.signer(node) for node in NODES), scheme.client(1), scheme.client(2)]
    secrets = {(a.public, b.public): a.agree(b.public) for a in signers for b in signers if a is not b}
    assert all(secret == secrets[b, a] and len(secret) == 32 for (a, b), secret in secrets.items())
    assert len(set(secrets.values())) == len(secrets) // 2


@schemes
@pytest.mark.parametrize("public", [b"", bytes(32), b"\x01" + bytes(31), b"\xff" * 33])
def test_nobody_agrees_with_what_is_no_key(scheme: Scheme, public: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        scheme.signer(1).agree(public)


@schemes
@given(st.permutations(NODES), contexts, messages, contexts, messages)
def test_a_mac_holds_for_its_two_nodes_context_and_message_alone(scheme, order, context, message, where, what):
    sender, receiver, third, _ = order
    [mac] = scheme.keys(sender).macs(context, message, (receiver,))
    assert scheme.keys(receiver).verify_mac(sender, context, message, mac)
    assert scheme.keys(receiver).verify_mac(sender, where, what, mac) == ((context, message) == (where, what))
    assert not scheme.keys(receiver).verify_mac(third, context, message, mac), "not as another sender's"
    assert not scheme.keys(third).verify_mac(sender, context, message, mac), "nor does a third know it"
    assert not scheme.keys(sender).verify_mac(receiver, context, message, mac), "nor is it sent back as one's own"


@schemes
def test_a_mac_that_is_amiss_is_wrong_and_raises_nothing(scheme: Scheme) -> None:
    one, two = scheme.keys(1), scheme.keys(2)
    macs = one.macs("commit", b"digest", NODES)
    assert len(macs) == 4
    assert all(scheme.keys(node).verify_mac(1, "commit", b"digest", mac) for node, mac in zip(NODES, macs, strict=True))
    mac = macs[1]
    for wrong in (b"", mac[:-1], mac + b"\0", bytes([mac[0] ^ 1]) + mac[1:]):
        assert not two.verify_mac(1, "commit", b"digest", wrong)
    assert not two.verify_mac(9, "commit", b"digest", mac)
    assert not two.verify_mac(1, "", b"digest", mac)
    with pytest.raises(KeyError):
        one.macs("commit", b"digest", (9,))


@schemes
def test_keys_that_do_not_fit_each_other_are_refused(scheme: Scheme) -> None:
    other = Symbolic(NODES, b"other")
    with pytest.raises(ValueError, match="another public key for node 1"):
        Keys(scheme.signer(1), other.keyring())
    with pytest.raises(ValueError, match="no key for node None"):
        Keys(scheme.client(1), scheme.keyring())
    few = Keyring({2: Gullible()})
    with pytest.raises(ValueError, match="no key for node 1"):
        Keys(scheme.signer(1), few)
    held = scheme.keys(1)
    assert repr(held) == "Keys(1)"
    assert copy.deepcopy(held) is held
    assert held.verify(1, "vote", b"yes", held.sign("vote", b"yes"))


def test_the_other_form_of_a_key_is_that_of_other_libraries() -> None:
    """The vector of libsodium's ed25519_convert test: seed, public key, and both keys in the other form."""
    seed = bytes.fromhex("421151a459faeade3d247115f94aedae42318124095afabe4d1451a559faedee")
    signer = Ed25519Signer(None, seed)
    assert signer.public.hex() == "b5076a8474a832daee4dd5b4040983b6623b5f344aca57d4d6ee4baf3f259e6e"
    other = "f1814f0e8ff1043d8a44d25babff3cedcae6c22c3edaa48f857ae70de2baae50"
    assert _other_form(signer.public).public_bytes_raw().hex() == other


@given(st.binary(min_size=32, max_size=32))
def test_the_two_forms_of_a_key_belong_together(seed: bytes) -> None:
    """What X25519 makes of the scalar is what the map makes of the public key, so that both sides agree."""
    made = X25519PrivateKey.from_private_bytes(sha512(seed).digest()[:32]).public_key().public_bytes_raw()
    assert _other_form(Ed25519Signer(1, seed).public).public_bytes_raw() == made


# --- nodes that join ---


@schemes
def test_a_keyring_grows_into_another(scheme: Scheme) -> None:
    few = Keyring({n: scheme.keyring()._verifiers[n] for n in (1, 2)}, scheme.keyring()._stranger)
    joins = scheme.client(9)
    more = few.knowing(9, joins.public)
    assert (few.nodes, more.nodes) == ((1, 2), (1, 2, 9))
    assert more.verify(9, "vote", b"yes", joins.sign("vote", b"yes"))
    assert not few.verify(9, "vote", b"yes", joins.sign("vote", b"yes"))
    assert more.knowing(9, joins.public) is more
    for node, public, why in (
        (9, scheme.client(8).public, "another public key for node 9"),
        (7, joins.public, "nodes 7 and 9 have the same key"),
        (7, b"no key", "."),
    ):
        with pytest.raises(ValueError, match=why):
            more.knowing(node, public)
    assert more.is_key(scheme.client(8).public)
    assert not more.is_key(b"no key")
    with pytest.raises(ValueError, match="takes no more keys"):
        Keyring({1: Gullible()}).knowing(2, joins.public)


@schemes
def test_keys_agree_with_a_node_that_joins(scheme: Scheme) -> None:
    few = Keyring({n: scheme.keyring()._verifiers[n] for n in (1, 2)}, scheme.keyring()._stranger)
    mine = Keys(scheme.signer(1), few).knowing(3, scheme.keyring().public(3))
    theirs = scheme.keys(3)
    [mac] = mine.macs("commit", b"digest", [3])
    assert theirs.verify_mac(1, "commit", b"digest", mac)
    assert theirs.has_mac(1, "commit", b"digest", [bytes(16), mac])
    assert not theirs.has_mac(1, "commit", b"digest", [bytes(16), mac[:-1]])
    assert not theirs.has_mac(9, "commit", b"digest", [mac])
    assert mine.knowing(3, scheme.keyring().public(3)) is mine
    assert mine.public == scheme.signer(1).public


def test_whoever_joins_is_given_the_keys_of_all_before_it_and_nobody_else_is() -> None:
    dealer = Symbolic((1, 2))
    for node in (3, 4):
        dealer.join(node)
    assert dealer.keyring().nodes == dealer.keys(1).keyring.nodes == (1, 2)
    assert dealer.keys(3).keyring.nodes == (1, 2, 3)
    assert dealer.keys(4).keyring.nodes == (1, 2, 3, 4)
    with pytest.raises(ValueError, match="node 3 has keys already"):
        dealer.join(3)
    with pytest.raises(NotImplementedError):
        Ed25519((1,)).join(2)


@schemes
def test_claims_by_key_are_checked_by_whoever_knows_no_nodes(scheme: Scheme) -> None:
    claims = [Signed(node, "vote", b"yes", scheme.signer(node).sign("vote", b"yes")) for node in NODES]
    forged = msgspec.structs.replace(claims[0], signer=2)
    client = Signed(scheme.client(1).public, "request", b"x", scheme.client(1).sign("request", b"x"))
    unknown = Signed(9, "vote", b"yes", claims[0].signature)
    by_key = scheme.keyring().by_key([*claims, forged, client, unknown])
    assert [claim.signer for claim in by_key[:4]] == [scheme.keyring().public(node) for node in NODES]
    assert by_key[5:] == [client, unknown]
    nobody = Keyring({}, scheme.keyring()._stranger)
    assert nobody.verify_batch(VerifyBatch(tuple(by_key))) == Verified(0b0101111)
    assert nobody.verify_batch(VerifyBatch(tuple(claims))) == Verified(0)
