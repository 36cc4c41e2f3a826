"""Accusing: evidence that waits for a block is kept, and all nodes are told of it, so that any of them can propose it.

How it works. A piece is this node's own if it saw the two votes itself, or if somebody showed it the piece
(``broadcast_evidence``). It is told to all others at once, and again after 1, 2, 4, ... beats, since messages may be
lost; at last every ``AGAIN_BEATS``. Who is told judges the piece and keeps it as well, but passes it on to nobody: the
links go from each node to each. It waits until a block has it, until it is too old, or until a snapshot takes the place
of its height. No block is made for evidence alone.

Durable: each piece that waits, with the height after which it came. After a restart it is taken in again at that
height, while the app is told of the log; so blocks and age take it out again as they did before. What is of a height
before the snapshot that the node stands on counts no more, and is dropped.

Hostile senders. A piece that does not hold is blamed on who sent it: it names the height at which it judged the piece,
so that both must come to the same. What this node cannot judge, as it is behind, or what is too old is dropped without
a word. Of each sender so many bytes are looked at between two beats, and so many pieces wait: a node that signs two
votes for every step can make true evidence without end.

Departures from CometBFT 0.38: its nodes pass on what they were told too, and again every ten seconds; and its pool of
evidence has no bounds.

Source: CometBFT 0.38, ``evidence/reactor.go``, ``evidence/pool.go``; ``enterNewRound`` (``consensus/state.go``), which
waits for transactions alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quorate.kernel import Env
from quorate.ledger.comet.evidence import MISCONDUCT, Misconduct, evidence_bytes
from quorate.protocols.tendermint.app_messages import EvidenceTaken
from quorate.protocols.tendermint.current_height import STALLED, CurrentHeight
from quorate.protocols.tendermint.evidence_pool import AROUND_BYTES, EvidencePool, OffenceKey, offence_key
from quorate.protocols.tendermint.messages import Accusation, PendingEvidence

WAITING_MAX: Final = 64
"""Pieces that wait for a block, beyond which none is taken from outside. Another node gets a share of it."""
WAITING_BYTES_MAX: Final = 8 << 20
"""Of all those. Of another node one piece is taken in any case."""
HEARD_BYTES_MAX: Final = 1 << 15
"""Of one sender, looked at between two beats, after its first piece: some hundred signatures."""
TELL_BYTES_MAX: Final = 1 << 18
"""Told again at one beat, after the first piece."""
AGAIN_BEATS: Final = 64


class Accusing:
    """``kept``: by offence, what is durable. It may be read."""

    def __init__(self, env: Env, current: CurrentHeight, pool: EvidencePool) -> None:
        self._env = env
        self._current = current
        self._pool = pool
        self.kept: dict[OffenceKey, PendingEvidence] = {}
        self._restored: list[PendingEvidence] = []  # until the log has come to their heights
        self._beats: dict[OffenceKey, int] = {}  # since it was told first, of those that this node tells of
        self._heard: dict[int, int] = {}  # bytes by sender since the last beat

    # --- what is durable ---

    def restore(self, record: PendingEvidence) -> None:
        """One that waited."""
        self._restored.append(record)

    def records(self) -> Iterator[PendingEvidence]:
        """Those that wait."""
        yield from self._restored
        yield from self.kept.values()

    def look(self) -> None:
        """A height was applied, or a snapshot took the place of all before: what waited then, what this node saw, and
        what waits no more."""
        if self._restored:
            self._take_restored()
        waiting = self._pool.waiting
        for key in [key for key in self.kept if key not in waiting]:
            del self.kept[key]
            self._beats.pop(key, None)
        for key, piece in waiting.items():
            if key not in self.kept:
                self._keep(piece, None)

    def _take_restored(self) -> None:
        last = self._pool.last
        due = [record for record in self._restored if record.height <= last]
        self._restored = [record for record in self._restored if record.height > last]
        for record in due:
            piece = MISCONDUCT.decode(record.piece)
            if piece.height >= self._pool.oldest:
                self._pool.add(piece)
                self._note(piece, record)

    def _keep(self, piece: Misconduct, source: int | None) -> None:
        record = PendingEvidence(self._pool.last, source, MISCONDUCT.encode(piece))
        self._env.persist(record)
        self._note(piece, record)
        if source is None:
            self._tell(record)

    def _note(self, piece: Misconduct, record: PendingEvidence) -> None:
        self.kept[offence_key(piece)] = record
        if record.source is None:
            self._beats[offence_key(piece)] = 0

    # --- what comes ---

    def on_accusation(self, sender: int, m: Accusation) -> None:
        """Of another node; or of this one: somebody shows it the piece, and is told what came of it."""
        if sender != self._env.id:
            if not self._current.is_stalled:
                self.hear(sender, m)
        else:
            why = STALLED if self._current.is_stalled else self.show(m.piece)
            self._env.deliver(EvidenceTaken(m.piece, why))

    def show(self, data: bytes) -> str:
        """Somebody outside has this piece. Why it is not taken; empty: it waits for a block, or one has it."""
        try:
            piece = MISCONDUCT.decode(data)
        except ValueError as error:
            return str(error)
        if self._pool.is_known(piece):
            return ""
        if not self._pool.last:
            return "evidence: no height is known here that it could be of"
        why = self._why_no_room(piece, None) or self._pool.judge(piece, self._pool.last).why
        if not why:
            self._pool.add(piece)
            self._keep(piece, None)
        return why

    def hear(self, sender: int, m: Accusation) -> None:
        """Of another node."""
        heard = self._heard.get(sender, 0)
        if (heard and heard + len(m.piece) > HEARD_BYTES_MAX) or len(m.piece) > self._pool.params.max_bytes:
            return
        self._heard[sender] = heard + len(m.piece)
        try:
            piece = MISCONDUCT.decode(m.piece)
        except ValueError:
            self._blame(sender, "sent evidence that is none")
            return
        if self._pool.is_known(piece) or self._why_no_room(piece, sender):
            return
        judgement = self._pool.judge(piece, m.height)
        if judgement.is_lie:
            self._blame(sender, "sent evidence that does not hold")
        elif not judgement.why:
            self._pool.add(piece)
            self._keep(piece, sender)

    def _blame(self, sender: int, why: str) -> None:
        """And nothing more of it is looked at until the next beat."""
        self._heard[sender] = HEARD_BYTES_MAX
        self._env.blame(sender, why)

    def _why_no_room(self, piece: Misconduct, source: int | None) -> str:
        """Empty: there is."""
        size, most = len(evidence_bytes(piece)) + AROUND_BYTES, self._pool.params.max_bytes
        if size > most:
            return f"evidence: {size} bytes, and a block takes {most}"
        parts = 1 if source is None else len(self._env.peers)
        same = [len(record.piece) for record in self.kept.values() if source is None or record.source == source]
        if len(same) >= max(1, WAITING_MAX // parts) or (same and sum(same) + size > WAITING_BYTES_MAX // parts):
            return "evidence: too much of it waits for a block"
        return ""

    # --- what is told ---

    def beat(self) -> None:
        """Time goes by: tell again of what still waits."""
        self._heard.clear()
        told = 0
        for key, beats in self._beats.items():
            record = self.kept[key]
            if is_due(beats + 1):
                if told and told + len(record.piece) > TELL_BYTES_MAX:
                    continue  # at the next beat
                told += len(record.piece)
                self._tell(record)
            self._beats[key] = beats + 1

    def _tell(self, record: PendingEvidence) -> None:
        self._env.send(self._env.others, Accusation(record.height, record.piece))


def is_due(beats: int) -> bool:
    """Whether so many beats after it was told first it is told again."""
    return beats % AGAIN_BEATS == 0 or (beats < AGAIN_BEATS and beats & (beats - 1) == 0)
