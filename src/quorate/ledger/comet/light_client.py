"""A light client's rules: which header to believe, given one that is trusted. Pure; the caller has the time and links.

How it works. The next header is believed if the trusted one names its validators and they signed. A later one is
believed if more than a third of the power that is trusted signed it, one correct validator at least, and if its own
validators did. If too little of the trusted power signed, ask for a header in between (bisection), and so on.

A trusted header counts for the trusting period, in which validators can still lose their stake for lies. To notice a
fork, whoever uses this asks others (witnesses) for the same height, and compares hashes.

Source: CometBFT 0.38, ``spec/light-client/verification``, ``light/verifier.go``, ``light/client.go``.
"""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from typing import Final

import msgspec

from quorate.ledger.comet.headers import Header
from quorate.ledger.comet.light_blocks import LightBlock
from quorate.ledger.comet.times import NS_PER_S, Timestamp
from quorate.ledger.comet.verification import NotEnoughTrust, verify_commit_light, verify_commit_trusting

TRUST_LEVEL_MIN: Final = Fraction(1, 3)
CLOCK_DRIFT_NS: Final = 10 * NS_PER_S
"""CometBFT's default: how far a header's time may be ahead of ours."""


class TrustOptions(msgspec.Struct, frozen=True):
    """What a light client takes for granted. The trusting period must be well below the time for which stake is bound.

    Raises ValueError for a period that is not positive and for a trust level that is not from 1/3 to 1.
    """

    period_ns: int
    clock_drift_ns: int = CLOCK_DRIFT_NS
    trust_level: Fraction = TRUST_LEVEL_MIN

    def __post_init__(self) -> None:
        if self.period_ns <= 0 or self.clock_drift_ns < 0:
            raise ValueError("a light client trusts for some time, and bears no negative drift")
        if not TRUST_LEVEL_MIN <= self.trust_level <= 1:
            raise ValueError(f"the trust level is {self.trust_level}, not from 1/3 to 1")


def verify_light_block(trusted: LightBlock, block: LightBlock, options: TrustOptions, now: Timestamp) -> None:
    """Raises ValueError unless who trusts the one may trust the other, which is later. NotEnoughTrust: look between."""
    if block.header.height == trusted.header.height + 1:
        verify_adjacent(trusted, block, options, now)
    else:
        verify_skipping(trusted, block, options, now)


def verify_adjacent(trusted: LightBlock, block: LightBlock, options: TrustOptions, now: Timestamp) -> None:
    """The same for the next block."""
    if block.header.height != trusted.header.height + 1:
        raise ValueError(f"height {block.header.height} does not follow on {trusted.header.height}")
    _check_new(trusted, block, options, now)
    if block.header.validators_hash != trusted.header.next_validators_hash:
        raise ValueError("its validators are not those that the trusted header names for it")
    _check_decided(block)


def verify_skipping(trusted: LightBlock, block: LightBlock, options: TrustOptions, now: Timestamp) -> None:
    """The same for a later block."""
    if block.header.height == trusted.header.height + 1:
        raise ValueError(f"height {block.header.height} follows on the trusted one: there is nothing to skip")
    _check_new(trusted, block, options, now)
    verify_commit_trusting(block.header.chain_id, trusted.validator_set, block.commit, options.trust_level)
    _check_decided(block)  # last, as whoever made the block chose how many validators it has


def verify_backwards(trusted: Header, header: Header) -> None:
    """Raises ValueError unless the header is the one before the trusted one."""
    header.check()
    if header.chain_id != trusted.chain_id:
        raise ValueError(f"a header of chain {header.chain_id!r}, not {trusted.chain_id!r}")
    if header.time >= trusted.time:
        raise ValueError(f"its time, {header.time.text()}, is not before {trusted.time.text()}")
    if header.hash() != trusted.last_block_id.hash:
        raise ValueError("it is not the block before the trusted one")


def bisection(
    trusted: LightBlock, target: LightBlock, options: TrustOptions, now: Timestamp
) -> Generator[int, LightBlock, list[LightBlock]]:
    """Verify the target by as few blocks in between as it takes.

    Yields a height, and takes its light block by ``send``. Returns the blocks that are verified, in order, the target
    last. Raises ValueError as ``verify_light_block`` does. It asks at most once for each height in between.
    """
    verified = []
    waiting = [target]
    while waiting:
        block = waiting[-1]
        try:
            verify_light_block(trusted, block, options, now)
        except NotEnoughTrust:
            height = (trusted.header.height + block.header.height) // 2
            between = yield height
            if between.header.height != height:
                raise ValueError(f"asked for height {height}, got {between.header.height}") from None
            waiting.append(between)
            continue
        trusted = waiting.pop()
        verified.append(trusted)
    return verified


def has_expired(trusted: Header, options: TrustOptions, now: Timestamp) -> bool:
    """Whether the header is too old to trust."""
    return trusted.time.plus_ns(options.period_ns) <= now


def _check_new(trusted: LightBlock, block: LightBlock, options: TrustOptions, now: Timestamp) -> None:
    """What every header that is to be believed must be, before its signatures."""
    if has_expired(trusted.header, options, now):
        raise ValueError(f"the trusted header, of {trusted.header.time.text()}, is too old to trust")
    header = block.header
    check_whole(block)
    if header.chain_id != trusted.header.chain_id:
        raise ValueError(f"a header of chain {header.chain_id!r}, not {trusted.header.chain_id!r}")
    if header.height <= trusted.header.height:
        raise ValueError(f"height {header.height} is not above {trusted.header.height}, which is trusted")
    if header.time <= trusted.header.time:
        raise ValueError(f"time goes back, from {trusted.header.time.text()} to {header.time.text()}")
    if header.time >= now.plus_ns(options.clock_drift_ns):
        raise ValueError(f"its time, {header.time.text()}, is in the future: it is {now.text()}")


def check_whole(block: LightBlock) -> None:
    """All checks of form, for a block that was not decoded from bytes, which makes them. Raises ValueError."""
    block.header.check()
    block.commit.check()
    for signature in block.commit.signatures:
        signature.check()
    for validator in block.validator_set.validators:
        validator.check()
    block.validator_set.check()
    block.signed_header.check()
    block.check()


def _check_decided(block: LightBlock) -> None:
    header, commit = block.header, block.commit
    verify_commit_light(header.chain_id, block.validator_set, commit.block_id, header.height, commit)
