"""The name of twins among the liars; ``twins.py`` has the node itself."""

from quorate.sim.adversary.liar import Liar


class Doubled(Liar):
    """A node that is doubled tells the truth, twice. ``World`` makes it a ``Twin``."""

    name = "twins"
    summary = "is two honest copies of itself with one key, on two sides"
