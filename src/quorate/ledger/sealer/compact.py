"""Compact targets: a 256-bit number in 32 bits, as Bitcoin's headers have it in ``bits``; and the work it stands for.

The top byte is the size of the number in bytes, the low 23 bits are its first three bytes, and bit 23 is a sign. A
target that is negative, zero, or too large for 256 bits is no target; nor is one above a chain's limit.

Sources: Bitcoin developer reference, "Target nBits"; Bitcoin Core, ``arith_uint256::SetCompact`` for the corner cases.
"""

from __future__ import annotations

from typing import Final

SIGN: Final = 0x0080_0000
MANTISSA: Final = 0x007F_FFFF
TARGET_BITS: Final = 256


def target_of(bits: int, limit: int) -> int | None:
    """The target that these 32 bits say; None if they say none that a header of the chain may have."""
    target = unpacked(bits)
    if bits & SIGN and bits & MANTISSA:
        return None  # negative
    if target == 0 or target >> TARGET_BITS or target > limit:
        return None
    return target


def unpacked(bits: int) -> int:
    """The number without its sign; it may be any number of bits long."""
    size, mantissa = bits >> 24, bits & MANTISSA
    return mantissa >> 8 * (3 - size) if size <= 3 else mantissa << 8 * (size - 3)


def packed(target: int) -> int:
    """The 32 bits for a target. What does not fit into three bytes is lost: the target that they say is a lower one."""
    size = (target.bit_length() + 7) // 8
    mantissa = target << 8 * (3 - size) if size <= 3 else target >> 8 * (size - 3)
    if mantissa & SIGN:  # it would be a sign
        mantissa >>= 8
        size += 1
    return size << 24 | mantissa


def work_of(target: int) -> int:
    """How many hashes it takes on average to find one that is not above the target."""
    return (1 << TARGET_BITS) // (target + 1)
