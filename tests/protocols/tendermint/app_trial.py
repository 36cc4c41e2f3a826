"""Chains with ABCI apps in the simulator: the built-in kvstore at each node, clients, and what must hold.

What the app has committed outlives a crash of its node at most nodes, as an app of its own process would have it; at
the others it begins anew each time. Every call goes through a grammar checker.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from hashlib import sha256
from random import Random
from typing import Any, BinaryIO, ClassVar, TypeVar

from msgspec.structs import replace

from quorate.kernel import ROOT, App, Path, Received, Requester, Rng
from quorate.kernel.app import Steps
from quorate.ledger.comet.abci.contents import Misbehavior
from quorate.ledger.comet.abci.grammar import GrammarChecker
from quorate.ledger.comet.abci.request_messages import (
    CheckTxType,
    Request,
    RequestApplySnapshotChunk,
    RequestCheckTx,
    RequestCommit,
)
from quorate.ledger.comet.abci.response_messages import Response
from quorate.ledger.comet.block_ids import BlockID, PartSetHeader
from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.divergence import attack_evidence
from quorate.ledger.comet.evidence import MISCONDUCT, LightClientAttackEvidence, Misconduct
from quorate.ledger.comet.headers import Header
from quorate.ledger.comet.light_blocks import LightBlock, SignedHeader
from quorate.machines.abci.application import ABCIApp
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.parts.crypto.keys import Scheme, Symbolic
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_liars import APP_LIARS
from quorate.protocols.tendermint.app_messages import (
    APP_JOBS,
    Accusation,
    AskApp,
    BlockApplied,
    CheckTxs,
    EvidenceTaken,
    LogBegins,
    finalized_of,
)
from quorate.protocols.tendermint.commits import commit_of
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.effects import SignedVote, Step
from quorate.protocols.tendermint.entry import ENTRY
from quorate.protocols.tendermint.equipment import EQUIPMENT
from quorate.protocols.tendermint.invariants import TendermintInvariants
from quorate.protocols.tendermint.liars import resign_tendermint
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block, name_of_id
from quorate.protocols.tendermint.signed_bytes import vote_bytes
from quorate.sim.adversary.liar import Liar
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.options import COMMON, Options
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.trial import Trial
from quorate.sim.workload import Results, Subject, Workload
from quorate.sim.world import World

S = TypeVar("S", bound="AppSubject")

ONE_HISTORY = "all apps have one history"
SAME_STATE = "all apps have one state"
EVERY_S = 0.15
"""Between two transactions of the clients, on average."""
AGAIN_S = 0.5
CONFIG = EQUIPMENT.simulation
MakesAttack = Callable[[AppChain], Misconduct | None]
"""Of a node's chain; None: it is too short yet."""


def answer_of(app: ABCIApp, grammar: GrammarChecker, job: AskApp | CheckTxs) -> Any:
    """What comes of a job."""
    if isinstance(job, CheckTxs):
        kind = CheckTxType.RECHECK if job.is_recheck else CheckTxType.NEW
        return tuple([app.answer(RequestCheckTx(tx, kind)) for tx in job.txs])
    response = app.answer(job.request)
    grammar.observe(job.request, response)
    return response


class Asked(App):
    """One life of a node's upper half. ``calls`` has the requests that were answered, but for CheckTx."""

    works: ClassVar[tuple[type, ...]] = APP_JOBS

    def __init__(self, app: ABCIApp, committed: Callable[[], None]) -> None:
        self.abci = app
        self.grammar = GrammarChecker()
        self.calls: list[Request] = []
        self.outputs: list[Callable[[Any], None]] = []
        """Who hears what the core says."""
        self._committed = committed

    def work(self, job: Any) -> Steps:
        yield
        response: Response | tuple[Response, ...] = answer_of(self.abci, self.grammar, job)
        if isinstance(job, AskApp):
            self.calls.append(job.request)
            if isinstance(job.request, RequestCommit | RequestApplySnapshotChunk):
                self._committed()
        yield
        return response

    def output(self, value: Any, path: Path = ROOT) -> None:
        for hear in self.outputs:
            hear(value)

    def request(self, client: Requester, request: Any) -> None:
        raise AssertionError("clients submit")

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        raise AssertionError("the log is kept whole")

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        raise AssertionError("the log is kept whole")


class OneHistory(Checker):
    """Every node applies the same blocks, with the same outcomes, in each life from the first one on."""

    def __init__(self) -> None:
        self.heights: list[tuple[bytes, bytes]] = []
        """By height from 1 on: a digest of the block, and the app's hash after it."""
        self.txs: set[bytes] = set()
        self.pieces: list[Misconduct] = []
        self.is_shown = False
        """Whether a node has said that it has a piece of evidence which somebody showed to it."""
        self.answers: set[str] = set()
        """What nodes said to such pieces: why it is not taken; empty: it is."""
        self.reached: dict[int, int] = {}

    def started(self, node: int, core: Any) -> None:
        self.reached[node] = 0

    def output(self, node: int, value: Any) -> None:
        if isinstance(value, EvidenceTaken):
            self.answers.add(value.why)
            self.is_shown = self.is_shown or not value.why
        if isinstance(value, LogBegins):
            self.reached[node] = value.height
        if not isinstance(value, BlockApplied):
            return
        its = (sha256(value.block).digest(), finalized_of(value.answer).app_hash)
        if value.height != self.reached[node] + 1:
            raise Violation(ONE_HISTORY, f"node {node} applies height {value.height} after {self.reached[node]}")
        self.reached[node] = value.height
        if value.height > len(self.heights):
            self.heights.append(its)
            block = BLOCK.decode(value.block)
            self.txs.update(block.data.txs)
            self.pieces += block.evidence.evidence
        elif self.heights[value.height - 1] != its:
            raise Violation(ONE_HISTORY, f"node {node} applied another block at height {value.height}, or otherwise")


class AppInvariants(TendermintInvariants):
    """Those of Tendermint; what a block does, the node's own app has said."""

    def app_hash(self, core: Tendermint, before: Header) -> bytes:
        assert isinstance(core, AppChain)
        kept = core.stands.at(before.height)
        if kept is not None:
            return kept.stand.point.app_hash
        answer = core.app.outcomes.get(before.height)
        return b"nobody knows" if answer is None else finalized_of(answer).app_hash


class Lenient(KVStoreApp):
    """Who votes twice keeps his power, so that the validators stay those that the invariants count with."""

    def _punish(self, piece: Misbehavior, updates: dict[bytes, int]) -> None:
        pass


class Submitting(Workload):
    """Clients that bring transactions to one node or another until a block has them. If there is an attack on light
    clients, one node is shown evidence of it; if it says that it has that, nobody else is."""

    def __init__(
        self, world: World, history: OneHistory, attack: Callable[[AppChain], Misconduct | None] | None
    ) -> None:
        super().__init__()
        self._world = world
        self._history = history
        self._attack = attack
        self._rng = Random(f"{world.seed}/transactions")
        self._is_over = False
        self._open: set[bytes] = set()

    @property
    def are_idle(self) -> bool:
        self._look()
        return not self._open and not self._awaits_evidence

    @property
    def _awaits_evidence(self) -> bool:
        attacks = [piece for piece in self._history.pieces if isinstance(piece, LightClientAttackEvidence)]
        return self._attack is not None and not attacks

    def start(self) -> None:
        self._world.after(self._rng.expovariate(1 / EVERY_S), self._begin)
        if self._attack is not None:
            self._world.after(AGAIN_S, self._show)

    def finish(self) -> None:
        self._is_over = True

    def missing(self) -> str:
        if self._awaits_evidence:
            return "evidence that was shown is in no block"
        return f"{len(self._open)} transactions are in no block" if self._open else ""

    def _look(self) -> None:
        self.answered += len(self._open & self._history.txs)
        self._open -= self._history.txs

    def _begin(self) -> None:
        if self._is_over and not self._awaits_evidence:
            return
        tx = b"k%d=%d" % (self._rng.getrandbits(3), self.operations)
        self.operations += 1
        self._open.add(tx)
        self._bring(tx)
        self._world.after(self._rng.expovariate(1 / EVERY_S), self._begin)

    def _bring(self, tx: bytes) -> None:
        if tx in self._history.txs:
            return
        node = self._some_node()
        if node is not None:
            node.operate(tx)
        self._world.after(AGAIN_S, lambda: self._bring(tx))

    def _some_node(self) -> Any:
        up = [node for node in self._world.honest if node.up and not node.paused]
        return up[int(self._rng.random() * len(up))] if up else None

    def _show(self) -> None:
        assert self._attack is not None
        if self._history.is_shown:
            return
        node = self._some_node()
        core = None if node is None else node.host.root
        if isinstance(core, AppChain) and not core.applying.is_busy:
            piece = self._attack(core)
            if piece is not None:
                node.put(Received(node.id, Accusation(1, MISCONDUCT.encode(piece))))
        self._world.after(AGAIN_S, self._show)


def attack_on(scheme: Scheme) -> MakesAttack:
    """By three nodes: they signed another block of height 2. It holds from height 3 on."""

    def attack(core: AppChain) -> Misconduct | None:
        decided = [decode_block(decision.block).block for decision in core.log.decisions[:3]]
        if core.chain.state.last_height < 3:
            return None
        first, second, third = decided
        committee = core.committee
        header = replace(second.header, app_hash=b"another")
        block_id = BlockID(header.hash(), PartSetHeader(1, bytes(32)))
        false = NamedBlock(name_of_id(block_id), b"", replace(second, header=header))
        time_ns, votes = header.time.ns() + 1_000_000, []
        for node in committee.nodes[:3]:
            data = vote_bytes(core.chain.id, Step.PRECOMMIT, 2, 0, false.name, time_ns)
            signature = scheme.keys(node).sign_canonical(data)
            votes.append(SignedVote(node, Step.PRECOMMIT, 0, false.name, signature, time_ns))
        commit = commit_of(committee, 2, 0, false, votes)
        assert second.last_commit is not None
        assert third.last_commit is not None
        blocks = [
            LightBlock(SignedHeader(*signed), committee.validators)
            for signed in ((header, commit), (second.header, third.last_commit), (first.header, second.last_commit))
        ]
        return attack_evidence(*blocks)

    return attack


class AppSubject(Subject):
    """``apps`` has all that were made, by node, one a life."""

    history_class: ClassVar[type[OneHistory]] = OneHistory

    def __init__(self, make: Callable[[], KVStoreApp] = Lenient) -> None:
        self.history = self.history_class()
        self.apps: dict[int, list[Asked]] = {}
        self.attack: MakesAttack | None = None
        self.make = make
        self._kept: dict[int, KVStoreApp] = {}

    def app(self, node: int, rng: Rng) -> App:
        is_kept = node != 1  # that one keeps nothing
        state = copy.deepcopy(self._kept.get(node)) or self.make()

        def keep() -> None:
            if is_kept:
                self._kept[node] = copy.deepcopy(state)

        made = Asked(state, keep)
        self.apps.setdefault(node, []).append(made)
        return made

    def workload(self, world: Any) -> Workload:
        return Submitting(world, self.history, self.attack)

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        return [self.history, *protocol]

    def converged(self, world: Any) -> bool:
        if {self.history.reached[node.id] for node in world.honest} != {len(self.history.heights)}:
            return False
        states = []
        for node in world.honest:
            app = self.apps[node.id][-1].abci
            assert isinstance(app, KVStoreApp)
            if app.height != len(self.history.heights):
                return False  # it has committed a block of which its node has not heard yet
            states.append((app.pairs, app.powers))
        if any(state != states[0] for state in states):
            raise Violation(SAME_STATE, f"two apps differ after height {len(self.history.heights)}")
        return True

    def results(self, world: Any) -> Results:
        return Results(committed=len(self.history.heights), data=[block for block, _ in self.history.heights])


def app_trial(
    seed: int,
    subject: AppSubject,
    *,
    core: type[AppChain] = AppChain,
    nodes: int = 4,
    duration_s: float = 5.0,
    byzantine: int = 0,
    adversary: tuple[str, ...] = (),
    faults: tuple[str, ...] = COMMON,
    scheme: Scheme | None = None,
    healing_s: float = 60.0,
    attacked: bool = False,
    liars: tuple[type[Liar], ...] = APP_LIARS,
    config: TendermintConfig = CONFIG,
) -> Trial:
    """One run under the common faults. ``attacked``: light clients were, and a node is shown evidence of it."""
    scheme = scheme or Symbolic(range(nodes), b"%d" % seed, "apps")
    subject.attack = attack_on(scheme) if attacked else None
    return Trial(
        make=ENTRY.make(config, core, scheme.keys),
        subject=subject,
        options=Options(
            seed=seed,
            nodes=nodes,
            duration_s=duration_s,
            faults=faults,
            byzantine=byzantine,
            adversary=adversary,
            healing_s=healing_s,
        ),
        borne=lambda members: (len(members) - 1) // 3,
        invariants=(AppInvariants,),
        scheme=scheme,
        liars=liars,
        resign=resign_tendermint,
    )


def run(seed: int, subject: AppSubject | None = None, **options: Any) -> RunOutcome:
    """One seed to its end or to the first violation."""
    return simulate(app_trial(seed, subject or AppSubject(), **options))


def held(
    seeds: range, make: Callable[[], S] = AppSubject, runs: Callable[..., RunOutcome] = run, **options: Any
) -> list[S]:
    """The subjects of these seeds, each of which must hold."""
    subjects = []
    for seed in seeds:
        subject = make()
        outcome = runs(seed, subject, **options)
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"
        subjects.append(subject)
    return subjects
