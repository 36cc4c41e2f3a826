"""A barrier: nobody goes on before all have arrived."""

from __future__ import annotations

from typing import Final

from quorate.machines.objects.definition import Replicated, command, read
from quorate.objects.arguments import check_int, check_name

PARTIES_MAX: Final = 10_000


class Barrier(Replicated):
    """Opens when as many parties have arrived as the first of them said, and then counts the next generation.

    Nothing here waits: call ``arrive``, and then ``is_open`` with the generation that it returned until it is True.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.parties = 0
        self.arrived: set[str] = set()

    @command
    def arrive(self, party: str, parties: int) -> int:
        """Join the generation that gathers, and return it. Twice is once.

        Raises ValueError if those who arrived before expect another number of parties.
        """
        check_name("party", party)
        check_int("parties", parties, 1, PARTIES_MAX)
        if self.arrived and parties != self.parties:
            raise ValueError(f"{len(self.arrived)} parties wait here for {self.parties} in all, not for {parties}")
        self.parties = parties
        generation = self.generation
        self.arrived.add(party)
        if len(self.arrived) == parties:
            self.arrived.clear()
            self.generation += 1
        return generation

    @command
    def leave(self, party: str) -> bool:
        """Take back an arrival; False if the party is not among those who wait, as when the barrier has opened."""
        if party not in self.arrived:
            return False
        self.arrived.remove(party)
        return True

    @read
    def is_open(self, generation: int) -> bool:
        """Whether all of that generation have arrived."""
        return generation < self.generation

    @read
    def waiting(self) -> list[str]:
        """Who has arrived and waits, in order."""
        return list(self.arrived)
