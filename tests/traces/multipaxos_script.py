"""The language of ``script.py`` for Multi-Paxos: ``given 1 promised=3,2 votes=1,2:1:ab`` says what a journal holds.

``votes`` are ballot, first slot and values of one letter; several are parted by ``/``.
"""

from quorate.parts.log.entries import Entry
from quorate.protocols.multipaxos import MultiPaxos, MultiPaxosConfig
from quorate.protocols.multipaxos.messages import Promised, Voted

from tests.traces.script import Script, entry_of, plain_ballot


class MultiPaxosScript(Script):
    """Prints role and ballot."""

    protocol = MultiPaxos
    config = MultiPaxosConfig

    def do_given(self, node: str, *settings: str) -> None:
        assert self._cluster is None, "`given` comes before the nodes start"
        given = dict(s.split("=") for s in settings)
        records: list[Promised | Voted] = []
        for votes in given["votes"].split("/") if "votes" in given else []:
            ballot, first, values = votes.split(":")
            at = ballot_of(ballot)
            records.append(Voted(at, int(first), [Entry(at[0], value.encode()) for value in values], 0))
        if "promised" in given:
            records.append(Promised(ballot_of(given["promised"]), 0))
        self._journals[int(node)] = records

    def do_state(self) -> None:
        for node, member in self.cluster.members.items():
            core, acceptor = member.core, member.core.acceptor
            log = acceptor.log
            words = [f"promised={plain_ballot(acceptor.promised)} chosen={acceptor.chosen_index}"]
            words.append("[" + " ".join(map(entry_of, log.slice(log.base_index + 1, log.last_index))) + "]")
            for slot, (ballot, entry) in sorted(acceptor.ahead.items()):
                words.append(f"{slot}={entry_of(entry)}@{plain_ballot(ballot)}")
            self.lines.append(f"  {node} {core.role if member.up else 'down'} " + " ".join(words))

    def _role(self, node: int) -> str:
        core = self.cluster[node].core
        return f"{core.role} of ballot {plain_ballot(core.ballot)}"


def ballot_of(text: str) -> tuple[int, int]:
    """``3,2``."""
    round_, node = text.split(",")
    return int(round_), int(node)
