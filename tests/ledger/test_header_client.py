"""The light client: one honest peer among seven liars is enough, and without it nothing false is believed."""

from collections.abc import Callable
from random import Random

import pytest
from msgspec.structs import replace

from quorate.ledger import bitcoin_merkle
from quorate.ledger.bitcoin_merkle import Branch, bitcoin_root, branch_of
from quorate.ledger.block import PayloadHeader
from quorate.ledger.header import LedgerHeader, sha256d
from quorate.ledger.header_client import HEADERS_MAX, HeaderClient, PayloadBranch
from quorate.ledger.ruling import Ruling
from quorate.ledger.sealer.proof_of_work import FUTURE_S_MAX, ProofOfWork
from quorate.ledger.tree import BlockTree, TreeBase
from quorate.parts.crypto.merkle import merkle_proofs

from tests.ledger.mining import EASY, GENESIS, mined, mined_chain, next_header

LENGTH, DEPTH = 24, 6
Claim = tuple[bytes, Branch | PayloadBranch, bytes]
"""A block's id, a proof, and the transaction that it is about."""


def transactions(block: int, count: int = 5) -> list[bytes]:
    return [b"payment %d of block %d" % (i, block) for i in range(count)]


def branch(txs: list[bytes], index: int) -> Branch:
    leaves = list(map(sha256d, txs))
    return Branch(index, branch_of(leaves, index), txs[0], branch_of(leaves, 0))


def root_of(txs: list[bytes]) -> bytes:
    return bitcoin_root(list(map(sha256d, txs))).root


CHAIN = mined_chain(GENESIS, [root_of(transactions(block)) for block in range(1, LENGTH + 1)])
"""Blocks 1 to 24 of the honest chain."""
WALL_S = CHAIN[-1].time_s
FALSE = b"a payment that nobody made"
TRUE = [(header.id, branch(transactions(block), 3), transactions(block)[3]) for block, header in enumerate(CHAIN, 1)]


class Peer:
    """What it gives when it is asked for headers, and what it claims to prove."""

    headers: list[LedgerHeader]
    claims: list[Claim]

    def __init__(self, headers: list[LedgerHeader], claims: list[Claim]) -> None:
        self.headers, self.claims = headers, claims


def false_chain(parent: LedgerHeader, count: int) -> list[LedgerHeader]:
    return mined_chain(parent, [root_of([FALSE])] * count)


def honest() -> Peer:
    return Peer(CHAIN, list(TRUE))


def without_work() -> Peer:
    """Longer than the truth, and no hash was ground."""
    headers, parent = [], GENESIS
    for _ in range(3 * LENGTH):
        draft = LedgerHeader(1, parent.id, root_of([FALSE]), parent.time_s + 1, GENESIS.bits)
        parent = mined(draft, enough=False)
        headers.append(parent)
    return Peer(headers, [(each.id, branch([FALSE], 0), FALSE) for each in headers])


def less_work() -> Peer:
    """A fork with real work, a little less than all others have done since."""
    headers = false_chain(CHAIN[9], LENGTH - 11)
    return Peer(headers, [(each.id, branch([FALSE], 0), FALSE) for each in headers])


def easier() -> Peer:
    """Headers that say how little work they took."""
    headers, parent = [], GENESIS
    for _ in range(2 * LENGTH):
        parent = LedgerHeader(1, parent.id, root_of([FALSE]), parent.time_s + 1, 0x217FFFFF)
        headers.append(parent)
    return Peer(headers, [(each.id, branch([FALSE], 0), FALSE) for each in headers])


def tomorrow() -> Peer:
    """More work than there can be yet, done with a clock that is a day ahead."""
    first = next_header(GENESIS, root_of([FALSE]), WALL_S + FUTURE_S_MAX + 3600)
    headers = [first, *false_chain(first, 2 * LENGTH)]
    return Peer(headers, [(each.id, branch([FALSE], 0), FALSE) for each in headers])


def other_numbers() -> Peer:
    """The true chain, and true payments as others than they are."""
    claims: list[Claim] = []
    for block, header in enumerate(CHAIN, 1):
        proof = branch(transactions(block), 3)
        claims += [
            (header.id, replace(proof, index=index), transactions(block)[3]) for index in (0, 2, 4, 11, 2**32 - 5)
        ]
        claims.append((header.id, proof, FALSE))
    return Peer(CHAIN, claims)


def inner_nodes() -> Peer:
    """The true chain, and two hashes as if they were a payment."""
    claims: list[Claim] = []
    for block, header in enumerate(CHAIN, 1):
        leaves = [sha256d(tx) for tx in transactions(block)]
        pairs = [sha256d(leaves[0] + leaves[1]), sha256d(leaves[2] + leaves[3]), sha256d(leaves[4] + leaves[4])]
        proof = Branch(1, branch_of(pairs, 1), leaves[0] + leaves[1], branch_of(pairs, 0))
        claims.append((header.id, proof, leaves[2] + leaves[3]))
    return Peer(CHAIN, claims)


def trojan() -> Peer:
    """It had a transaction of 64 bytes mined, which is the hash of a payment that nobody made."""
    txs = [b"coinbase", sha256d(FALSE) + sha256d(b"x")]
    leaves = list(map(sha256d, txs))
    proof = Branch(2, (sha256d(b"x"), leaves[0]), txs[0], branch_of(leaves, 0))
    return Peer(CHAIN, [(TROJAN.id, proof, FALSE)])


TROJAN = next_header(CHAIN[-1], root_of([b"coinbase", sha256d(FALSE) + sha256d(b"x")]))
LIARS: list[Callable[[], Peer]] = [without_work, less_work, easier, tomorrow, other_numbers, inner_nodes, trojan]


def run(client: HeaderClient, peers: list[Peer], rng: Random) -> list[Claim]:
    """Take turns, a few headers at a time; then what the client believes of all that is claimed."""
    at = [0] * len(peers)
    while any(at[i] < len(peer.headers) for i, peer in enumerate(peers)):
        i = rng.randrange(len(peers))
        count = 1 + rng.randrange(9)
        client.update(peers[i].headers[at[i] : at[i] + count], WALL_S)
        at[i] += count
    claims = [claim for peer in peers for claim in peer.claims]
    rng.shuffle(claims)
    return [claim for claim in claims if client.holds(*claim, DEPTH).is_ok]


def new(sealer: ProofOfWork = EASY) -> HeaderClient:
    return HeaderClient(TreeBase(GENESIS), sealer, Branch)


@pytest.mark.parametrize("seed", range(5))
def test_one_honest_peer_among_seven_liars(seed: int) -> None:
    client = new()
    believed = run(client, [honest(), *[liar() for liar in LIARS]], Random(seed))
    assert client.head == CHAIN[-1].id
    assert client.height == LENGTH
    assert believed_once(believed) == [(id, leaf) for id, _, leaf in TRUE[: LENGTH - DEPTH + 1]]


def believed_once(claims: list[Claim]) -> list[tuple[bytes, bytes]]:
    order = [header.id for header in CHAIN]
    return sorted({(id, leaf) for id, _, leaf in claims}, key=lambda each: order.index(each[0]))


FABRICATING = [without_work, easier, tomorrow]


@pytest.mark.parametrize("seed", range(3))
def test_among_liars_alone_it_stays_where_it_began(seed: int) -> None:
    client = new()
    believed = run(client, [liar() for liar in FABRICATING], Random(seed))
    assert (client.head, client.height, believed) == (GENESIS.id, 0, [])


class SkipsWork(ProofOfWork):
    def check(self, header: LedgerHeader, id: bytes, tree: BlockTree, wall_s: int) -> Ruling:
        return super().check(header, bytes(32), tree, wall_s)


class SkipsTarget(ProofOfWork):
    def check(self, header: LedgerHeader, id: bytes, tree: BlockTree, wall_s: int) -> Ruling:
        return super().check(replace(header, bits=GENESIS.bits), bytes(32), tree, wall_s)

    def weight(self, header: LedgerHeader) -> int:
        return 2


class SkipsFuture(ProofOfWork):
    def check(self, header: LedgerHeader, id: bytes, tree: BlockTree, wall_s: int) -> Ruling:
        return super().check(header, id, tree, 2**31)


class LongestBeforeHeaviest(HeaderClient):
    """The last one that came is the head."""

    def update(self, headers: list[LedgerHeader], wall_s: int) -> Ruling:  # type: ignore[override]
        ruling = super().update(headers, wall_s)
        if headers and headers[-1].id in self._tree:
            self.head = headers[-1].id
        return ruling


class AnyBranch(HeaderClient):
    """A proof need not lead to the chain."""

    def holds(self, id: bytes, proof: Branch | PayloadBranch, leaf: bytes, depth: int) -> Ruling:
        entry = self._tree.entries.get(id)
        if entry is not None and proof.refusal(entry.header.payload, leaf) is None:
            return Ruling()
        return super().holds(id, proof, leaf, depth)


def falls(client: HeaderClient, liars: list[Callable[[], Peer]], seeds: int = 5) -> bool:
    """Whether a sick client ends with another head or believes something false."""
    for seed in range(seeds):
        believed = run(client, [honest(), *[liar() for liar in liars]], Random(seed))
        expected = [(id, leaf) for id, _, leaf in TRUE[: LENGTH - DEPTH + 1]]
        if client.head != CHAIN[-1].id or any((id, leaf) not in expected for id, _, leaf in believed):
            return True
    return False


@pytest.mark.parametrize(
    ("sealer", "liar"),
    [
        (SkipsWork(EASY.difficulty), without_work),
        (SkipsTarget(EASY.difficulty), easier),
        (SkipsFuture(EASY.difficulty), tomorrow),
    ],
)
def test_a_client_that_skips_a_rule_of_headers_falls_for_a_liar(sealer: ProofOfWork, liar: Callable[[], Peer]) -> None:
    assert not falls(new(), [liar])
    assert falls(new(sealer), [liar])


@pytest.mark.parametrize("sick", [LongestBeforeHeaviest, AnyBranch])
def test_a_client_that_takes_any_branch_falls_for_a_liar(sick: type[HeaderClient]) -> None:
    assert not falls(new(), [less_work])
    assert falls(sick(TreeBase(GENESIS), EASY, Branch), [less_work])


def test_a_client_that_skips_a_check_of_proofs_falls_for_a_liar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a leaf, the depth of its branch, the range of its index."""
    monkeypatch.setattr(bitcoin_merkle, "INNER_BYTES", -1)
    assert falls(new(), [inner_nodes])
    client = new()
    client.update([*CHAIN, TROJAN], WALL_S + 600)
    [(id, proof, leaf)] = trojan().claims
    assert isinstance(proof, Branch)
    assert client.holds(id, proof, leaf, 1).why == "the branch is not as deep as that of the first transaction"
    monkeypatch.setattr(Branch, "refusal", lambda self, root, leaf: None if _leads(self, root, leaf) else "no")
    assert client.holds(id, proof, leaf, 1).is_ok
    block, beyond, leaf = TRUE[0]
    assert isinstance(beyond, Branch)
    assert client.holds(block, replace(beyond, index=beyond.index + 8), leaf, 1).is_ok


def _leads(proof: Branch, root: bytes, leaf: bytes) -> bool:
    return bitcoin_merkle._root(leaf, proof.index, proof.hashes) == root


# --- the rest ---


def test_depth_and_branches() -> None:
    client = new()
    client.update(CHAIN[:10], WALL_S)
    at_head, deeper = TRUE[9], TRUE[7]
    assert client.holds(*at_head, 1).is_ok
    assert client.holds(*at_head, 2).kind == client.holds(*deeper, 4).kind == "later"
    assert client.holds(*deeper, 3).is_ok
    assert client.holds(*TRUE[12], 1).kind == "orphan"
    fork = false_chain(CHAIN[6], 5)
    assert client.update(fork[:3], WALL_S).is_ok
    assert client.head == CHAIN[9].id, "a tie is for what was first"
    client.update(fork[3:], WALL_S)
    assert client.head == fork[-1].id
    assert client.holds(*at_head, 1).kind == "later", "it is on a side branch now, and may return"
    client.update(CHAIN[10:], WALL_S)
    assert client.holds(*at_head, 1).is_ok


def test_it_goes_on_from_what_it_saved() -> None:
    client = new()
    client.update(CHAIN[:20], WALL_S)
    saved = client.checkpoint(DEPTH)
    assert (saved.header, saved.height, saved.total) == (CHAIN[14], 15, 30)
    assert len(saved.below) == 11
    other = HeaderClient(saved, EASY, Branch)
    assert other.update(CHAIN[15:], WALL_S).is_ok
    assert (other.head, other.height) == (CHAIN[-1].id, LENGTH)
    assert other.locator[-1] == CHAIN[14].id
    assert new().checkpoint(3) == TreeBase(GENESIS)


def test_limits_and_strange_peers() -> None:
    client = new()
    assert client.update([CHAIN[0]] * (HEADERS_MAX + 1), WALL_S).kind == "bad"
    assert client.update([CHAIN[0], CHAIN[0]], WALL_S).is_ok
    assert client.update([CHAIN[5]], WALL_S).kind == "orphan"
    assert client.height == 1
    assert client.update([], WALL_S).is_ok


def test_payloads_of_our_own_chains() -> None:
    txs = transactions(1)
    root, proofs = merkle_proofs(txs)
    payload = PayloadHeader(1, bytes(20), root, bytes(32), bytes(32))
    header = next_header(GENESIS, payload.hash)
    client = HeaderClient(TreeBase(GENESIS), EASY)
    client.update([header], WALL_S)
    assert client.holds(header.id, PayloadBranch(payload, proofs[2]), txs[2], 1).is_ok
    wrong = [
        (PayloadBranch(payload, proofs[2]), txs[1]),
        (PayloadBranch(payload, proofs[1]), txs[2]),
        (PayloadBranch(replace(payload, gas_used=1), proofs[2]), txs[2]),
        (PayloadBranch(replace(payload, height=2), proofs[2]), txs[2]),
        (branch(txs, 2), txs[2]),
        (Branch(0, (), payload.encode(), ()), payload.encode()),  # a payload is no transaction
    ]
    for proof, leaf in wrong:
        assert client.holds(header.id, proof, leaf, 1).kind == "bad"
