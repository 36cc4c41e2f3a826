"""Witnesses: servers that vote, and keep of the log its metadata and no state.

Sources. Pâris, "Voting with witnesses: a consistency scheme for replicated files" (1986): a witness knows which copy is
the newest, and has none. Liskov et al., "Replication in the Harp file system" (1991): a witness takes part while a
server with a copy is away. Pâris and Long, "Reducing the energy footprint of a distributed consensus algorithm" (2015):
the same for Raft. No section of Ongaro's dissertation has them.

How it works. A witness keeps term, vote and the log, in which the data of commands is *withheld*: of these it has
index, term and kind, and of configurations and returns all. So it compares logs like everybody (§3.6.1): once the
leader has committed an entry with it alone, it votes for nobody who lacks that entry. As it has nothing to go on with,
it never stands, applies nothing, and serves neither clients nor other servers. If the leader's log no longer reaches
back to what a witness needs, it sends the *cut*: index, term and configuration of a snapshot, without the state
(``InstallCut``).

Two rules make room for it:

- *No quorum is of witnesses alone* (``Configuration.after``). So each one that commits an entry has its data, and each
  that elects has a server that could have been elected.
- *A witness is asked last* (``witnessing.py``). It is sent an entry when the voters with state that are *in step* hold
  it durably: those that hold what the log had two heartbeats ago. One that is away or behind is not waited for, but one
  of them must hold it. Otherwise a witness would often be ahead, by the entries of a moment, of every server that could
  lead when the leader dies, and refuse them all until that one returns; and as a leader sends entries before its own
  disk has them (§10.2.1), perhaps for ever. In Harp witnesses take part only while another server is away; here they
  follow a little behind, so there is nothing to switch.

The price that is left: what the leader and witnesses have committed while the others were out of step is nowhere else.
If the leader dies then, the cluster waits until it returns. It could go on only by losing what clients were told is
done.

A server is a witness for good: its log has no data that anybody could apply. It is one by its number, which was invited
or introduced as a witness's; the leader says so with each message of entries (``AppendWithheld``), since the server may
not yet have the entry that introduces it. Durable at the witness: ``Witness``, and what every server keeps.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.parts.log.entries import CONFIGURATION, NOOP, RETURN, WITHHELD, Entry

NO_STATE = "this node is a witness: it votes, and keeps no state"
METADATA = (NOOP, CONFIGURATION, RETURN)
"""The kinds of entries of which a witness has all."""


def withheld(entries: Sequence[Entry]) -> list[Entry]:
    """The same as a witness has them: of commands the term alone."""
    return [entry if entry.kind in METADATA else Entry(entry.term, b"", WITHHELD) for entry in entries]
