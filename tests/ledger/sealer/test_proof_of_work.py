"""Which headers are taken: real ones of Bitcoin, and one wrong thing at a time. A check left out shows."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.ledger.header import LedgerHeader
from quorate.ledger.ruling import OK, POINTS_OF_A_BAN, Ruling
from quorate.ledger.sealer import proof_of_work
from quorate.ledger.sealer.compact import work_of
from quorate.ledger.sealer.difficulty import BITCOIN_LIMIT, BitcoinDifficulty, FixedDifficulty, LwmaDifficulty
from quorate.ledger.sealer.proof_of_work import (
    CONDEMNED,
    FUTURE_S_MAX,
    NO_TARGET,
    NO_WORK,
    ORPHAN,
    TOO_NEW,
    TOO_OLD,
    WRONG_BITS,
    Mined,
    ProofOfWork,
    median_time_s,
)
from quorate.ledger.tree import BlockTree, TreeBase

from tests.ledger.mining import EASY, EASY_BITS, GENESIS, START_S, mined, mined_chain, next_header
from tests.ledger.sealer.bitcoin_headers import BLOCK_125552, FIRST, FIRST_HASHES, HASH_125552, shown

BITCOIN = ProofOfWork(BitcoinDifficulty())


def test_real_headers_of_bitcoin() -> None:
    tree = BlockTree(TreeBase(FIRST[0]))
    for header, hash_ in zip(FIRST, FIRST_HASHES, strict=True):
        assert shown(header.id) == hash_
        assert LedgerHeader.decode(header.encode()) == header
    for header in FIRST[1:]:
        assert BITCOIN.check(header, header.id, tree, header.time_s) == OK
        assert tree.add(header, BITCOIN.weight(header)).is_ok
    assert tree[FIRST[3].id].weight == 3 * 4295032833
    assert shown(BLOCK_125552.id) == HASH_125552
    assert BITCOIN.check(BLOCK_125552, BLOCK_125552.id, tree, 2**31) == ORPHAN
    assert BITCOIN.weight(BLOCK_125552) == work_of(0x44B9F2 << 8 * 23)


def test_any_flipped_bit_of_a_real_header_is_seen() -> None:
    tree = BlockTree(TreeBase(FIRST[0]))
    data = FIRST[1].encode()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        header = LedgerHeader.decode(bytes(flipped))
        assert BITCOIN.check(header, header.id, tree, 2**31).kind == "bad", f"bit {bit}"


def grown() -> tuple[BlockTree, list[LedgerHeader]]:
    """Thirty blocks, a minute apart."""
    tree, headers = BlockTree(TreeBase(GENESIS)), [GENESIS]
    for header in mined_chain(GENESIS, [bytes(32)] * 30):
        tree.add(header, EASY.weight(header))
        headers.append(header)
    return tree, headers


def wrong_headers() -> list[tuple[LedgerHeader, Ruling]]:
    """One for each check, in their order; each breaks its rule and, where it can, none before."""
    _, headers = grown()
    last, median_s = headers[-1], headers[-6].time_s
    draft = LedgerHeader(1, last.id, bytes(32), last.time_s + 60, EASY_BITS)
    lost = replace(draft, parent=bytes(31) + b"\1")
    harder = replace(draft, bits=0x1F7FFFFF)
    return [
        (replace(draft, bits=0x20800001), NO_TARGET),
        (replace(draft, bits=0), NO_TARGET),
        (replace(draft, bits=0x21010000), NO_TARGET),
        (replace(draft, bits=0x217FFFFF), NO_TARGET),
        (mined(draft, enough=False), NO_WORK),
        (mined(lost, enough=False), NO_WORK),  # before anybody asks for its parent
        (mined(lost), ORPHAN),
        (mined(harder), WRONG_BITS),
        (mined(replace(draft, time_s=median_s)), TOO_OLD),
        (mined(replace(draft, time_s=START_S)), TOO_OLD),
        (mined(replace(draft, time_s=last.time_s + FUTURE_S_MAX + 1)), TOO_NEW),
        (mined(replace(draft, time_s=last.time_s + FUTURE_S_MAX)), OK),
        (mined(replace(draft, time_s=median_s + 1)), OK),  # before its parent's, after the median
    ]


def outcomes(rules: ProofOfWork) -> list[bool]:
    tree, headers = grown()
    wall_s = headers[-1].time_s
    return [rules.check(header, header.id, tree, wall_s) == expected for header, expected in wrong_headers()]


def test_each_rule_and_no_other() -> None:
    assert all(outcomes(EASY))
    for _, ruling in wrong_headers():
        assert (ruling.points, ruling.poisons) == ((POINTS_OF_A_BAN, True) if ruling.kind == "bad" else (0, False))


def test_the_child_of_an_invalid_block_is_refused() -> None:
    tree, headers = grown()
    tree.condemn(headers[-1].id)
    child = next_header(headers[-1])
    assert EASY.check(child, child.id, tree, child.time_s) == CONDEMNED


def test_what_is_early_is_taken_when_its_time_has_come() -> None:
    tree, headers = grown()
    early = next_header(headers[-1], time_s=headers[-1].time_s + FUTURE_S_MAX + 100)
    assert EASY.check(early, early.id, tree, headers[-1].time_s) == TOO_NEW
    assert early.id not in tree
    assert EASY.check(early, early.id, tree, headers[-1].time_s + 100) == OK
    assert ProofOfWork(FixedDifficulty(), 100).check(early, early.id, tree, headers[-1].time_s + 100) == TOO_NEW


def replaced(name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(proof_of_work, name, value)


MUTANTS = {
    "no target": replaced("target_of", lambda bits, limit: EASY.difficulty.limit),
    "limit": replaced("target_of", lambda bits, limit: 1 << 255 if bits == 0x217FFFFF else _target_of(bits, limit)),
    "work": replaced("hash_number", lambda id: 0),
    "big-endian": replaced("hash_number", lambda id: int.from_bytes(id, "big")),
    "bits": lambda patch: patch.setattr(FixedDifficulty, "next_bits", lambda self, tree, parent: 0x1F7FFFFF),
    "parent's time": replaced("MEDIAN_OF", 1),
    "mean for median": replaced("median_time_s", lambda tree, parent: START_S - 1),
    "future": lambda patch: patch.setattr(EASY, "future_s_max", 2**40),
    "future condemns": replaced("TOO_NEW", TOO_OLD),
}
_target_of = proof_of_work.target_of


@pytest.mark.parametrize("name", MUTANTS)
def test_a_check_left_out_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    assert not all(outcomes(EASY))


def test_the_median_of_eleven_or_fewer() -> None:
    tree, headers = grown()
    assert median_time_s(tree, headers[-1].id) == headers[-6].time_s
    assert median_time_s(tree, GENESIS.id) == START_S
    assert median_time_s(tree, headers[1].id) == headers[1].time_s
    for id in (headers[10].id, headers[20].id):  # it sees what was before the base
        tree.add(headers[0], 0)
        for header in headers[1:]:
            if tree[id].status.name != "VALID" and header.id in tree and tree[header.id].height <= tree[id].height:
                tree[header.id].status = type(tree[id].status).VALID
        tree.rebase(id)
        assert median_time_s(tree, id) == headers[headers.index(tree[id].header) - 5].time_s


def test_a_draft_is_sealed_by_a_nonce_that_is_good_enough() -> None:
    tree, headers = grown()
    last = headers[-1].id
    draft = EASY.draft(tree, last, b"p" * 32, START_S + 99_999)
    assert draft == LedgerHeader(1, last, b"p" * 32, START_S + 99_999, EASY_BITS)
    assert EASY.draft(tree, last, b"p" * 32, 0).time_s == headers[-6].time_s + 1  # a clock that is far behind
    job = EASY.job(draft)
    assert (job.draft, int.from_bytes(job.target, "big")) == (draft, EASY.difficulty.limit)
    good, poor = mined(draft), mined(draft, enough=False)
    assert EASY.sealed(draft, Mined(good.nonce, good.time_s)) == good
    assert EASY.sealed(draft, Mined(poor.nonce, poor.time_s)) is None
    assert EASY.sealed(draft, None) is None
    assert EASY.check(good, good.id, tree, START_S + 99_999) == OK


def test_rules_look_back_as_far_as_they_must() -> None:
    assert EASY.looks_back == 11
    assert BITCOIN.looks_back == 2016
    assert ProofOfWork(LwmaDifficulty(60, 60)).looks_back == 61
    assert BITCOIN.difficulty.limit == BITCOIN_LIMIT
