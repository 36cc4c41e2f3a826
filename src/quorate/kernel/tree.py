"""Tree: the cores of one Host, by path, and how inputs run through them. What they come to, the Host says.

How it works. One table maps a path to its core, so dispatch is one look-up whatever the depth. Each input runs its
handler; then the upcalls that it queued run, one after the other, so that no core is ever entered twice at once. When
all inputs are done, each core that was touched may ``settle``, and so may those below it, which it may have called.

A subtree by inputs (``replay.py``) is run so that it can be run again alone: whatever goes into it is done to its end
inside before anything outside goes on, and it settles on its own.

A peer is not trusted: a message of an unknown type, or for a core that takes no such message, is blamed and dropped, in
an open roster reported to the root; one from a node outside the group is blamed; one too many for the parking is
dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.kernel.core import Core
from quorate.kernel.env import Effects
from quorate.kernel.ids import ROOT, Path
from quorate.kernel.inputs import (
    Asked,
    Done,
    Fired,
    Handed,
    HandOver,
    HungUp,
    Input,
    Met,
    Misbehaved,
    Parted,
    Received,
    Stalled,
    Submitted,
    Unmet,
)
from quorate.kernel.parking import Parking, Retired
from quorate.kernel.replay import Journaled, Known, Started
from quorate.kernel.roster import Roster
from quorate.kernel.turn import Blame

TO_ALL = frozenset((Stalled, Met, Parted, Unmet))
"""The inputs that go to every core."""
SETTLES = range(10_000)
"""Rounds of settling in one step; far more than any tree of cores needs."""


class Tree:
    """Cores by path, and what waits for those to come."""

    root: Core

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.cores: dict[Path, Core] = {}
        self._effects = Effects()
        self._parking = Parking()
        self._retired = Retired()
        self._journaled = Journaled()
        self._touched: dict[Path, None] = {}  # in order of first touch
        self._settlers: dict[Path, list[Path]] = {}
        """By core, those below it that settle and that it may have called; none inside a subtree by inputs."""
        self._unstarted: set[Path] = set()
        """The subtrees by inputs that this life has not started yet."""
        self._stall: str | None = None
        """Why storage takes no records, as far as the cores were told."""

    # --- inputs ---

    def _take_other(self, item: Input) -> None:
        """An input that is no message."""
        kind = type(item)
        if kind in TO_ALL:
            self._tell_everyone(item)
        elif kind is Misbehaved:
            self._journaled.saw(item)
            self._tell(self.root, item)
        else:
            self._take_in(item)

    def _receive(self, item: Received) -> None:
        roster = self.roster
        if item.sender not in roster.members and not (roster.is_open and item.sender == roster.node):
            if not (roster.is_open or roster.has_left(item.sender)):
                self._effects.blames.append(Blame(item.sender, "is not a member of the group"))
            return
        journaled = self._journaled
        if journaled.subtrees or journaled.whole:
            self._take_in(item)
            return
        path, message = item.path, item.message
        core = self.cores.get(path)
        handler = None if core is None else core.handlers.get(type(message))
        if handler is None:
            self._cannot_take(item, core)
            return
        self._touched[path] = None
        handler(core, item.sender, message)

    def _take_in(self, item: Any) -> None:
        """An input for one core; it is journaled where that is recovered by inputs."""
        journaled = self._journaled
        if journaled.subtrees and (scope := journaled.scope_of(item.path)) is not None:
            journaled.saw_within(scope, item)
            self._within(scope, self._dispatch, item)
            return
        if journaled.whole:
            journaled.saw(item)
        self._dispatch(item)

    def _take_message(self, item: Received) -> None:
        """One that was let in before."""
        core = self.cores.get(item.path)
        handler = None if core is None else core.handlers.get(type(item.message))
        if handler is None:
            self._cannot_take(item, core)
        else:
            self._touched[item.path] = None
            handler(core, item.sender, item.message)

    def _cannot_take(self, item: Received, core: Core | None) -> None:
        if core is None:
            self._park(item)
        else:
            self._misbehaved(item.sender, f"sent a {type(item.message).__name__} to {item.path}")

    def _misbehaved(self, node: int, why: str) -> None:
        if not self.roster.is_open:
            self._effects.blames.append(Blame(node, why))
        elif self._effects.replayed in (None, ROOT):  # else the root was told, and is not replayed
            self._tell(self.root, Misbehaved(node, why))

    def _dispatch(self, item: Any) -> None:
        """A local one for a core that is gone (a timer of a retired child, say) is stale and dropped."""
        if type(item) is Received:
            self._take_message(item)
            return
        core = self.cores.get(item.path)
        if core is None:
            return
        self._touched[core.env.path] = None
        if isinstance(item, Submitted):
            core.submit(item.values)
        elif isinstance(item, Asked):
            core.read(item.tokens)
        elif isinstance(item, Fired):
            core.on_timer(item.key)
        elif isinstance(item, Done):
            core.on_done(item.key, item.result)
        elif isinstance(item, Handed):
            core.on_handed(item.value)
        elif isinstance(item, HandOver):
            core.hand_over(item.to)
        elif isinstance(item, HungUp):
            core.on_hung_up(item.node)
        else:
            raise TypeError(f"{item!r} is not an input")

    def _tell_everyone(self, item: Any) -> None:
        """An input for every core."""
        self._journaled.saw(item)
        self._tell_below(ROOT, item)

    def _tell_below(self, top: Path, item: Any) -> None:
        """An input for every core at or below a path; those of a subtree hear it together.

        The roster changes first, so that each core sees it as it is.
        """
        self._take_news(top, item)
        heard = set()
        for path, core in list(self.cores.items()):
            if path[: len(top)] != top or path not in self.cores:
                continue
            scope = self._journaled.scope_of(path)
            if scope is None or scope == top:
                self._tell(core, item)
            elif scope not in heard:
                heard.add(scope)
                self._journaled.saw_within(scope, item)
                self._within(scope, self._tell_below, scope, item)

    def _take_news(self, top: Path, item: Any) -> None:
        """What the Host itself, or a subtree, notes of an input for every core."""
        subtree = self._journaled.subtrees.get(top)
        roster = self.roster if subtree is None else subtree.roster
        kind = type(item)
        if kind is Met:
            roster.add(item.node)
        elif kind is Parted:
            roster.remove(item.node)
            self._parking.drop_from(item.node, top)
        elif kind is Stalled:
            if subtree is None:
                self._stall = item.why
            else:
                subtree.stall = item.why

    def _tell(self, core: Core, item: Any) -> None:
        self._touched[core.env.path] = None
        kind = type(item)
        if kind is Stalled:
            core.on_stalled(item.why)
        elif kind is Met:
            core.on_met(item.node, item.key, item.address, item.outbound)
        elif kind is Parted:
            core.on_parted(item.node, item.why)
        elif kind is Unmet:
            core.on_unmet(item.address, item.why)
        else:
            core.on_misbehaved(item.node, item.why)

    def _hand(self, item: Handed) -> None:
        scope = item.path
        if scope not in self._journaled.subtrees:
            self._dispatch(item)
            return
        if scope in self._unstarted:
            self._start_subtree(scope)
        self._journaled.saw_within(scope, item)
        self._within(scope, self._dispatch, item)

    def _upcalls(self) -> None:
        upcalls = self._effects.upcalls
        for path, call, value in upcalls:  # the list may grow while it is walked
            if path in self.cores:  # else it was retired after the child delivered
                self._touched[path] = None
                call(value)
        upcalls.clear()

    # --- subtrees by inputs ---

    def _within(self, scope: Path, act: Callable[..., Any], *args: Any) -> None:
        """Do something inside a subtree, and all that this brings about inside it. What goes outside waits in line.

        When inputs are replayed, nothing is outside. So what happens inside must not depend on it.
        """
        effects = self._effects
        outside, effects.upcalls = effects.upcalls, []
        act(*args)
        for entry in effects.upcalls:  # the list may grow while it is walked
            path, call, value = entry
            if path[: len(scope)] != scope or (path == scope and type(value) is Handed):
                outside.append(entry)
            elif path in self.cores:
                self._touched[path] = None
                call(value)
        effects.upcalls = outside

    def _start_subtree(self, scope: Path) -> None:
        self._unstarted.discard(scope)
        if not self.roster.is_open:
            self._follow_roster(scope)
        self._journaled.saw_within(scope, Started())
        self._start_within(scope)

    def _start_within(self, scope: Path) -> None:
        subtree = self._journaled.subtrees[scope]
        if subtree.was_started:
            self._within(scope, self._tell_what_ended, scope, subtree.roster, subtree.stall)
        subtree.was_started = True  # from now on what is spawned in it is started there and then
        for path, core in list(self.cores.items()):
            if path[: len(scope)] == scope and path in self.cores:
                self._touched[path] = None
                self._within(scope, core.start)

    def _tell_what_ended(self, top: Path, roster: Roster, stall: str | None) -> None:
        """The links, and a stall of the journal, were those of another life."""
        if stall is not None:
            self._tell_below(top, Stalled(None))
        if roster.is_open:
            for node in roster.peers:
                self._tell_below(top, Parted(node, "this node was started again"))

    def _follow_roster(self, scope: Path) -> None:
        """A subtree knows whom the Host knows."""
        roster, peers = self._journaled.subtrees[scope].roster, self.roster.peers
        if roster.peers != peers:
            roster.replace(peers)
            self._journaled.saw_within(scope, Known(peers))

    # --- settling ---

    def _settle(self) -> None:
        """A core that settles may deliver to its parent, which is then touched as well."""
        for _ in SETTLES:
            touched = self._touched
            if not touched:
                return
            if self._journaled.subtrees and self._settle_subtrees():
                self._upcalls()
                continue  # what they delivered may have touched their parents, or each other
            self._touched = {}
            if self._settlers:
                self._touch_below(touched)
            for path in touched:
                core = self.cores.get(path)
                if core is not None:
                    core.settle()
            if self._effects.upcalls:
                self._upcalls()
        raise AssertionError(f"{sorted(self._touched)} settle without end: settling must not always deliver")

    def _settle_subtrees(self) -> bool:
        """Each on its own, until nothing is touched inside; whether there was one to settle."""
        scopes = dict.fromkeys(self._journaled.scope_of(path) for path in self._touched)
        scopes.pop(None, None)
        for scope in scopes:
            if scope is not None and scope in self._journaled.subtrees:
                self._journaled.settled(scope)
                self._settle_within(scope)
        return bool(scopes)

    def _settle_within(self, scope: Path) -> None:
        for _ in SETTLES:
            touched = {path: None for path in self._touched if path[: len(scope)] == scope}
            if not touched:
                return
            for path in touched:
                del self._touched[path]
            self._within(scope, self._settle_cores, touched)
        raise AssertionError(f"{scope} settles without end: settling must not always deliver")

    def _settle_cores(self, touched: dict[Path, None]) -> None:
        if self._settlers:
            self._touch_below(touched)
        for path in touched:
            core = self.cores.get(path)
            if core is not None:
                core.settle()

    def _touch_below(self, touched: dict[Path, None]) -> None:
        """A core that was touched may have called its children, and they theirs."""
        for path in list(touched):
            touched.update(dict.fromkeys(self._settlers.get(path, ())))

    # --- parking ---

    def _park(self, item: Received) -> None:
        if item.path in self._retired:
            return
        for depth in range(len(item.path) - 1, -1, -1):
            owner = self.cores.get(item.path[:depth])
            if owner is not None:
                if owner.awaits(item.path):
                    self._parking.park(item.path, item.sender, item.message, item.path[:depth], owner.parking)
                return
