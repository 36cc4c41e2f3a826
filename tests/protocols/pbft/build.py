"""Builders for tests of PBFT: keys, signed requests, one node with exact effects, whole groups."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from quorate.kernel import Env, Fired, Host, Input, Job, Received, Record, Send, Submitted, Turn
from quorate.kernel.inputs import Done
from quorate.parts import requests
from quorate.parts.keys import Symbolic, VerifyBatch
from quorate.protocols.pbft import Pbft, PbftConfig
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    PREPARE,
    Checkpoint,
    Commit,
    Prepare,
    PrePrepare,
    checkpoint_statement,
    digest_of,
    order_statement,
)

from tests.protocols.cluster import Cluster

FOUR = (1, 2, 3, 4)
SCHEME = Symbolic(range(1, 14))
CONFIG = PbftConfig(checkpoint_batches=2, window=4, snapshot_batches=4, batch_count_max=4, chunk_bytes=16)


def request(text: str, client: int = 0) -> bytes:
    """A signed request with one command."""
    return requests.sign(SCHEME.client(client), [text.encode()])


X, Y, Z = request("x"), request("y"), request("z")


class Node:
    """One Host, number 2 (a backup of view 0 among 1 to 4) unless told. A method takes one step and returns its Turn.

    Signatures of requests are checked at once: their jobs do not show.
    """

    def __init__(
        self,
        node: int = 2,
        peers: tuple[int, ...] = FOUR,
        *,
        records: Sequence[Any] = (),
        config: PbftConfig = CONFIG,
        make: Callable[[Env, PbftConfig, Any], Pbft] = Pbft,
    ) -> None:
        self.host = Host(lambda env: make(env, config, SCHEME.keys(env.id)), node, peers, random.Random(node))
        self.now = 10.0
        for record in records:
            self.host.restore(Record((), record))
        self.started = self.host.start(self.now)

    @property
    def core(self) -> Any:
        """The core, to look at."""
        return self.host.root

    @property
    def records(self) -> list[Any]:
        """What a compacted journal would hold."""
        return [record.value for record in self.host.checkpoint()]

    def step(self, *inputs: Input) -> Turn:
        """Inputs of one step, and what the checks of signatures that it asks for bring."""
        turn = self.host.step(inputs, self.now)
        while checks := [job for job in turn.jobs if isinstance(job.work, VerifyBatch)]:
            rest = [job for job in turn.jobs if job not in checks]
            more = self.host.step([self._check(job) for job in checks], self.now)
            turn = Turn(
                early=[*turn.early, *more.early],
                records=[*turn.records, *more.records],
                sends=[*turn.sends, *more.sends],
                timers=[*turn.timers, *more.timers],
                jobs=[*rest, *more.jobs],
                outputs=[*turn.outputs, *more.outputs],
                blames=[*turn.blames, *more.blames],
            )
        return turn

    def _check(self, job: Job) -> Done:
        return Done(job.key, SCHEME.keyring().verify_batch(job.work), job.path)

    def on(self, sender: int, *messages: Any) -> Turn:
        """Messages of one sender, in one step."""
        return self.step(*[Received(sender, message) for message in messages])

    def submit(self, *values: bytes) -> Turn:
        """Requests of clients."""
        return self.step(Submitted(values))

    def fire(self, key: str, after_s: float = 0.0) -> Turn:
        """Time passes, and a timer runs out."""
        self.now += after_s
        return self.step(Fired(key))


class PbftCluster(Cluster):
    """Nodes 1 to ``size``."""

    def __init__(self, size: int = 4, *, config: PbftConfig = CONFIG, make: type[Pbft] = Pbft, **options: Any) -> None:
        super().__init__(lambda env: make(env, config, SCHEME.keys(env.id)), size, keyring=SCHEME.keyring(), **options)


# --- messages as their senders would make them ---


def pre_prepare(sequence: int, *batch: bytes, view: int = 0, primary: int | None = None) -> PrePrepare:
    """From the view's primary."""
    digest = digest_of(batch)
    signer = SCHEME.signer(FOUR[view % 4] if primary is None else primary)
    return PrePrepare(view, sequence, digest, signer.sign(PREPARE, order_statement(view, sequence, digest)), batch)


def prepare(node: int, proposal: PrePrepare) -> Prepare:
    """A backup's answer."""
    statement = order_statement(proposal.view, proposal.sequence, proposal.digest)
    signature = SCHEME.signer(node).sign(PREPARE, statement)
    return Prepare(proposal.view, proposal.sequence, proposal.digest, signature, proposal.signature)


def commit(node: int, proposal: PrePrepare, peers: tuple[int, ...] = FOUR) -> Commit:
    """With a MAC for each."""
    core = Node(node, peers).core
    message: Commit = core.group.commit(proposal.view, proposal.sequence, proposal.digest, True)
    return message


def checkpoint(node: int, sequence: int, index: int, history: bytes) -> Checkpoint:
    """A node's word for how far it is."""
    signature = SCHEME.signer(node).sign(CHECKPOINT, checkpoint_statement(sequence, index, history))
    return Checkpoint(sequence, index, history, signature)


def to(nodes: int | tuple[int, ...], message: Any) -> Send:
    """One message on its way."""
    return Send((nodes,) if isinstance(nodes, int) else nodes, (), message)


def written(*values: Any) -> list[Record]:
    """Durable records of the root."""
    return [Record((), value) for value in values]
