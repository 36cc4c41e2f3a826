"""Chance in simulated runs: a stream for each path of a Host, all of one seed."""

from random import Random

from quorate.kernel import Chance, Path


def streams(life: str | int) -> Chance:
    """The streams of one life of a node, by its seed. The root's is that of the seed alone."""

    def stream(path: Path, seed: bytes = b"") -> Random:
        if seed:
            return Random(f"{seed.hex()}{path}")
        return Random(f"{life}{path}" if path else life)

    return stream
