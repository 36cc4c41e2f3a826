"""Payments: one encoding, a signature that is checked once, and nothing that passes for another."""

from quorate.ledger.header import sha256d
from quorate.ledger.ruling import POINTS_OF_A_BAN, Ruling
from quorate.ledger.transaction import PAYMENT_BYTES, Payment, Signatures

from tests.ledger.payers import CHAIN, PAYERS, genesis_of

TO = bytes(range(20))


def test_a_payment_byte_by_byte() -> None:
    raw = PAYERS[0].raw(CHAIN, 5, TO, 300, 2)
    signed = b"\1" + CHAIN + PAYERS[0].public + (5).to_bytes(8, "big") + TO
    assert raw[:-64] == signed + (300).to_bytes(8, "big") + (2).to_bytes(8, "big")
    assert len(raw) == PAYMENT_BYTES == 173
    assert Signatures(CHAIN).decode(raw) == Payment(raw, sha256d(raw), PAYERS[0].address, 5, TO, 300, 2)


def test_any_flipped_bit_is_refused() -> None:
    raw = PAYERS[0].raw(CHAIN, 5, TO, 300, 2)
    signatures = Signatures(CHAIN)
    for bit in range(0, 8 * len(raw), 5):
        flipped = (int.from_bytes(raw, "big") ^ 1 << bit).to_bytes(len(raw), "big")
        found = signatures.decode(flipped)
        assert isinstance(found, Ruling)
        assert (found.kind, found.points) == ("bad", POINTS_OF_A_BAN), bit


def test_what_is_no_payment_is_refused_in_words() -> None:
    raw = PAYERS[0].raw(CHAIN, 0, TO, 1)
    whys = {
        b"": "173 bytes, not 0",
        raw + b"\0": "173 bytes, not 174",
        b"\2" + raw[1:]: "version 2",
        PAYERS[0].raw(genesis_of(subsidy=8).id, 0, TO, 1): "for the chain",
        raw[:93] + bytes(8) + raw[101:]: "out of range",
        raw[:93] + b"\xff" * 8 + raw[101:]: "out of range",
        raw[:-1] + bytes((raw[-1] ^ 1,)): "signature is wrong",
    }
    for data, why in whys.items():
        found = Signatures(CHAIN).decode(data)
        assert isinstance(found, Ruling)
        assert why in found.why


def test_a_signature_is_checked_once_and_what_is_remembered_is_bounded() -> None:
    signatures = Signatures(CHAIN, remembered_max=4)
    raws = [PAYERS[0].raw(CHAIN, nonce, TO, 1) for nonce in range(12)]
    first = signatures.decode(raws[0])
    assert signatures.decode(raws[0]) is first
    assert signatures.checked == 1
    for raw in raws:
        signatures.decode(raw)
    assert signatures.checked == 12
    signatures.decode(raws[-1])
    assert signatures.checked == 12
    signatures.decode(raws[0])
    assert signatures.checked == 13


def test_a_wrong_signature_is_not_remembered_as_right() -> None:
    raw = PAYERS[0].raw(CHAIN, 0, TO, 1)
    wrong = raw[:-1] + bytes((raw[-1] ^ 1,))
    signatures = Signatures(CHAIN)
    assert isinstance(signatures.decode(wrong), Ruling)
    assert isinstance(signatures.decode(wrong), Ruling)
    assert isinstance(signatures.decode(raw), Payment)
