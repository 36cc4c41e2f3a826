"""The language of ``script.py`` for Paxos: timers are ``retry`` and ``ask``, and there is no ``given``."""

from quorate.protocols.paxos import Paxos, PaxosConfig

from tests.traces.script import Script, plain, plain_ballot


class PaxosScript(Script):
    """Prints what a proposer is doing where Raft's prints a role."""

    protocol = Paxos
    config = PaxosConfig

    def do_state(self) -> None:
        for node, member in self.cluster.members.items():
            core = member.core
            words = f"promised={plain_ballot(core.acceptor.promised)} accepted={plain_ballot(core.acceptor.accepted)}"
            if core.acceptor.value:
                words += f" value={plain(core.acceptor.value)}"
            if core.chosen is not None:
                words += f" chosen={plain(core.chosen)}"
            self.lines.append(f"  {node} {'' if member.up else 'down '}{words}")

    def _role(self, node: int) -> str:
        proposer = self.cluster[node].core.proposer
        return f"{proposer.phase} in ballot {plain_ballot(proposer.ballot)}"
