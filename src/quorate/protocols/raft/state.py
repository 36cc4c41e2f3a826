"""State: what every server keeps (figure 3.1): term, vote and log, which are durable, and how far it has committed.

Each change of what is durable is recorded here, in the same call. The records are ``HardState`` (term and vote),
``Entries`` (a suffix of the log), ``Snapshotted`` (what replaced its beginning) and ``Returned``: a server that lost
all of these once votes and acknowledges when it has returned (``parts/leaderlog/returns.py``). Who votes follows from
the log and the snapshot, and so changes with them, here (``configurations.py``).

``Witness`` makes a witness of the server (``witnesses.py``): then commands enter the log without their data, and what
``Snapshotted`` names is a cut of the log alone, of which there is no snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeAlias

from quorate.kernel import Env
from quorate.parts.leaderlog.returns import Return, Returned, Returns
from quorate.parts.log.entries import Entry, Log
from quorate.parts.log.replicated import Restored, Stateless
from quorate.protocols.raft.configurations import Configurations
from quorate.protocols.raft.messages import (
    Configured,
    Entries,
    HardState,
    RaftConfig,
    Snapshotted,
    SnapshottedAfter,
    SnapshottedAmong,
    Witness,
    configuration_of,
    returns_of,
)
from quorate.protocols.raft.witnesses import withheld

Durable: TypeAlias = HardState | Entries | Snapshotted | Returned | Witness


class ServerState:
    """One server's. Public attributes may be read by anybody; ``log`` and what is durable change by methods alone."""

    __slots__ = (
        "_config",
        "_env",
        "commit_index",
        "configurations",
        "delivered_index",
        "has_forgotten",
        "is_witness",
        "log",
        "returns",
        "snapshot_index",
        "snapshot_term",
        "term",
        "vote",
    )

    configurations_class: ClassVar[type[Configurations]] = Configurations

    def __init__(self, env: Env, config: RaftConfig) -> None:
        """Raises ValueError where members are no founders."""
        self._env = env
        self._config = config
        # Durable.
        self.term = 0
        self.vote: int | None = None
        self.log = Log()
        self.snapshot_index = 0
        self.snapshot_term = 0
        self.has_forgotten = bool(env.incarnation)
        """Whether this server lost its memory, and has not returned yet."""
        self.is_witness = False
        """Whether this server keeps no state, for good."""
        self.returns = Returns()
        """Of all servers, by what is committed: durable with the log and the snapshot."""
        self.configurations = self.configurations_class(config, env.id, env.peers)
        """Who votes, by the log and the snapshot."""
        # Volatile.
        self.commit_index = 0
        self.delivered_index = 0
        """``lastApplied`` of the figure."""

    # --- recovery ---

    def restore(self, record: Durable) -> None:
        """Take back one record. Raises ValueError if records before it are missing."""
        log = self.log
        if isinstance(record, HardState):
            self.term, self.vote = record.term, record.vote
        elif isinstance(record, Entries):
            if not log.base_index < record.first_index <= log.last_index + 1:
                raise ValueError(
                    f"the journal has entries from {record.first_index} for a log of "
                    f"{log.base_index + 1} to {log.last_index}: records are missing"
                )
            log.truncate(record.first_index)
            log.append(record.entries)
            self.configurations.truncated(record.first_index)
            self.configurations.appended(record.first_index, record.entries)
        elif isinstance(record, Returned):
            self.has_forgotten = record.incarnation != self._env.incarnation
        elif isinstance(record, Witness):
            self.is_witness = True
        else:
            self.returns.start_from(returns_of(record))
            self.snapshot_index, self.snapshot_term = record.index, record.term
            log.compact(record.base_index, record.base_term)
            self.configurations.start_from(record.index, configuration_of(record), log.last_index)

    def checkpoint(self) -> Iterator[Durable]:
        """The durable state as it is now, the log in records of bounded size."""
        yield HardState(self.term, self.vote)
        if self._env.incarnation and not self.has_forgotten:
            yield Returned(self._env.incarnation)
        if self.is_witness:
            yield Witness()
        log, config = self.log, self._config
        if self.snapshot_index:
            yield self._snapshotted(log.base_index, log.base_term)
        for first, entries in log.batches(config.message_entries_max, config.message_bytes_max):
            yield Entries(first, entries)

    def start(self) -> None:
        """What a snapshot stands for is committed; the rest becomes so again when a leader says it."""
        if self.log.last_index < self.snapshot_index:
            raise ValueError(
                f"the journal's snapshot stands at {self.snapshot_index}, but its log ends at {self.log.last_index}: "
                "records are missing"
            )
        self.commit_index = self.delivered_index = self.snapshot_index
        if self.has_forgotten and self.vote is not None:
            # It knows of a vote, and perhaps not of the last: it abstains, now as when it returns.
            self.vote = self._env.id
        if self.is_witness:
            self._env.deliver(Stateless())
        elif self.snapshot_index:
            self._env.deliver(Restored(self.snapshot_index, self.snapshot_term))

    def bear_witness(self) -> bool:
        """The leader says that this server is a witness. Whether it is; one that holds nothing becomes it, for good."""
        if not self.is_witness and not self.log.last_index and self._env.id not in self.configurations.founders:
            self.is_witness = True
            self._env.persist(Witness())
            self._env.deliver(Stateless())
        return self.is_witness

    # --- term and vote ---

    def pledge(self, term: int, vote: int | None) -> None:
        """Be in this term, with this vote. Neither may be taken back by a crash (§3.8)."""
        self.term, self.vote = term, vote
        self._env.persist(HardState(term, vote))

    def settle_returns(self, returns: Iterable[Return]) -> None:
        """These are committed, and this server holds the log up to there. If it is one of them, it has returned.

        It abstains in the term that it is in: it may have voted in it before.
        """
        env = self._env
        if self.has_forgotten and any(known.incarnation == env.incarnation for known in returns):
            self.has_forgotten = False
            self.pledge(self.term, env.id)
            env.persist(Returned(env.incarnation))

    # --- log ---

    def write(self, first: int, entries: list[Entry]) -> None:
        """From ``first`` on, the log is these entries. What stood there and after it goes."""
        log = self.log
        if self.is_witness:
            entries = withheld(entries)
        if first <= log.last_index:
            log.truncate(first)
            self.configurations.truncated(first)
        self.configurations.appended(first, entries)
        self._env.persist(Entries(first, entries))
        log.append(entries)

    def commit(self, index: int) -> None:
        """All up to ``index`` is committed, if that is more than was known."""
        if index > self.commit_index:
            self.commit_index = index
            self.configurations.commit(index)

    # --- snapshots (chapter 5) ---

    def compact(self, index: int, term: int, base_index: int, base_term: int) -> None:
        """A durable snapshot stands at ``index``; of the log, what follows ``base_index`` stays."""
        self.snapshot_index, self.snapshot_term = index, term
        self._env.persist(self._snapshotted(base_index, base_term))
        self.log.compact(base_index, base_term)

    def _snapshotted(self, base_index: int, base_term: int) -> Snapshotted:
        index, term = self.snapshot_index, self.snapshot_term
        returns, configuration = self.returns.until(index), self.configurations.at(index)
        assert configuration is not None, "it is known from the newest snapshot on"
        if configuration.index:
            return SnapshottedAmong(index, term, base_index, base_term, returns, configuration.recorded())
        if returns:
            return SnapshottedAfter(index, term, base_index, base_term, returns)
        return Snapshotted(index, term, base_index, base_term)

    def install(
        self, index: int, term: int, returns: tuple[Return, ...] = (), configuration: Configured | None = None
    ) -> None:
        """A durable snapshot of the leader's stands at ``index``, which is beyond what was committed here.

        With it comes who returned before it, and the configuration of the log up to there; None: the founders'.
        """
        self.returns.start_from(returns)
        keeps = self.log.term_at(index) == term
        self.configurations.start_from(index, configuration, self.log.last_index if keeps else index)
        self.compact(index, term, index, term)
        self.commit_index = self.delivered_index = index
        self.settle_returns(returns)
        self._env.deliver(Stateless() if self.is_witness else Restored(index, term))
