"""Every kind of message, with an app behind the chain and without: of any content that decodes, and with bytes changed.

``test_tendermint_hostile.py`` has messages that are rightly signed and come at the wrong time. Here they are wrong in
themselves. Whatever comes, a node raises nothing, blames nobody but who sent it or signed it, and signs one thing once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from quorate.kernel import ROOT, Turn
from quorate.parts.log.replicated import Chunk
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_messages import Transactions
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import (
    Accusation,
    ExtendedDecision,
    ExtendedPrecommit,
    FetchPiece,
    Here,
    ImagePiece,
    Prevote,
    Proposal,
    Votes,
    step_of,
)
from quorate.protocols.tendermint.sync_messages import (
    AskSnapshots,
    AskStand,
    FetchChunk,
    Forgotten,
    ListedSnapshot,
    NewestSnapshot,
    SnapshotChunk,
    SnapshotOffer,
    Stand,
    StandIs,
    StandProof,
)
from quorate.runtime.codec import Codec, MalformedMessage

from tests.protocols.tendermint.one_app_node import OneAppNode
from tests.protocols.tendermint.one_node import CONFIG, ME, ONE, TWO, A, B, OneNode, P, decision, proof, proposal, said
from tests.protocols.tendermint.one_node import precommit as precommit_of
from tests.protocols.tendermint.one_node import prevote as prevote_of
from tests.protocols.tendermint.snapshots import DATA, SMALL, TREE, checkpoint, image, offer
from tests.wire.strategies import values_of

FAST, SLOW = 25, 2000
AS_FOUND = (Phase.explicit, Phase.reuse, Phase.generate)
"""What fails is shown as it was found: to make it smaller takes longer than a test may."""
VOTED = precommit_of(P[1], 0, A)
STAND = Stand(image(2).point, b"params", 3, b"header")
RIGHT: Sequence[Any] = (
    proposal(0, A),
    proposal(1, B, 0, proof(Step.PREVOTE, 0, B)),
    prevote_of(P[0], 0, A),
    precommit_of(P[1], 0, A),
    Votes((prevote_of(P[0], 0, A), precommit_of(P[2], 0, None))),
    decision(1),
    decision(2),
    Here(2),
    checkpoint(P[0], image(2)),
    offer(image(2)),
    FetchPiece(2, 4),
    ImagePiece(Chunk(2, 2, 0, DATA[:4], len(DATA)), TREE.proof(0)),
    Transactions((b"a=1", b"bad")),
    Transactions((ONE, TWO, b"bad")),
    Accusation(1, b"\x0a\x00"),
    ExtendedPrecommit(*astuple(VOTED), b"extension", VOTED.signature),
    ExtendedDecision(*astuple(decision(1)), (None,) * 4),
    AskSnapshots(),
    SnapshotOffer(ListedSnapshot(2, 1, 1, bytes(32), b"about it"), STAND, StandProof(b"commit", b"header", b"commit")),
    AskStand(2),
    StandIs(2, bytes(32)),
    FetchChunk(2, 1, bytes(32), 0, 0),
    SnapshotChunk(2, 1, 0, 0, 4, b"data"),
    NewestSnapshot(2),
    Forgotten(2),
)
"""Some of each kind, that a node at height 1 could be sent."""


class Hearing(Protocol):
    """A node under test. ``codec`` has what it can be sent."""

    codec: ClassVar[Codec]

    def hears(self, sender: int, message: Any) -> Turn: ...

    def goes_on(self, chance: random.Random) -> Turn: ...


class Plain:
    """One that takes snapshots, without an app."""

    codec = Codec(Tendermint)

    def __init__(self) -> None:
        self.node = OneNode(config=SMALL)

    def hears(self, sender: int, message: Any) -> Turn:
        return self.node.hears((sender, message))

    def goes_on(self, chance: random.Random) -> Turn:
        if chance.random() < 0.2:
            return self.node.submits(chance.choice((ONE, TWO)))
        return self.node.fires(chance.choice(("propose", "prevote", "precommit", "beat", "pause")))


class WithApp:
    """One with an app."""

    codec = Codec(AppChain)

    def __init__(self) -> None:
        self.node = OneAppNode(config=CONFIG)

    def hears(self, sender: int, message: Any) -> Turn:
        return self.node.hears(sender, message)

    def goes_on(self, chance: random.Random) -> Turn:
        if chance.random() < 0.2:
            self.node.submits(b"k=%d" % chance.getrandbits(8))
        return self.node.node.fires(chance.choice(("propose", "prevote", "precommit", "beat")))


def endure(make: type[Hearing], messages: Sequence[tuple[int, Any]], seed: int) -> None:
    """Hear them all, among timeouts and requests."""
    chance, node = random.Random(seed), make()
    signed: dict[tuple[int, int, Step], bytes | None] = {}
    for sender, message in messages:
        for turn in (node.hears(sender, message), node.goes_on(chance)):
            assert ME not in [blame.node for blame in turn.blames]
            for m in said(turn):
                if isinstance(m, Prevote):
                    assert signed.setdefault((m.height, m.round, step_of(m)), m.value) == m.value
                elif isinstance(m, Proposal):
                    assert signed.setdefault((m.height, m.round, Step.PROPOSE), m.block) == m.block


def decoded(codec: Codec, data: bytes) -> Any:
    """What a node would hear; None: its sender is hung up on."""
    try:
        path, message = codec.decode_message(data)
    except MalformedMessage:
        return None
    return message if path == ROOT else None


KINDS = {*Tendermint.messages, *AppChain.messages}
SENDERS = st.sampled_from(P[:3])
ANY = st.lists(st.tuples(SENDERS, st.one_of([values_of(kind) for kind in sorted(KINDS, key=str)])), max_size=10)
SPOILT = st.lists(
    st.tuples(SENDERS, st.sampled_from(RIGHT), st.integers(0, 4), st.integers(0, 1 << 16), st.integers(0, 255)),
    min_size=1,
    max_size=12,
)
NODES = pytest.mark.parametrize("make", [Plain, WithApp])


@NODES
def test_there_is_one_of_each_kind_and_a_node_hears_those_that_are_for_it(make: type[Hearing]) -> None:
    assert {type(m) for m in RIGHT} == KINDS
    for m in RIGHT:
        is_for_it = type(m) in make.codec.messages
        assert decoded(make.codec, make.codec.encode_message(ROOT, m)) == (m if is_for_it else None)


def spoilt(codec: Codec, message: Any, wrong: int, where: int, what: int) -> Any:
    """The same with some bytes changed, if it still decodes."""
    data = codec.encode_message(ROOT, message)
    at = where % len(data)
    if wrong == 1:
        data = data[:at] + bytes([what]) + data[at + 1 :]
    elif wrong == 2:
        data = data[:at]
    elif wrong == 3:
        data = data[:at] + bytes([what]) * 3 + data[at:]
    elif wrong == 4:  # a number is another, so that it decodes more often than not
        names = [name for name in message.__struct_fields__ if isinstance(getattr(message, name), int)]
        changed = {name: max(1, getattr(message, name) + (what % 5) - 2) for name in names[where % 3 :]}
        data = codec.encode_message(ROOT, replace(message, **changed))
    return decoded(codec, data)


def check_any(make: type[Hearing], messages: Sequence[tuple[int, Any]], seed: int) -> None:
    endure(make, [(sender, m) for sender, m in messages if type(m) in make.codec.messages], seed)


def check_spoilt(make: type[Hearing], items: Sequence[tuple[int, Any, int, int, int]], seed: int) -> None:
    messages = [(sender, spoilt(make.codec, message, *wrong)) for sender, message, *wrong in items]
    endure(make, [(sender, m) for sender, m in messages if m is not None], seed)


SEEDS = st.integers(0, 1 << 16)


@NODES
@settings(max_examples=FAST, deadline=None, phases=AS_FOUND)
@given(messages=ANY, seed=SEEDS)
def test_any_content(make: type[Hearing], messages: list[tuple[int, Any]], seed: int) -> None:
    check_any(make, messages, seed)


@NODES
@settings(max_examples=FAST, deadline=None, phases=AS_FOUND)
@given(items=SPOILT, seed=SEEDS)
def test_changed_bytes(make: type[Hearing], items: list[tuple[int, Any, int, int, int]], seed: int) -> None:
    check_spoilt(make, items, seed)


@pytest.mark.slow
@NODES
@settings(max_examples=SLOW, deadline=None, phases=AS_FOUND)
@given(messages=ANY, seed=SEEDS)
def test_much_of_any_content(make: type[Hearing], messages: list[tuple[int, Any]], seed: int) -> None:
    check_any(make, messages, seed)


@pytest.mark.slow
@NODES
@settings(max_examples=SLOW, deadline=None, phases=AS_FOUND)
@given(items=SPOILT, seed=SEEDS)
def test_many_changed_bytes(make: type[Hearing], items: list[tuple[int, Any, int, int, int]], seed: int) -> None:
    check_spoilt(make, items, seed)
