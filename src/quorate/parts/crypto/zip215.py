"""Ed25519 by the rules of ZIP-215, on which all nodes of a chain agree for any bytes.

RFC 8032 leaves open what to do with points of small order, and with points that have a second encoding. Libraries
differ, so one node might accept a block that another refuses. ZIP-215 has an answer for every input: any encoding of a
point on the curve counts, s is below the order of the group, and the equation is the one with the cofactor. CometBFT
checks by these rules, so a node that must come to its answers does too. For what only our own nodes check,
``runtime/keys.py`` is stricter, and refuses keys for which anybody could sign.

Source: https://zips.z.cash/zip-0215; the library is ed25519-zebra, which that document was written for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import ed25519_zebra

VerifySignature: TypeAlias = Callable[[bytes, bytes, bytes], bool]
"""By public key, message and signature. In simulations another scheme stands in."""


def verify_zip215(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is the key's, of exactly this message. Never raises, whatever the bytes or lengths."""
    return bool(ed25519_zebra.ed_verify(signature, message, public_key))
