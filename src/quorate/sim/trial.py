"""Trial: one value that says all of what a simulated run puts to the test, and under what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from quorate.kernel import App, Core, Env, Rng, Shell
from quorate.parts.crypto.keys import Scheme
from quorate.sim.adversary.liar import Liar, Resign, unsigned
from quorate.sim.checkers.base import Checker
from quorate.sim.options import MemberChange, Options
from quorate.sim.storage import Storage
from quorate.sim.swarm import Mix
from quorate.sim.workload import Subject


class Trial(msgspec.Struct, frozen=True, eq=False):
    """``make`` makes the root core of a node, ``subject`` all that stands above and comes from outside.

    A subject and a scheme serve one run, and so does a Trial.
    """

    make: Callable[[Env], Core]
    subject: Subject
    options: Options
    invariants: tuple[Callable[[], Checker], ...] = ()
    """Makers of the protocol's own checkers; the subject brings the others."""
    mix: Mix | None = None
    """Replaces what the seed would draw."""
    sick_app: Callable[[App], App] | None = None
    """A planted bug: the sick App of a healthy one."""
    shell: type[Shell] = Shell
    storage: Storage = Storage()
    """What disks are made of."""
    kinds: tuple[str, ...] = ()
    """Which further kinds of faults the seed has (``ordeals.chosen``)."""
    borne: Callable[[Sequence[int]], int] = lambda members: 0
    """How many of these members may be gone for good."""
    change: MemberChange | None = None
    """There where members can change."""
    scheme: Scheme | None = None
    """The keys of a protocol whose nodes have some."""
    liars: tuple[type[Liar], ...] = ()
    """Ways to lie beside those that fit every protocol. Who lies is for the seed to draw."""
    resign: Resign = unsigned
    """How a node signs a message of its own that it changed."""

    def checkers(self) -> list[Checker]:
        """Fresh checkers: the subject's, and the protocol's among them."""
        return self.subject.checkers([make() for make in self.invariants], self.scheme)

    def app(self, node: int, rng: Rng) -> App:
        """A fresh App for a node that starts, sick if a mutant says so."""
        app = self.subject.app(node, rng)
        return app if self.sick_app is None else self.sick_app(app)
