"""The chronicle: what a store knows of its own past beside the records, as part of the replicated state.

- *Marks*: at which time there was which revision. The log says what time it is (``StateMachine.passes``), so all
  replicas have the same marks. Many of them are thinned out: half of the older ones go, so that old times are known
  less exactly, and the size is bounded.
- The *window*: how much history is kept, by a command. It is in the state, and no option of a node: nodes that had
  different options would have different states.
- *Rollbacks*: who brought values back, when, and how many.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quorate.machines.kv.commands import RolledBack, TimeMark

MARKS_MAX: Final = 8192
"""A day and a half of changes in each second would be 130,000: then the older ones are some twenty seconds apart."""
ROLLBACKS_MAX: Final = 256
SLACK: Final = 10
"""The history may be longer than its window by one in so many revisions, so that it is not cut with each command."""
_NS: Final = 1_000_000_000

_Revision = Annotated[int, Meta(ge=0, lt=2**62)]


class Annals(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A chronicle as a snapshot has it."""

    marks: Annotated[list[TimeMark], Meta(max_length=MARKS_MAX)] = []
    rollbacks: Annotated[list[RolledBack], Meta(max_length=ROLLBACKS_MAX)] = []
    revisions_max: _Revision = 0
    age_s_max: _Revision = 0


NO_ANNALS: Final = Annals()


class Chronicle:
    """Of one store."""

    def __init__(self) -> None:
        self.marks: list[TimeMark] = []
        self.rollbacks: list[RolledBack] = []
        self.revisions_max = 0
        """How many revisions are kept at least before the newest; 0: all."""
        self.age_s_max = 0
        """For how long a revision is kept at least after it was replaced; 0: for ever."""

    @property
    def annals(self) -> Annals:
        """All of it; a store of which nothing is told here has ``NO_ANNALS``."""
        return Annals(list(self.marks), list(self.rollbacks), self.revisions_max, self.age_s_max)

    @classmethod
    def of(cls, annals: Annals, revision: int) -> Chronicle:
        """As a snapshot had it. Raises ValueError for marks that cannot be."""
        made = cls()
        made.marks, made.rollbacks = list(annals.marks), list(annals.rollbacks)
        made.revisions_max, made.age_s_max = annals.revisions_max, annals.age_s_max
        past = TimeMark(0, 0)
        for mark in made.marks:
            if not past.revision < mark.revision <= revision or mark.time_ns < past.time_ns:
                raise ValueError("the store's times are out of order")
            past = mark
        if any(entry.revision > revision for entry in made.rollbacks):
            raise ValueError("the store tells of a rollback to come")
        return made

    def mark(self, revision: int, time_ns: int) -> None:
        """It is so late now. Time never runs backwards, also under another leader."""
        if self.marks:
            last = self.marks[-1]
            time_ns = max(time_ns, last.time_ns)
            if last.revision == revision:
                return  # the first time at which it was there is the one that counts
        self.marks.append(TimeMark(revision, time_ns))
        if len(self.marks) > MARKS_MAX:
            half = len(self.marks) // 2
            self.marks = self.marks[:half:2] + self.marks[half:]

    def at(self, time_ns: int) -> TimeMark | None:
        """The newest revision that is known to have been there at this time; None: none is."""
        place = bisect_right(self.marks, time_ns, key=lambda mark: mark.time_ns)
        return self.marks[place - 1] if place else None

    def rolled_back(self, entry: RolledBack) -> None:
        """The newest."""
        self.rollbacks.append(entry)
        del self.rollbacks[:-ROLLBACKS_MAX]

    def due(self, revision: int, compact_revision: int) -> int:
        """Up to which revision the history may go, by count; not above ``compact_revision``: it stays."""
        if not self.revisions_max:
            return 0
        allowed = self.revisions_max + max(1, self.revisions_max // SLACK)
        return revision - self.revisions_max if revision - max(compact_revision, 1) >= allowed else 0

    def aged(self, time_ns: int) -> int:
        """Likewise by age, as it is so late now: the revision that was there when the window began."""
        if not self.age_s_max:
            return 0
        mark = self.at(time_ns - self.age_s_max * _NS)
        return 0 if mark is None else mark.revision

    def forget(self, compact_revision: int) -> None:
        """Marks of revisions that cannot be read any more; the last one says what there was when the rest begins."""
        place = bisect_right(self.marks, compact_revision, key=lambda mark: mark.revision)
        del self.marks[: max(0, place - 1)]

    def cut(self, revision: int) -> Chronicle:
        """As it was at a revision, but for the window."""
        made = Chronicle()
        made.marks = [mark for mark in self.marks if mark.revision <= revision]
        made.rollbacks = [entry for entry in self.rollbacks if entry.revision <= revision]
        made.revisions_max, made.age_s_max = self.revisions_max, self.age_s_max
        return made
