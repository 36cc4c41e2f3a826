"""Incarnations in the handshake: a field at the end, which older releases do not have and do not look at."""

from __future__ import annotations

import msgspec

from quorate.runtime import handshake
from quorate.runtime.handshake import LocalNode, Refused
from quorate.runtime.incarnations import FORMER_MAX, LOST_CODE, NEVER_AGAIN, Incarnations, incarnation_in, peer_hello
from quorate.runtime.peer_handshake import PeerDialler
from quorate.runtime.sealing import Ephemeral

from tests.wire.keyed import SCHEME, called, key_of, local

ME = LocalNode("c", "raft", 1, frozenset({1, 2, 3}))
OTHER = LocalNode("c", "raft", 2, frozenset({1, 2, 3}))
FIRST, SECOND = b"1" * 16, b"2" * 16


def test_a_hello_with_one_is_a_hello() -> None:
    frame = handshake.encode(peer_hello(OTHER, 1, FIRST))
    assert incarnation_in(frame) == FIRST
    judged = handshake.judge(frame, ME, "peer")  # as an older release does
    assert judged == OTHER.hello(1)


def test_a_hello_without_one_is_byte_for_byte_what_it_was() -> None:
    frame = handshake.encode(OTHER.hello(1))
    assert handshake.encode(peer_hello(OTHER, 1, b"")) == frame
    assert incarnation_in(frame) == b""


def test_what_is_no_hello_has_none() -> None:
    for frame in (b"", b"\xc1", b"\x90", msgspec.msgpack.encode([b"quorate", 1, "peer", "", "", 2, 1, b"x" * 65])):
        assert incarnation_in(frame) == b""


def test_the_first_one_counts_until_the_node_has_left() -> None:
    changes: list[dict[int, tuple[bytes, ...]]] = []
    found = Incarnations(1)
    found.recall(b"own", {3: (FIRST,)}, lambda: changes.append(dict(found.others)))
    assert found.refuses(2, FIRST) is None
    found.learn(2, FIRST)
    found.learn(2, FIRST)
    found.learn(2, SECOND)
    assert found.refuses(2, FIRST) is None
    assert found.refuses(2, b"") is None, "an older release names none"
    refusal = found.refuses(2, SECOND)
    assert isinstance(refusal, Refused)
    assert refusal.code == LOST_CODE
    assert "node 2 was here with another data folder (incarnation 31313131, now 32323232)" in refusal.why
    found.learn(3, b"")
    found.forget(2)
    found.forget(2)
    assert found.refuses(2, SECOND) is None
    assert changes == [{2: (FIRST,), 3: (FIRST,)}, {3: (FIRST,)}]


def test_what_the_log_says_of_a_folder_counts_before_its_first_call_and_not_after_one() -> None:
    found = Incarnations(1)
    found.takes_repaired = True
    found.expect(2, b"")
    assert not found.others, "the log does not say it of all"
    found.expect(2, FIRST)
    assert found.refuses(2, SECOND) is not None, "a node that lost its folder before it had called anybody"
    repaired = b"\1" + b"3" * 16
    found.learn(2, repaired)
    found.expect(2, FIRST)
    assert found.others[2] == (FIRST, repaired)


def test_what_can_be_done_is_said_where_something_can() -> None:
    found = Incarnations(1)
    found.advice = f"{NEVER_AGAIN}: add another"
    found.learn(2, FIRST)
    refusal = found.refuses(2, SECOND)
    assert refusal is not None
    assert refusal.why.endswith("never start it under this number again: add another")


def test_one_that_was_repaired_takes_the_place_of_those_before_for_good() -> None:
    changes: list[dict[int, tuple[bytes, ...]]] = []
    found = Incarnations(1)
    found.recall(b"own", {2: (FIRST,)}, lambda: changes.append(dict(found.others)))
    again, later = b"\1" + b"3" * 16, b"\1" + b"4" * 16
    assert found.refuses(2, again) is not None, "its protocol has no way back"
    found.takes_repaired = True
    assert found.refuses(2, again) is None
    found.learn(2, again)
    assert found.refuses(2, again) is None
    assert found.refuses(2, FIRST) is not None, "a disk was mounted again"
    found.learn(2, later)
    refusal = found.refuses(2, again)
    assert refusal is not None
    assert "(incarnation 34343434, now 33333333)" in refusal.why
    assert changes == [{2: (FIRST, again)}, {2: (FIRST, again, later)}]
    for number in range(100):
        found.learn(2, b"\1" + b"%016d" % number)
    assert len(found.others[2]) == FORMER_MAX


def test_nodes_with_keys_name_theirs_behind_what_they_prove() -> None:
    """An older release has a Hello that ends with the share, and reads one that goes on."""
    for named in (FIRST, b""):
        keys = SCHEME.keys(2).within("c")
        dialler = PeerDialler(local(2), keys, 1, SCHEME.keyring().public(1), Ephemeral(), named)
        fields = msgspec.msgpack.decode(dialler.opening)
        assert (len(fields), fields[-1]) == (10, named)
        side = called(1)
        assert side.greeted(dialler.opening, key_of) == 2
        assert side.incarnation == named
    side = called(1)
    assert side.greeted(msgspec.msgpack.encode(fields[:-1]), key_of) == 2
    assert side.incarnation == b""
