"""ExtendedVotes: the precommits of one height that have extensions, until the app has judged them.

Where vote extensions are enabled, every precommit for a block has one, which is signed apart, and no other vote has.
A precommit counts when the app accepts its extension (VerifyVoteExtension); this node's own does so at once. The app is
asked once for each validator and round, and about one precommit of each validator at a time: a validator that floods
waits for its own answers. What the app rejects counts for nothing. It is remembered without its extension, so that it
is not asked about again, and so that another vote for the same round is seen to contradict it.

Rounds. Precommits of rounds that are far ahead (``heard.py``) are dropped: there may be as many as there are rounds.
Their nodes prevoted in those rounds too, which is enough to follow them, and repeat both at their beats.

Source: CometBFT 0.38, ``consensus/state.go`` (addVote), ``spec/abci/abci++_methods.md`` (VerifyVoteExtension).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.effects import SignedVote, Step
from quorate.protocols.tendermint.extensions import extension_bytes_max
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.messages import ExtendedPrecommit, Precommit, Prevote, vote_said
from quorate.protocols.tendermint.signed_bytes import extension_bytes


class ExtendedVotes:
    """``held``, ``refusal`` and ``add`` take votes whose signatures are checked elsewhere, those of extensions here."""

    def __init__(self, height: int, keys: Keys, chain: Chain, rules: Height) -> None:
        self._height = height
        self._keys = keys
        self._chain = chain
        self._rules = rules
        self._is_enabled = chain.extends(height)
        self._bytes_max = extension_bytes_max(chain.committee)
        self._held: dict[tuple[int, int], SignedVote] = {}  # by node and round: waiting, asked about, or rejected
        self._waiting: dict[tuple[int, int], None] = {}  # in the order in which they came
        self._asked: set[int] = set()  # nodes about whose vote the app is asked

    def refusal(self, m: Prevote) -> str | None:
        """Why no correct node sends such a vote at this height, whoever signed it; None: it may be one."""
        if not isinstance(m, ExtendedPrecommit):
            is_lacking = self._is_enabled and isinstance(m, Precommit) and m.value is not None
            return "sent a precommit without an extension" if is_lacking else None
        if not self._is_enabled:
            return "sent an extension, and votes of this height have none"
        if m.value is None:
            return "sent an extension of a vote for nothing"
        if len(m.extension) > self._bytes_max:
            return "sent an extension that is too large"
        return None

    def is_wanted(self, m: ExtendedPrecommit) -> bool:
        """Whether it could count, so that the app may be asked about it: a validator's, of a round that is near."""
        return self._chain.committee.has(m.node) and self._rules.heard.is_near(m.round)

    def held(self, m: Prevote) -> SignedVote | None:
        """The precommit of the same node and round that does not count, or not yet."""
        return self._held.get((m.node, m.round)) if isinstance(m, Precommit) else None

    def add(self, m: ExtendedPrecommit) -> str | None:
        """One that is wanted and that its node signed. Why it is wrong; None: nothing is wrong with it."""
        data = extension_bytes(self._chain.id, self._height, m.round, m.extension)
        if not self._keys.verify_canonical(m.node, data, m.extension_signature):
            return "sent an extension that its node did not sign"
        vote, place = vote_said(m), (m.node, m.round)
        held = self._held.get(place)
        if held is not None:
            if held.value != vote.value:
                self._rules.on_contradicted(held, vote)
        elif m.node == self._keys.node or self._rules.heard.vote_of(m.node, m.round, Step.PRECOMMIT) is not None:
            self._rules.on_said(vote)  # its own; or it contradicts one that counts, and does not count itself
        else:
            self._held[place] = vote
            self._waiting[place] = None
        return None

    def questions(self) -> Iterator[SignedVote]:
        """Those that the app is to be asked about now, each once."""
        for place in list(self._waiting):
            node = place[0]
            if node not in self._asked:
                del self._waiting[place]
                self._asked.add(node)
                yield self._held[place]

    def judged(self, node: int, round: int, is_accepted: bool) -> None:
        """The app's answer."""
        self._asked.discard(node)
        vote = self._held.pop((node, round))
        if is_accepted:
            self._rules.on_said(vote)
        else:
            self._held[node, round] = replace(vote, extension=b"")
