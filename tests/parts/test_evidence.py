"""Evidence: it holds for what no correct node signs, for nothing else, and is never a reason to raise."""

from struct import Struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.parts.crypto.keys import SIGNATURE_BYTES_MAX, Scheme, Symbolic
from quorate.parts.votes.certificate import STATEMENT_BYTES_MAX
from quorate.parts.votes.evidence import (
    ENCODED_BYTES_MAX,
    Conflict,
    Rules,
    Said,
    conflict,
    decode_evidence,
    encode_evidence,
    one_value_a_slot,
)
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    PREPARE,
    checkpoint_of,
    checkpoint_statement,
    order_of,
    order_statement,
)
from quorate.runtime.keys import Ed25519

NODES = (1, 2, 3, 4)
SCHEME = Symbolic(NODES)
KEYRING = SCHEME.keyring()
A, B = bytes(32), b"\x01" * 32

LINK = "ffg link"
_LINK = Struct(">32sQQ")


def surrounds(first: bytes, second: bytes) -> bool:
    """Casper FFG's second slashing condition: a link from below to above another."""
    if len(first) != _LINK.size or len(second) != _LINK.size:
        return False
    _, source, target = _LINK.unpack(first)
    _, inner_source, inner_target = _LINK.unpack(second)
    return bool(source < inner_source < inner_target < target)


def order_slot(statement: bytes) -> tuple[int, int] | None:
    order = order_of(statement)
    return None if order is None else order[:2]


def checkpoint_slot(statement: bytes) -> int | None:
    checkpoint = checkpoint_of(statement)
    return None if checkpoint is None else checkpoint[0]


RULES: Rules = {
    PREPARE: one_value_a_slot(order_slot),
    CHECKPOINT: one_value_a_slot(checkpoint_slot),
    LINK: surrounds,
}


def said(statement: bytes, node: int = 2, context: str = PREPARE, scheme: Scheme = SCHEME) -> Said:
    return Said(statement, scheme.signer(node).sign(context, statement))


def prepares(first: tuple[int, int, bytes], second: tuple[int, int, bytes]) -> Conflict:
    return conflict(2, PREPARE, said(order_statement(*first)), said(order_statement(*second)))


TRUE = prepares((3, 7, A), (3, 7, B))

# --- what holds ---


def test_two_values_for_one_slot() -> None:
    assert TRUE.holds(KEYRING, RULES) is None
    assert TRUE.holds(SCHEME.keys(4), RULES) is None


def test_the_order_in_which_they_came_makes_no_difference() -> None:
    assert prepares((3, 7, B), (3, 7, A)) == TRUE


def test_each_context_has_its_rule() -> None:
    statements = [checkpoint_statement(128, 1000, A), checkpoint_statement(128, 1001, A)]
    claim = conflict(2, CHECKPOINT, *[said(statement, context=CHECKPOINT) for statement in statements])
    assert claim.holds(KEYRING, RULES) is None


@pytest.mark.parametrize(("outer", "inner"), [(A, B), (B, A)])
def test_a_rule_that_is_not_about_slots_is_asked_in_both_orders(outer: bytes, inner: bytes) -> None:
    around = said(_LINK.pack(outer, 1, 10), context=LINK)
    claim = conflict(2, LINK, around, said(_LINK.pack(inner, 2, 9), context=LINK))
    assert claim.holds(KEYRING, RULES) is None
    later = conflict(2, LINK, around, said(_LINK.pack(inner, 10, 11), context=LINK))
    assert later.holds(KEYRING, RULES) == "the statements do not contradict each other"


def test_whoever_is_known_by_a_key_alone_can_be_convicted() -> None:
    client = SCHEME.client(5)
    both = [Said(s, client.sign(PREPARE, s)) for s in (order_statement(1, 1, A), order_statement(1, 1, B))]
    assert conflict(client.public, PREPARE, *both).holds(KEYRING, RULES) is None
    other = SCHEME.client(6).public
    assert conflict(other, PREPARE, *both).holds(KEYRING, RULES) == "the first signature is not the node's"


def test_with_real_signatures() -> None:
    scheme = Ed25519((1, 2))
    both = [said(order_statement(3, 7, digest), scheme=scheme) for digest in (A, B)]
    claim = decode_evidence(encode_evidence(conflict(2, PREPARE, *both)))
    assert claim.holds(scheme.keyring(), RULES) is None
    assert msgspec.structs.replace(claim, node=1).holds(scheme.keyring(), RULES) is not None


# --- what does not ---


def test_the_same_statement_twice() -> None:
    assert prepares((3, 7, A), (3, 7, A)).holds(KEYRING, RULES) == "it is the same statement twice"


@pytest.mark.parametrize("other", [(4, 7, B), (3, 8, B), (7, 3, B)])
def test_different_slots(other: tuple[int, int, bytes]) -> None:
    assert prepares((3, 7, A), other).holds(KEYRING, RULES) == "the statements do not contradict each other"


def test_statements_of_different_nodes() -> None:
    one, other = said(order_statement(3, 7, A), node=2), said(order_statement(3, 7, B), node=3)
    for node, which in ((2, "second"), (3, "first"), (1, "first")):
        claim = conflict(node, PREPARE, one, other)
        assert claim.holds(KEYRING, RULES) == f"the {which} signature is not the node's"


def test_a_stranger() -> None:
    for node in (9, 1023, b"k" * 32):
        assert msgspec.structs.replace(TRUE, node=node).holds(KEYRING, RULES) == "the first signature is not the node's"


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_signature_that_was_tampered_with(which: str) -> None:
    true = getattr(TRUE, which)
    for signature in (b"", true.signature[:-1], bytes([true.signature[0] ^ 1]) + true.signature[1:], b"\xff" * 96):
        claim = msgspec.structs.replace(TRUE, **{which: Said(true.statement, signature)})
        assert claim.holds(KEYRING, RULES) == f"the {which} signature is not the node's"


def test_signatures_made_under_another_context() -> None:
    both = [said(order_statement(3, 7, digest), context=CHECKPOINT) for digest in (A, B)]
    assert conflict(2, PREPARE, *both).holds(KEYRING, RULES) == "the first signature is not the node's"


def test_a_context_without_a_rule() -> None:
    claim = msgspec.structs.replace(TRUE, context="gossip")
    assert claim.holds(KEYRING, RULES) == "there is no rule for what is signed as 'gossip'"


def test_statements_that_are_malformed() -> None:
    for one, other in ((b"", b"x"), (b"a" * 48, b"b" * 47), (order_statement(3, 7, A), b"z")):
        claim = conflict(2, PREPARE, said(one), said(other))
        assert claim.holds(KEYRING, RULES) == "the statements do not contradict each other"


def test_statements_out_of_order_or_too_large() -> None:
    swapped = Conflict(2, PREPARE, TRUE.second, TRUE.first)
    assert swapped.holds(KEYRING, RULES) == "the statements are not in ascending order"
    large = conflict(2, PREPARE, said(b"a" * (STATEMENT_BYTES_MAX + 1)), said(b"b"))
    assert large.holds(KEYRING, RULES) == f"a statement has more than {STATEMENT_BYTES_MAX} bytes"


statements = st.builds(
    order_statement, st.integers(0, 2), st.integers(0, 2), st.sampled_from([A, B, b"\x02" * 32])
) | st.binary(max_size=50)


@given(statements, statements, st.sampled_from(NODES), st.sampled_from(NODES), st.sampled_from(NODES))
def test_it_holds_exactly_where_one_node_signed_two_values_of_a_slot(
    one: bytes, other: bytes, signer: int, second_signer: int, accused: int
) -> None:
    claim = conflict(accused, PREPARE, said(one, signer), said(other, second_signer))
    slots = [order_slot(one), order_slot(other)]
    is_true = one != other and slots[0] == slots[1] is not None and signer == second_signer == accused
    assert (claim.holds(KEYRING, RULES) is None) == is_true


# --- bytes ---


def test_it_survives_encoding() -> None:
    for claim in (TRUE, msgspec.structs.replace(TRUE, node=b"k" * 32)):
        assert decode_evidence(encode_evidence(claim)) == claim
        assert decode_evidence(memoryview(encode_evidence(claim))) == claim


def test_the_largest_fits() -> None:
    signature = b"s" * SIGNATURE_BYTES_MAX
    largest = Conflict(
        b"k" * 64, "c" * 32, Said(b"a" * STATEMENT_BYTES_MAX, signature), Said(b"b" * STATEMENT_BYTES_MAX, signature)
    )
    assert decode_evidence(encode_evidence(largest)) == largest


@pytest.mark.parametrize(
    "claim",
    [
        msgspec.structs.replace(TRUE, node=1024),
        msgspec.structs.replace(TRUE, node=-1),
        msgspec.structs.replace(TRUE, node=b"short"),
        msgspec.structs.replace(TRUE, context=""),
        msgspec.structs.replace(TRUE, context="c" * 33),
        msgspec.structs.replace(TRUE, first=Said(b"a" * (STATEMENT_BYTES_MAX + 1), b"")),
        msgspec.structs.replace(TRUE, second=Said(b"a", b"s" * (SIGNATURE_BYTES_MAX + 1))),
    ],
)
def test_what_is_out_of_range_is_not_decoded(claim: Conflict) -> None:
    with pytest.raises(ValueError, match="not evidence"):
        decode_evidence(encode_evidence(claim))


def test_no_other_encoding_is_taken() -> None:
    data = encode_evidence(TRUE)
    assert data[1] == 0xA0 | len("Conflict")
    longer = data[:1] + b"\xd9\x08" + data[2:]
    assert msgspec.msgpack.decode(longer, type=Conflict) == TRUE
    for other in (longer, data + b"\x00", data[:-1], b""):
        with pytest.raises(ValueError, match="not evidence"):
            decode_evidence(other)
    with pytest.raises(ValueError, match="at most"):
        decode_evidence(bytes(ENCODED_BYTES_MAX + 1))


@given(st.binary(max_size=300))
def test_hostile_bytes_raise_nothing_but_the_decode_error(data: bytes) -> None:
    try:
        claim = decode_evidence(data)
    except ValueError:
        return
    assert claim.holds(KEYRING, RULES) is not None


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_changed_byte_is_either_refused_or_proves_nothing(changes: list[tuple[int, int]]) -> None:
    data = bytearray(encode_evidence(TRUE))
    for position, byte in changes:
        data[position % len(data)] = byte
    try:
        claim = decode_evidence(bytes(data))
    except ValueError:
        return
    assert claim == TRUE or claim.holds(KEYRING, RULES) is not None
