"""How nodes lie about vote extensions, where an ABCI app has enabled them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from quorate.kernel import Send
from quorate.protocols.tendermint.extensions import extension_bytes_max
from quorate.protocols.tendermint.liars import Backdating, Forging, Hurrying, Splitting, TellsFew
from quorate.protocols.tendermint.messages import ExtendedDecision, ExtendedPrecommit, Precommit, Prevote, Votes
from quorate.sim.adversary.liar import Liar, Means


class MisExtending(Liar):
    """Sends extensions that are wrong: unsigned, too large, another node's, or some that no correct app accepts."""

    name = "misextending"
    summary = "sends wrong vote extensions: unsigned, too large, or none that the app accepts"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.2, 0.9)

    def tell(self, send: Send) -> Iterable[Send]:
        """A wrong one to some, and the right one to the others."""
        m, means = send.message, self.means
        if not isinstance(m, ExtendedPrecommit) or not means.chance(self.rate):
            return (send,)
        means.count(self.name)
        lie = self._lie(m)
        deceived = means.some(send.to) if means.chance(0.5) else send.to
        told = [Send(deceived, send.path, lie)]
        if rest := tuple([node for node in send.to if node not in deceived]):
            told.append(Send(rest, send.path, m))
        return told

    def _lie(self, m: ExtendedPrecommit) -> ExtendedPrecommit:
        means = self.means
        made: ExtendedPrecommit
        match int(means.rng.random() * 4):
            case 0:
                return replace(m, extension=_otherwise(m.extension))  # the signature is of what it was
            case 1:
                made = replace(m, extension=bytes(extension_bytes_max(means.core.chain.committee) + 1))
            case 2:
                made = replace(m, extension=b"nothing that an app would say")
            case _:
                heard = [
                    other
                    for item in means.heard
                    if isinstance(other := item.message, ExtendedPrecommit) and other.height == m.height
                ]
                if not heard:
                    return replace(m, extension_signature=bytes(64))
                other = means.pick(heard)
                return replace(m, extension=other.extension, extension_signature=other.extension_signature)
        return means.resign(made)  # type: ignore[no-any-return]


class TwoExtensions(Liar):
    """Signs a different extension, in order by itself, for each node."""

    name = "twoextensions"
    summary = "attaches different vote extensions to one precommit, all of which the app accepts"

    def tell(self, send: Send) -> Iterable[Send]:
        """Changed in its last digit, for each in another way."""
        m, means = send.message, self.means
        if not isinstance(m, ExtendedPrecommit) or not m.extension or not means.chance(0.7):
            return (send,)
        means.count(self.name)
        return [
            Send((node,), send.path, means.resign(replace(m, extension=_otherwise(m.extension, i))))
            for i, node in enumerate(send.to)
        ]


class Stripping(Liar):
    """Leaves extensions away: of its own votes, of those that it passes on, and of decisions."""

    name = "stripping"
    summary = "sends precommits and decisions without their extensions, or with others"

    def tell(self, send: Send) -> Iterable[Send]:
        """The same without."""
        m, means = send.message, self.means
        if isinstance(m, ExtendedPrecommit) and means.chance(0.5):
            means.count(self.name)
            return (Send(send.to, send.path, _plain(m)),)
        if isinstance(m, Votes) and means.chance(0.5):
            means.count(self.name)
            return (Send(send.to, send.path, Votes(tuple([_plain(vote) for vote in m.votes]))),)
        if isinstance(m, ExtendedDecision) and means.chance(0.5):
            means.count(self.name)
            return (Send(send.to, send.path, self._without(m)),)
        return (send,)

    def _without(self, m: ExtendedDecision) -> ExtendedDecision:
        """One of them is none, or says something else."""
        said = list(m.extensions)
        at = int(self.means.rng.random() * len(said))
        one = said[at]
        said[at] = None if one is None or self.means.chance(0.5) else replace(one, extension=_otherwise(one.extension))
        return replace(m, extensions=tuple(said))


def _otherwise(extension: bytes, choice: int = 0) -> bytes:
    """With another digit at its end, so that an app which knows numbers may take it."""
    others = [digit for digit in (b"0", b"1", b"2", b"3", b"4") if digit != extension[-1:]]
    return extension[:-1] + others[choice % len(others)]


def _plain(vote: Prevote) -> Prevote:
    if not isinstance(vote, ExtendedPrecommit):
        return vote
    return Precommit(vote.height, vote.round, vote.value, vote.node, vote.time_ns, vote.signature)


OF_EXTENSIONS = (MisExtending, TwoExtensions, Stripping)
EXTENSION_LIARS = (*OF_EXTENSIONS, Forging, Backdating, Splitting, TellsFew, Hurrying)
"""And some of Tendermint's own, whose votes carry extensions then."""
