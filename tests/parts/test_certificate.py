"""Certificates: made exactly when a quorum signed, accepted exactly when it did, and never a reason to raise."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import mask_of
from quorate.parts.crypto.keys import Symbolic, VerifyBatch
from quorate.parts.quorum import Byzantine, Majority, Weighted
from quorate.parts.votes.certificate import (
    ENCODED_BYTES_MAX,
    STATEMENT_BYTES_MAX,
    Certificate,
    Collector,
    decode_certificate,
    encode_certificate,
    has_quorum,
    verify,
)

NODES = (1, 2, 3, 4)
SCHEME = Symbolic((*NODES, 5))
KEYRING = SCHEME.keyring()
QUORUM = Byzantine(NODES)
OTHERS = (Majority(NODES), Weighted({1: 3, 2: 1, 3: 1, 4: 1}))


def sign(node: int, statement: bytes = b"block 7", context: str = "prepare") -> bytes:
    return SCHEME.signer(node).sign(context, statement)


def certificate(*nodes: int, statement: bytes = b"block 7", context: str = "prepare") -> Certificate:
    return Certificate("prepare", b"block 7", tuple((node, sign(node, statement, context)) for node in nodes))


class Bench:
    """A Collector and what it blamed."""

    def __init__(self, quorum=QUORUM):
        self.blames: list[tuple[int, str]] = []
        self.collector = Collector("prepare", b"block 7", KEYRING, quorum, lambda *blame: self.blames.append(blame))


def signature(kind: str, node: int) -> bytes:
    """What arrives in the name of ``node``."""
    signer = node if 1 <= node <= 5 else 1
    return {
        "right": sign(signer),
        "statement": sign(signer, b"block 8"),
        "context": sign(signer, context="commit"),
        "node": sign(signer % 4 + 1) if signer != 5 else sign(1),
        "noise": b"\xff" * 32,
    }[kind]


@given(
    st.sampled_from([QUORUM, *OTHERS]),
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["right", "statement", "context", "node", "noise"]))),
)
def test_a_certificate_is_complete_once_a_quorum_signed_and_then_convinces(quorum, arrivals):
    bench, valid = Bench(quorum), set()
    for node, kind in arrivals:
        was = quorum.is_quorum(mask_of(sorted(valid)))
        right = kind == "right" and node in NODES
        seen = frozenset(valid)
        bench.blames.clear()
        fires = bench.collector.add(node, signature(kind, node))
        if right and not was:
            valid.add(node)
        assert fires == (quorum.is_quorum(mask_of(sorted(valid))) and not was)
        assert [who for who, _ in bench.blames] == ([] if right or was or node in seen else [node])
    made = bench.collector.certificate
    assert (made is not None) == quorum.is_quorum(mask_of(sorted(valid)))
    if made is not None:
        assert made.nodes() == tuple(sorted(valid))
        assert verify(made, KEYRING, quorum)
        assert decode_certificate(encode_certificate(made)) == made


def test_the_order_of_arrival_leaves_no_trace() -> None:
    made = []
    for order in ((1, 2, 3), (3, 1, 2), (2, 3, 1)):
        bench = Bench()
        assert [bench.collector.add(node, sign(node)) for node in order] == [False, False, True]
        made.append(encode_certificate(bench.collector.certificate))
    assert made[0] == made[1] == made[2]


def test_a_complete_certificate_stays() -> None:
    bench = Bench()
    for node in (1, 2, 3):
        bench.collector.add(node, sign(node))
    made = bench.collector.certificate
    assert not bench.collector.add(4, sign(4))
    assert not bench.collector.add_verified(4, sign(4))
    assert bench.collector.certificate is made


def test_the_one_who_brings_a_wrong_signature_is_blamed() -> None:
    bench = Bench()
    assert not bench.collector.add(1, sign(3), sender=3)
    assert not bench.collector.add(2, sign(3))
    assert not bench.collector.add(5, sign(5), sender=4)
    assert bench.blames == [
        (3, "sent a prepare signature that is wrong"),
        (2, "sent a prepare signature that is wrong"),
        (4, "sent a prepare signature of a node that has no vote"),
    ]
    assert not bench.collector.add(-1, b"")
    assert not bench.collector.add_verified(-1, b"")
    assert bench.collector.add(1, sign(1)) is False, "a forgery in its name does not keep node 1 from signing"
    assert [bench.collector.add(node, sign(node)) for node in (2, 3)] == [False, True]


def test_signatures_that_a_batch_found_right_are_taken_without_a_second_look() -> None:
    claims = certificate(1, 2, 3).signed()
    mask = KEYRING.verify_batch(VerifyBatch(claims)).mask
    assert mask == 0b111
    bench = Bench()
    assert [bench.collector.add_verified(claim.signer, claim.signature) for claim in (*claims[:2], *claims)][-1]
    assert bench.collector.certificate == certificate(1, 2, 3)
    assert not Bench().collector.add_verified(5, sign(5)), "a node without a vote"


@pytest.mark.parametrize(
    "claim",
    [
        certificate(),
        certificate(1, 2),
        certificate(1, 2, 5),
        certificate(1, 2, 3, 5),
        certificate(1, 2, 3, statement=b"block 8"),
        certificate(1, 2, 3, context="commit"),
        msgspec.structs.replace(certificate(1, 2, 3), context="commit"),
        msgspec.structs.replace(certificate(1, 2, 3), context=""),
        msgspec.structs.replace(certificate(1, 2, 3), statement=b"block 8"),
        Certificate("prepare", b"block 7", ((1, sign(1)), (2, sign(1)), (3, sign(3)))),
        Certificate("prepare", b"block 7", ((1, sign(1)), (2, sign(2)), (3, b""))),
        Certificate("prepare", b"block 7", ((1, sign(1)), (2, sign(2)), (3, bytes(10_000)))),
        Certificate("prepare", b"block 7", ((-1, sign(1)), (2, sign(2)), (3, sign(3)))),
        Certificate("prepare", b"block 7", ((1, sign(1)), (2, sign(2)), (10**9, sign(3)))),
    ],
)
def test_what_no_quorum_signed_does_not_convince(claim: Certificate) -> None:
    assert verify(claim, KEYRING, QUORUM) is False


def test_a_quorum_of_one_system_is_none_of_another() -> None:
    assert verify(certificate(1, 2, 3), KEYRING, QUORUM)
    assert not has_quorum(certificate(1), OTHERS[1])
    assert verify(certificate(1, 2), KEYRING, OTHERS[1])
    assert not verify(certificate(2, 3, 4), KEYRING, OTHERS[1])


@given(
    st.text(max_size=40),
    st.binary(max_size=100),
    st.dictionaries(st.integers(-2, 2000), st.binary(max_size=100) | st.sampled_from([sign(1), sign(2)])),
)
def test_no_content_makes_the_check_raise(context, statement, signatures):
    claim = Certificate(context, statement, tuple(sorted(signatures.items())))
    assert verify(claim, KEYRING, QUORUM) is False


@pytest.mark.parametrize("nodes", [(2, 1, 3), (1, 1, 2), (1, 2, 2)])
def test_nodes_out_of_order_or_twice_make_no_certificate(nodes: tuple[int, ...]) -> None:
    pairs = tuple((node, sign(node)) for node in nodes)
    with pytest.raises(ValueError, match="ascending order, each once"):
        Certificate("prepare", b"block 7", pairs)
    with pytest.raises(ValueError, match="ascending order, each once"):
        decode_certificate(msgspec.msgpack.encode(["Certificate", "prepare", b"block 7", pairs]))


def test_statements_are_bounded() -> None:
    Collector("prepare", bytes(STATEMENT_BYTES_MAX), KEYRING, QUORUM, lambda *_: None)
    for make in (
        lambda: Certificate("prepare", bytes(STATEMENT_BYTES_MAX + 1), ()),
        lambda: Collector("prepare", bytes(STATEMENT_BYTES_MAX + 1), KEYRING, QUORUM, lambda *_: None),
    ):
        with pytest.raises(ValueError, match="at most 4096: use a digest"):
            make()
    with pytest.raises(ValueError, match="a context has"):
        Collector("", b"", KEYRING, QUORUM, lambda *_: None)


def test_the_largest_certificate_fits_its_limit() -> None:
    many = tuple((node, bytes(96)) for node in range(1024))
    largest = Certificate("c" * 32, bytes(STATEMENT_BYTES_MAX), many)
    assert decode_certificate(encode_certificate(largest)) == largest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(["Certificate", "c", b"", [[1024, b""]]]),
        msgspec.msgpack.encode(["Certificate", "c", b"", [[-1, b""]]]),
        msgspec.msgpack.encode(["Certificate", "c", b"", [[1, bytes(97)]]]),
        msgspec.msgpack.encode(["Certificate", "", b"", []]),
        msgspec.msgpack.encode(["Certificate", "c", bytes(STATEMENT_BYTES_MAX + 1), []]),
        msgspec.msgpack.encode(["Certificate", "c", b"", [], "more"]),
        encode_certificate(certificate(1)) + b"\0",
        encode_certificate(certificate(1)).replace(b"\xa7prepare", b"\xd9\x07prepare"),
        bytes(ENCODED_BYTES_MAX + 1),
        b"\x91" * 100_000,
    ],
)
def test_bytes_that_are_no_certificate_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="certificate"):
        decode_certificate(data)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoder_raise_anything_else(data):
    try:
        found = decode_certificate(data)
    except ValueError:
        return
    assert encode_certificate(found) == data
