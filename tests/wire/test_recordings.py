"""What earlier versions wrote and said is read, and said again byte for byte.

``recordings/<protocol>.txt`` was made at commit af542d1: the frames of clusters of real nodes with their clients, one
node's journal, and messages and journal frames of simulated runs, so that each type of message is there. A line is a
kind and hexadecimal bytes.

One thing differs that no decoder sees: what is signed names the cluster since then (``to_sign``). The signatures and
MACs in PBFT's recordings, of messages, records and requests, can be read and count for nothing, so a cluster of PBFT
starts with new folders under a new release. Between nodes with keys a Hello has two fields more (``KeyedHello``) and no
Welcome follows; that of nodes without keys, and of clients, is as it was.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.parts.leaderlog.returns import Returned
from quorate.parts.slots import Reached
from quorate.protocols import REGISTRY
from quorate.protocols.multipaxos import messages as multipaxos
from quorate.protocols.multipaxos.messages import SnapshottedAmong
from quorate.protocols.pbft.messages import Footing, ImagePiece, Offer, Taken, TakenAmong
from quorate.protocols.raft import messages as raft
from quorate.runtime import handshake
from quorate.runtime.codec import Codec
from quorate.runtime.files import Identity
from quorate.runtime.journal.recovery import recover
from quorate.service import requests

FOLDER = Path(__file__).parent / "recordings"
PROTOCOLS = sorted(file.stem for file in FOLDER.glob("*.txt"))
SINCE = {
    "multipaxos": {SnapshottedAmong, Returned, multipaxos.SnapshottedAfter},
    "pbft": {TakenAmong, Footing},
    "raft": {Returned, raft.SnapshottedAfter, raft.SnapshottedAmong, raft.Witness},
}
"""Records that there are since then."""
LONGER = {"paxos": {Reached}, "pbft": {Offer, ImagePiece, Taken}}
"""Messages and records with fields more since then: a node says what a quorum holds, a snapshot has the root of its
pieces, and a piece its proof."""


@cache
def recorded(protocol: str) -> dict[str, list[bytes]]:
    """By kind, what was recorded."""
    found: dict[str, list[bytes]] = {}
    for line in (FOLDER / f"{protocol}.txt").read_text().splitlines():
        kind, text = line.split()
        found.setdefault(kind, []).append(text.encode() if kind == "cluster" else bytes.fromhex(text))
    return found


def extends(new: Any, old: Any) -> bool:
    """Whether it is the same but for fields that were added at the end, and are empty."""
    if not isinstance(old, list):
        return bool(new == old)
    return all(map(extends, new, old)) and all(more in (b"", 0, []) for more in new[len(old) :])


def is_the_same(protocol: str, kinds: set[type], again: bytes, data: bytes) -> bool:
    """Whether these bytes are what was recorded, as far as it is what it was."""
    if kinds & LONGER.get(protocol, set()):
        return again != data and extends(msgspec.msgpack.decode(again), msgspec.msgpack.decode(data))
    return again == data


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_messages_between_nodes(protocol: str) -> None:
    codec = Codec(REGISTRY[protocol].core)
    kinds = set()
    for data in recorded(protocol)["message"]:
        path, m = codec.decode_message(data)
        kinds.add(type(m))
        assert is_the_same(protocol, {type(m)}, codec.encode_message(path, m), data), m
    assert len(kinds) >= 6


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_frames_of_journals(protocol: str) -> None:
    codec = Codec(REGISTRY[protocol].core)
    kinds = set()
    for data in recorded(protocol)["frame"]:
        records = codec.decode_records(data)
        here = {type(record.value) for record in records}
        kinds |= here
        assert is_the_same(protocol, here, codec.encode_records(records), data), records
    assert set(codec.records) - kinds == SINCE.get(protocol, set()), "all that was durable"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_journal(protocol: str, tmp_path: Path) -> None:
    found = recorded(protocol)
    (data,), (cluster,) = found["journal"], found["cluster"]
    (tmp_path / "00000001.journal").write_bytes(data)
    recovered = recover(tmp_path, Identity(cluster.decode(), 2))
    codec = Codec(REGISTRY[protocol].core)
    assert recovered.cut_bytes == 0
    assert len(recovered.frames) > 3
    for frame in recovered.frames:
        assert codec.encode_records(codec.decode_records(frame)) == frame


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_greetings(protocol: str) -> None:
    for data in recorded(protocol)["greeting"]:
        if msgspec.msgpack.decode(data)[0] == handshake.MAGIC:
            greeting = msgspec.msgpack.decode(data, type=handshake.Hello)
            assert handshake.encode(greeting) == data
        else:
            assert handshake.encode(handshake.answer_in(data)) == data


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_clients_ask_and_are_told(protocol: str) -> None:
    for data in recorded(protocol)["request"]:
        again = requests.encode(requests.decode_request(data))
        # A request says how long somebody waits since then, and who.
        assert extends(msgspec.msgpack.decode(again), msgspec.msgpack.decode(data))
    for data in recorded(protocol)["response"]:
        response = requests.decode_response(data)
        again = requests.encode(response)
        if isinstance(response, requests.Status):  # says which nodes there are since then, and has a note
            assert msgspec.msgpack.decode(again) == [*msgspec.msgpack.decode(data), [], ""]
        else:
            assert again == data
