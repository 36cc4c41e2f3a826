"""What every chain says upwards, whichever protocol keeps it. A log decides for ever; a chain may change its mind.

In one Turn: a Rewound, if the head moves to another branch, then one Extended for each block, then perhaps a Finalised.
Nothing at or below what is Finalised is ever rewound. A block is named by an id, which is a hash.
"""

from typing import Any, TypeAlias

import msgspec


class Extended(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, repr_omit_defaults=True):
    """The head is now this block, whose parent was the head. ``proof`` is its seal, if that is not in the block."""

    id: bytes
    parent: bytes
    height: int
    block: Any
    proof: Any = None


class Rewound(msgspec.Struct, frozen=True, gc=False):
    """The head is ``to`` again; the blocks above it, newest first, are no longer on the chain."""

    to: bytes
    ids: tuple[bytes, ...]


class Finalised(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, repr_omit_defaults=True):
    """This block of the chain, and all below it, will never be rewound. ``proof`` shows that to others."""

    id: bytes
    height: int
    proof: Any = None


Output: TypeAlias = Extended | Rewound | Finalised
