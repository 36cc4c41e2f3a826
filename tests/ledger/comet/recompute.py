"""A second opinion of what a chain's RPC shows, which shares no code with the package: hashes, signatures, proposers.

It has protobuf, Merkle trees, sign bytes and priorities of its own, over nothing but hashlib and `cryptography`, as
CometBFT 0.38's ``spec/core/data_structures.md``, ``spec/core/encoding.md`` and
``spec/consensus/proposer-selection.md`` have them.

``Shown`` is one height as JSON; ``Recomputed`` goes from height to height and raises ``Differs`` at the first thing
that is not as it computes it.
"""

from __future__ import annotations

import struct
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Json = Any
PART_BYTES = 65536
ABSENT, FOR_BLOCK, FOR_NIL = 1, 2, 3
PREVOTE, PRECOMMIT = 1, 2


class Differs(AssertionError):
    """What is not as it is computed."""


# --- protobuf ---


def varint(number: int) -> bytes:
    number %= 1 << 64
    made = bytearray()
    while number >= 128:
        made.append(number % 128 + 128)
        number //= 128
    return bytes([*made, number])


def number(tag: int, value: int | str) -> bytes:
    return varint(tag * 8) + varint(int(value)) if int(value) else b""


def fixed(tag: int, value: int | str) -> bytes:
    return varint(tag * 8 + 1) + struct.pack("<q", int(value)) if int(value) else b""


def blob(tag: int, data: bytes) -> bytes:
    return message(tag, data) if data else b""


def message(tag: int, data: bytes) -> bytes:
    """It is there even if it is empty."""
    return varint(tag * 8 + 2) + varint(len(data)) + data


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


def tree(leaves: Sequence[bytes]) -> bytes:
    """The root, as in RFC 6962."""
    if not leaves:
        return digest(b"")
    if len(leaves) == 1:
        return digest(b"\0" + leaves[0])
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return digest(b"\1" + tree(leaves[:half]) + tree(leaves[half:]))


# --- structures ---


def nanoseconds(text: str) -> int:
    whole, _, fraction = text.removesuffix("Z").partition(".")
    since = datetime.fromisoformat(whole) - datetime(1970, 1, 1)
    return (since.days * 86400 + since.seconds) * 10**9 + int(fraction.ljust(9, "0") or 0)


def timestamp(text: str) -> bytes:
    seconds, rest = divmod(nanoseconds(text), 10**9)
    return number(1, seconds) + number(2, rest)


def block_id(shown: Json) -> bytes:
    parts = number(1, shown["parts"]["total"]) + blob(2, bytes.fromhex(shown["parts"]["hash"]))
    return blob(1, bytes.fromhex(shown["hash"])) + message(2, parts)


def version(shown: Json) -> bytes:
    return number(1, shown["block"]) + number(2, shown.get("app", 0))


HASHES = (
    *("last_commit_hash", "data_hash", "validators_hash", "next_validators_hash", "consensus_hash"),
    *("app_hash", "last_results_hash", "evidence_hash", "proposer_address"),
)


def header_hash(shown: Json) -> bytes:
    first = [
        *(version(shown["version"]), blob(1, shown["chain_id"].encode()), number(1, shown["height"])),
        *(timestamp(shown["time"]), block_id(shown["last_block_id"])),
    ]
    return tree(first + [blob(1, bytes.fromhex(shown[name])) for name in HASHES])


def header(shown: Json) -> bytes:
    first = message(1, version(shown["version"])) + blob(2, shown["chain_id"].encode()) + number(3, shown["height"])
    middle = message(4, timestamp(shown["time"])) + message(5, block_id(shown["last_block_id"]))
    return first + middle + b"".join(blob(6 + n, bytes.fromhex(shown[name])) for n, name in enumerate(HASHES))


def commit_entry(shown: Json) -> bytes:
    first = number(1, shown["block_id_flag"]) + blob(2, bytes.fromhex(shown["validator_address"]))
    return first + message(3, timestamp(shown["timestamp"])) + blob(4, b64decode(shown["signature"] or ""))


def commit(shown: Json) -> bytes:
    first = number(1, shown["height"]) + number(2, shown["round"]) + message(3, block_id(shown["block_id"]))
    return first + b"".join(message(4, commit_entry(entry)) for entry in shown["signatures"])


def vote(shown: Json) -> bytes:
    return (
        number(1, shown["type"])
        + number(2, shown["height"])
        + number(3, shown["round"])
        + message(4, block_id(shown["block_id"]))
        + message(5, timestamp(shown["timestamp"]))
        + blob(6, bytes.fromhex(shown["validator_address"]))
        + number(7, shown["validator_index"])
        + blob(8, b64decode(shown["signature"]))
    )


def double_vote(shown: Json) -> bytes:
    votes = message(1, vote(shown["vote_a"])) + message(2, vote(shown["vote_b"]))
    powers = number(3, shown["TotalVotingPower"]) + number(4, shown["ValidatorPower"])
    return votes + powers + message(5, timestamp(shown["Timestamp"]))


def sign_bytes(chain: str, kind: int, height: int | str, round: int | str, of: Json | None, time: str) -> bytes:
    about = b"" if of is None else message(4, block_id(of))
    data = number(1, kind) + fixed(2, height) + fixed(3, round) + about + message(5, timestamp(time))
    data += blob(6, chain.encode())
    return varint(len(data)) + data


def result(shown: Json) -> bytes:
    made = number(1, shown["code"]) + blob(2, b64decode(shown["data"] or ""))
    return made + number(5, shown["gas_wanted"]) + number(6, shown["gas_used"])


# --- validators ---


class Voter:
    def __init__(self, key: bytes, power: int, priority: int = 0) -> None:
        self.key, self.power, self.priority = key, power, priority

    @property
    def address(self) -> str:
        return digest(self.key)[:20].hex().upper()

    @property
    def leaf(self) -> bytes:
        return message(1, blob(1, self.key)) + number(2, self.power)


class Voters:
    """A set with the priorities that say whose turn it is."""

    def __init__(self, voters: Sequence[Voter]) -> None:
        self.all = [Voter(voter.key, voter.power, voter.priority) for voter in voters]
        self.proposer = ""

    @property
    def power(self) -> int:
        return sum(voter.power for voter in self.all)

    def even_out(self) -> None:
        """No two are further apart than twice the power, and the average is 0."""
        priorities = [voter.priority for voter in self.all]
        apart, most = max(priorities) - min(priorities), 2 * self.power
        if apart > most:
            ratio = -(-apart // most)
            for voter in self.all:
                voter.priority = abs(voter.priority) // ratio * (-1 if voter.priority < 0 else 1)
        average = sum(voter.priority for voter in self.all) // len(self.all)
        for voter in self.all:
            voter.priority -= average

    def turn(self) -> None:
        for voter in self.all:
            voter.priority += voter.power
        first = min(self.all, key=lambda voter: (-voter.priority, voter.address))
        first.priority -= self.power
        self.proposer = first.address

    def next(self, updates: Sequence[tuple[bytes, int]] = ()) -> Voters:
        """The set of the height after this one's."""
        made = Voters(self.all)
        if updates:
            made.change(dict(updates))
        made.even_out()
        made.turn()
        return made

    def change(self, powers: dict[bytes, int]) -> None:
        known = {voter.key: voter for voter in self.all}
        for key, power in powers.items():
            if key in known and power:
                known[key].power = power
        new = {key: power for key, power in powers.items() if key not in known}
        total = self.power + sum(new.values())  # those who leave still count
        self.all += [Voter(key, power, -(total + total // 8)) for key, power in new.items()]
        self.all = [voter for voter in self.all if powers.get(voter.key, 1)]
        self.even_out()
        self.all.sort(key=lambda voter: (-voter.power, voter.address))

    def after_rounds(self, rounds: int) -> str:
        """Who proposes in a later round."""
        made = Voters(self.all)
        made.proposer = self.proposer
        if rounds:
            made.even_out()
        for _ in range(rounds):
            made.turn()
        return made.proposer


# --- a chain ---


class Shown(NamedTuple):
    """What the RPC shows of a height: `block`, `validators`, `block_results`, and the commit of the height."""

    block: Json
    validators: Json
    results: Json
    commit: Json


class Recomputed:
    """``counts``: what was compared, and how often."""

    def __init__(self, genesis: Json) -> None:
        self.chain = genesis["chain_id"]
        self.genesis_time = genesis["genesis_time"]
        block = genesis["consensus_params"]["block"]
        self.params_hash = digest(number(1, block["max_bytes"]) + number(2, block["max_gas"]))
        first = Voters([])
        first.change({b64decode(each["pub_key"]["value"]): int(each["power"]) for each in genesis["validators"]})
        self.voters, self.counts = first.next(), Counter[str]()
        self.after = self.voters.next()
        self.by_height: dict[int, tuple[str, Voters]] = {}
        self.before: Shown | None = None

    def follow(self, shown: Shown) -> None:
        """The next height."""
        height = int(shown.block["block"]["header"]["height"])
        for name, computed, found in self._pairs(shown):
            if computed != found:
                raise Differs(f"height {height}: {name} is {computed!r}, and shown is {found!r}")
            self.counts[name] += 1
        self._check_signatures(height, shown.commit, self.voters)
        self.by_height[height] = shown.block["block"]["header"]["time"], self.voters
        for piece in shown.block["block"]["evidence"]["evidence"]:
            self._check_double_vote(height, piece["value"])
        updates = [
            (b64decode(one["pub_key"]["Sum"]["value"]["ed25519"]), int(one.get("power", 0)))
            for one in shown.results["validator_updates"] or ()
        ]
        self.counts["validator updates"] += len(updates)
        self.voters, self.after = self.after, self.after.next(updates)
        self.before = shown

    def _pairs(self, shown: Shown) -> Iterator[tuple[str, Any, Any]]:
        """What is compared: its name, as it is computed, and as it is shown."""
        block, shown_id = shown.block["block"], shown.block["block_id"]
        head, txs = block["header"], [b64decode(tx) for tx in block["data"]["txs"] or ()]
        yield "block hash", header_hash(head).hex().upper(), shown_id["hash"]
        yield "data hash", tree([digest(tx) for tx in txs]).hex().upper(), head["data_hash"]
        yield "validators", self._listed(self.voters), self._listed_as(shown.validators)
        yield "validators hash", tree([each.leaf for each in self.voters.all]).hex().upper(), head["validators_hash"]
        leaves = [each.leaf for each in self.after.all]
        yield "next validators hash", tree(leaves).hex().upper(), head["next_validators_hash"]
        yield "parameters hash", self.params_hash.hex().upper(), head["consensus_hash"]
        pieces = block["evidence"]["evidence"]
        evidence = [double_vote(piece["value"]) for piece in pieces]
        yield "evidence hash", tree(evidence).hex().upper(), head["evidence_hash"]
        last = block["last_commit"]
        yield (
            "last commit hash",
            tree(list(map(commit_entry, last["signatures"]))).hex().upper(),
            head["last_commit_hash"],
        )
        listed = b"".join(message(1, message(1, piece)) for piece in evidence)
        data = message(1, header(head)) + message(2, b"".join(message(1, tx) for tx in txs)) + message(3, listed)
        data += message(4, commit(last))
        parts = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
        yield "parts", (len(parts), tree(parts).hex().upper()), tuple(shown_id["parts"].values())
        yield "commit's block", shown_id, shown.commit["block_id"]
        if shown.commit["round"] == 0:
            yield "proposer", self.voters.after_rounds(0), head["proposer_address"]
        yield from self._follows(head, last)

    def _follows(self, head: Json, last: Json) -> Iterator[tuple[str, Any, Any]]:
        """On the block before."""
        if self.before is None:
            yield "time of the genesis", self.genesis_time, head["time"]
            return
        results = [result(each) for each in self.before.results["txs_results"] or ()]
        yield "results hash", tree(results).hex().upper(), head["last_results_hash"]
        yield "app hash", b64decode(self.before.results["app_hash"] or "").hex().upper(), head["app_hash"]
        yield "block before", self.before.block["block_id"], head["last_block_id"]
        yield "commit before", self.before.block["block_id"], last["block_id"]
        powers = {each["address"]: int(each["voting_power"]) for each in self.before.validators["validators"]}
        said = sorted(
            (nanoseconds(entry["timestamp"]), powers[entry["validator_address"]])
            for entry in last["signatures"]
            if entry["block_id_flag"] != ABSENT
        )
        left = sum(power for _, power in said) // 2
        for time_ns, power in said:
            if left <= power:
                yield "median time", time_ns, nanoseconds(head["time"])
                break
            left -= power

    def _listed(self, voters: Voters) -> list[tuple[str, int, int]]:
        return [(voter.address, voter.power, voter.priority) for voter in voters.all]

    def _listed_as(self, shown: Json) -> list[tuple[str, int, int]]:
        return [
            (each["address"], int(each["voting_power"]), int(each["proposer_priority"])) for each in shown["validators"]
        ]

    def _check_signatures(self, height: int, shown: Json, voters: Voters) -> None:
        """Of a commit: each is right, and those for the block are of more than two thirds."""
        power = 0
        for voter, entry in zip(voters.all, shown["signatures"], strict=True):
            if entry["block_id_flag"] == ABSENT:
                self.counts["absent"] += 1
                continue
            of = shown["block_id"] if entry["block_id_flag"] == FOR_BLOCK else None
            power += voter.power if of else 0
            data = sign_bytes(self.chain, PRECOMMIT, height, shown["round"], of, entry["timestamp"])
            self._check_signature(f"height {height}: the signature of {voter.address}", voter, data, entry["signature"])
            self.counts["signatures" if of else "signatures for nil"] += 1
        if 3 * power <= 2 * voters.power:
            raise Differs(f"height {height}: {power} of {voters.power} signed")

    def _check_double_vote(self, height: int, piece: Json) -> None:
        """Both votes are of one validator of their height, for one step; powers and time are those of that height."""
        votes = piece["vote_a"], piece["vote_b"]
        time, voters = self.by_height[int(votes[0]["height"])]
        (voter,) = [each for each in voters.all if each.address == votes[0]["validator_address"]]
        found = int(piece["ValidatorPower"]), int(piece["TotalVotingPower"]), piece["Timestamp"]
        alike = {tuple(str(each[name]) for name in ("type", "height", "round", "validator_address")) for each in votes}
        if (
            found != (voter.power, voters.power, time)
            or len(alike) != 1
            or votes[0]["block_id"] == votes[1]["block_id"]
        ):
            raise Differs(f"height {height}: the evidence blames {voter.address} for nothing")
        for each in votes:
            of = each["block_id"] if each["block_id"]["hash"] else None
            data = sign_bytes(self.chain, each["type"], each["height"], each["round"], of, each["timestamp"])
            self._check_signature(f"height {height}: a double vote of {voter.address}", voter, data, each["signature"])
        self.counts["double votes"] += 1

    def _check_signature(self, what: str, voter: Voter, data: bytes, signature: str) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(voter.key).verify(b64decode(signature), data)
        except InvalidSignature:
            raise Differs(f"{what} is wrong") from None
