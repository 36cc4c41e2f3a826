"""Mutant: a planted bug, by which the simulator and its checkers prove that they can see one."""

from collections.abc import Callable
from typing import Any

import msgspec

from quorate.kernel import App, Core, Shell


class Mutant(msgspec.Struct, frozen=True):
    """One bug. What is None is as in the healthy system."""

    name: str
    summary: str
    core: type[Core] | None = None
    app: Callable[[App], App] | None = None
    """Makes the sick App of a healthy one."""
    shell: type[Shell] | None = None
    storage: Callable[[Any], Any] | None = None
    """Makes the sick Storage (``storage.py``) of a healthy one."""
    client: type[Any] | None = None
    """The core of the clients, whatever that is to the Subject."""
    lies: bool = False
    """Whether it takes nodes that lie for it to show: campaigns then have as many as the protocol bears."""
    quiet: bool = False
    """Whether it shows where nothing fails: campaigns then bring no faults."""
    joins: bool = False
    """Whether it shows only where nodes come and go: campaigns then have them do so."""
    repairs: bool = False
    """Whether it shows only where nodes lose their folders and are repaired: campaigns then have that, with three nodes
    at most, of which each matters."""
