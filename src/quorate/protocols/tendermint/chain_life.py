"""ChainLife: what a node of Tendermint has and keeps, and what it is after a restart. The core is built upon it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from quorate.kernel import Core, Env
from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.applying import Applying
from quorate.protocols.tendermint.blockchain import EVIDENCE_PARAMS, Chain, chain_id_of
from quorate.protocols.tendermint.chain_app import ChainApp, Draft
from quorate.protocols.tendermint.checkpoints import ChainCheckpoints
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.effects import SignedVote, Step
from quorate.protocols.tendermint.evidence_pool import EvidencePool
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.log import DecidedLog
from quorate.protocols.tendermint.messages import (
    Decision,
    Locked,
    Prevote,
    Proposal,
    Stable,
    Taken,
    TendermintConfig,
    Valid,
)
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block
from quorate.protocols.tendermint.open_height import OpenHeight, said_of
from quorate.protocols.tendermint.requests_app import RequestsApp
from quorate.protocols.tendermint.signing import SignState
from quorate.protocols.tendermint.transfer import ChainTransfer


class ChainLife(Core):
    """The public attributes may be read by checkers and status pages, and by nothing else."""

    rules_class: ClassVar[type[Height]] = Height
    signing_class: ClassVar[type[SignState]] = SignState
    open_class: ClassVar[type[OpenHeight]] = OpenHeight
    committee_class: ClassVar[type[Committee]] = Committee
    app_class: ClassVar[type[ChainApp]] = RequestsApp
    checkpoints_class: ClassVar[type[ChainCheckpoints]] = ChainCheckpoints
    transfer_class: ClassVar[type[ChainTransfer]] = ChainTransfer

    def __init__(self, env: Env, config: TendermintConfig = TendermintConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        """Raises ValueError for keys of another node, and where the powers do not fit the nodes."""
        super().__init__(env)
        if keys.node != env.id:
            raise ValueError(f"node {env.id} was given the keys of node {keys.node}")
        self.config = config
        self._keys = keys
        self.keyring = keys.keyring
        verify = keys.keyring.verify_canonical
        self.committee = self.committee_class(env.peers, config.powers, keys.keyring)
        self.chain = Chain(chain_id_of(keys.cluster), self.committee, config.genesis_s, verify)
        self.evidence = EvidencePool(self.chain.id, EVIDENCE_PARAMS, verify)
        self.app = self.app_class(env, config)
        # Durable, with what each of them says is.
        self.log = DecidedLog(env, config.batch_bytes_max)
        self.checkpoints = self.checkpoints_class(env, config, keys, self.chain, self.log)
        self.signed = self.signing_class(env, keys, self.chain.id)
        self.lock: Locked | None = None
        self.valid: Valid | None = None
        # Volatile.
        self.applying = Applying(env, self.app, self.chain, self.evidence, self.checkpoints)
        self.transfer = self.transfer_class(env, self.checkpoints)
        self.open = self._open(1)
        self._early: dict[int, dict[type, Proposal | Prevote]] = {}  # by node, one of each kind for the next height
        self._built: NamedBlock | None = None  # the new value that this node made last
        self._wanted: int | None = None  # the round for which a new value is to be made
        self._draft: Draft | None = None  # what the app was asked to fill for it
        self._timeouts: dict[Step, int] = {}  # in which round each was set
        self._place: tuple[int, int, Step] | None = None  # at the last beat
        self._is_stalled = False

    def _open(self, number: int) -> OpenHeight:
        return self.open_class(number, self._keys, self.chain, self.rules_class)

    def restore(self, record: Any) -> None:
        """One durable record."""
        if isinstance(record, Decision):
            self.log.recover(record)
            self._leave(record.height)
        elif isinstance(record, Taken | Stable):
            self.checkpoints.restore(record)
            if isinstance(record, Taken) and record.image.height >= self.signed.height:
                self._leave(record.image.height)
        elif isinstance(record, Valid):
            self.valid = record
            if isinstance(record, Locked):
                self.lock = record
        else:
            self.signed.restore(record)

    def _leave(self, height: int) -> None:
        """It is decided: nothing that was signed for it matters any more."""
        self.signed.advance_to(height + 1)
        self.lock = self.valid = None

    def checkpoint(self) -> Iterator[Any]:
        """The snapshots, and the log since the older one."""
        yield from self.checkpoints.records()
        yield from self.log.decisions
        yield from self.signed.records()
        if self.lock is not None:
            yield self.lock
        if self.valid is not None and self.valid is not self.lock:
            yield self.valid

    def _resume(self) -> None:
        last = self.signed.last
        if last is None:
            return
        own, rules, node = self.signed.proposal, self.open.rules, self.env.id
        if own is not None:
            rules.on_said(said_of(node, own, decode_block(own.block)))
        for (round, step), vote in self.signed.votes.items():
            rules.on_said(SignedVote(node, step, round, vote.value, vote.signature, vote.time_ns))
        locked, valid = (
            (kept.round, decode_block(kept.block).name) if kept else None for kept in (self.lock, self.valid)
        )
        rules.resume(*last, locked, valid)
