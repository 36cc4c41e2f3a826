"""Echo, twice: each handler by its exact effects, and whole groups under a network and disks that do their worst."""

import random

import msgspec
import pytest

from quorate.kernel import (
    Asked,
    Blame,
    Fired,
    Host,
    Received,
    Record,
    Send,
    Stalled,
    Submitted,
    Timer,
    Turn,
)
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Busy, Decided, Dropped, Leads, ReadFailed, ReadReady
from quorate.protocols.echo import (
    TERM,
    Answer,
    Appended,
    Ask,
    Counted,
    Echo,
    EchoConfig,
    Fetch,
    Forward,
    Ordered,
    Taken,
)
from quorate.sim.chance import streams

from tests.kernel.machine import OneNode

SEQUENCER, FOLLOWER, OTHER = PEERS = (1, 2, 3)
SMALL = EchoConfig(resend_s=1.0, message_entries_max=2, message_bytes_max=100, pending_max=3)


def entries(*values: bytes) -> tuple[Entry, ...]:
    return tuple(Entry(TERM, value) for value in values)


def to(node: int, message) -> Send:
    return Send((node,), (), message)


def started(node: int, *records, config: EchoConfig = SMALL) -> Host:
    host = Host(lambda env: Echo(env, config), node, PEERS, streams(0))
    for record in records:
        host.restore(Record((), record))
    host.start(0.0)
    return host


def turn_of(host: Host, *inputs) -> Turn:
    return host.step(inputs, 10.0)


def persisted(*values) -> list[Record]:
    return [Record((), value) for value in values]


# --- one handler, all its effects ---


@pytest.mark.parametrize("node", PEERS)
def test_a_start_begins_a_life_says_who_leads_and_fetches(node):
    host = Host(lambda env: Echo(env, SMALL), node, PEERS, streams(0))
    assert host.start(5.0) == Turn(
        records=persisted(Counted(node, 1, 0)),
        outputs=[Leads(TERM, SEQUENCER)],
        timers=[Timer((), "resend", 6.0)],
        sends=[to(SEQUENCER, Fetch(1))],
    )


def test_a_restart_delivers_the_log_in_pieces_and_begins_the_next_life():
    host = Host(lambda env: Echo(env, SMALL), FOLLOWER, PEERS, streams(0))
    for record in persisted(Counted(FOLLOWER, 4, 0), Appended(entries(b"a", b"b", b"c"))):
        host.restore(record)
    turn = host.start(0.0)
    assert turn.records == persisted(Counted(FOLLOWER, 5, 0))
    assert turn.outputs == [
        Leads(TERM, SEQUENCER),
        Decided(1, entries(b"a", b"b")),
        Decided(3, entries(b"c")),
    ]
    assert turn.sends == [to(SEQUENCER, Fetch(4))]


def test_values_of_a_step_go_to_the_sequencer_together_and_one_batch_at_a_time():
    host = started(FOLLOWER)
    turn = turn_of(host, Submitted((b"a",)), Submitted((b"b", b"c")))
    assert turn == Turn(sends=[to(SEQUENCER, Forward(1, 1, (b"a", b"b")))])
    assert turn_of(host) == Turn(), "the next waits for the answer"
    assert turn_of(host, Received(SEQUENCER, Taken(1, 2))) == Turn(sends=[to(SEQUENCER, Forward(1, 3, (b"c",)))])
    assert turn_of(host, Received(SEQUENCER, Taken(1, 2))) == Turn(), "a duplicate"
    assert turn_of(host, Received(SEQUENCER, Taken(1, 3))) == Turn()
    assert turn_of(host, Fired("resend")).sends == [to(SEQUENCER, Fetch(1))], "nothing is left to send again"


def test_the_sequencer_forwards_to_itself():
    assert turn_of(started(SEQUENCER), Submitted((b"a",))) == Turn(sends=[to(SEQUENCER, Forward(1, 1, (b"a",)))])


def test_too_many_values_and_reads_are_refused():
    host = started(FOLLOWER)
    turn = turn_of(host, Submitted((b"a", b"b")), Submitted((b"c", b"d")), Asked((1, 2, 3, 4)))
    assert turn.outputs == [
        Busy((b"d",), "too many values wait for the sequencer"),
        ReadFailed((4,), "too many reads wait for the sequencer"),
    ]


def test_a_value_larger_than_a_message_may_be_goes_alone():
    turn = turn_of(started(FOLLOWER), Submitted((b"x" * 200, b"y")))
    assert turn.sends == [to(SEQUENCER, Forward(1, 1, (b"x" * 200,)))]


def test_the_sequencer_puts_new_values_in_order_in_one_write():
    host = started(SEQUENCER)
    turn = turn_of(host, Received(FOLLOWER, Forward(1, 1, (b"a", b"b"))), Received(OTHER, Forward(7, 1, (b"c",))))
    assert turn == Turn(
        records=persisted(
            Counted(FOLLOWER, 1, 2), Counted(OTHER, 7, 1), Appended(entries(b"a", b"b")), Appended(entries(b"c"))
        ),
        sends=[
            to(FOLLOWER, Taken(1, 2)),
            to(OTHER, Taken(7, 1)),
            Send(PEERS, (), Ordered(1, entries(b"a", b"b"), 2)),
            Send(PEERS, (), Ordered(3, entries(b"c"), 3)),
        ],
    )


@pytest.mark.parametrize("restart", [False, True])
def test_the_sequencer_takes_a_value_once(restart):
    records = [Counted(FOLLOWER, 2, 2), Appended(entries(b"a", b"b"))]
    host = started(SEQUENCER, *records)
    if restart:
        host = started(SEQUENCER, *(record.value for record in host.checkpoint()))
    again = turn_of(host, Received(FOLLOWER, Forward(2, 1, (b"a", b"b"))))
    assert again == Turn(sends=[to(FOLLOWER, Taken(2, 2))])
    overlap = turn_of(host, Received(FOLLOWER, Forward(2, 2, (b"b", b"c"))))
    assert overlap == Turn(
        records=persisted(Counted(FOLLOWER, 2, 3), Appended(entries(b"c"))),
        sends=[to(FOLLOWER, Taken(2, 3)), Send(PEERS, (), Ordered(3, entries(b"c"), 3))],
    )
    assert turn_of(host, Received(FOLLOWER, Forward(1, 1, (b"old",)))) == Turn(), "an earlier life"
    assert turn_of(host, Received(FOLLOWER, Forward(3, 1, (b"new",)))).records == persisted(
        Counted(FOLLOWER, 3, 1), Appended(entries(b"new"))
    )


def test_the_sequencer_delivers_what_it_hears_from_itself():
    host = started(SEQUENCER)
    turn_of(host, Received(FOLLOWER, Forward(1, 1, (b"a",))))
    assert turn_of(host, Received(SEQUENCER, Ordered(1, entries(b"a"), 1))) == Turn(outputs=[Decided(1, entries(b"a"))])


def test_a_follower_persists_and_delivers_in_order():
    host = started(FOLLOWER)
    assert turn_of(host, Received(SEQUENCER, Ordered(1, entries(b"a", b"b"), 2))) == Turn(
        records=persisted(Appended(entries(b"a", b"b"))), outputs=[Decided(1, entries(b"a", b"b"))]
    )
    assert turn_of(host, Received(SEQUENCER, Ordered(1, entries(b"a", b"b"), 2))) == Turn(), "a duplicate"
    assert turn_of(host, Received(SEQUENCER, Ordered(4, entries(b"d"), 4))) == Turn(), "a gap"
    assert turn_of(host, Received(SEQUENCER, Ordered(2, entries(b"b", b"c"), 4))) == Turn(
        records=persisted(Appended(entries(b"c"))),
        outputs=[Decided(3, entries(b"c"))],
        sends=[to(SEQUENCER, Fetch(4))],
    )


def test_the_sequencer_answers_a_fetch_with_one_batch():
    host = started(SEQUENCER, Appended(entries(b"a", b"b", b"c", b"d")))
    assert turn_of(host, Received(FOLLOWER, Fetch(2))) == Turn(sends=[to(FOLLOWER, Ordered(2, entries(b"b", b"c"), 4))])
    assert turn_of(host, Received(FOLLOWER, Fetch(5))) == Turn(), "it has all"


def test_the_timer_sends_again_what_has_no_answer():
    host = started(FOLLOWER)
    forward, ask = to(SEQUENCER, Forward(1, 1, (b"a",))), to(SEQUENCER, Ask(1, 1))
    assert turn_of(host, Submitted((b"a",)), Asked((7,))) == Turn(sends=[forward, ask])
    again = Turn(timers=[Timer((), "resend", 11.0)], sends=[to(SEQUENCER, Fetch(1)), ask, forward])
    assert turn_of(host, Fired("resend")) == again
    assert turn_of(host, Fired("resend")) == again


def test_a_read_is_ready_when_as_much_is_delivered_as_the_sequencer_had():
    host = started(FOLLOWER)
    assert turn_of(host, Asked((7,)), Asked((8,))) == Turn(sends=[to(SEQUENCER, Ask(1, 1))])
    assert turn_of(host, Asked((9,))) == Turn(), "it shares the next round"
    assert turn_of(host, Received(SEQUENCER, Answer(1, 1, 2))) == Turn()
    assert turn_of(host, Received(SEQUENCER, Ordered(1, entries(b"a"), 1))).outputs == [Decided(1, entries(b"a"))]
    turn = turn_of(host, Received(SEQUENCER, Ordered(2, entries(b"b"), 2)))
    assert turn.outputs == [Decided(2, entries(b"b")), ReadReady((7, 8))]
    assert turn.sends == [to(SEQUENCER, Ask(1, 2))]


def test_answers_to_another_life_or_round_are_not_taken():
    host = started(FOLLOWER, Counted(FOLLOWER, 1, 0))
    assert turn_of(host, Received(SEQUENCER, Answer(2, 0, 0))) == Turn(), "nothing was asked"
    turn_of(host, Asked((7,)))
    for life, number in ((1, 1), (2, 0), (2, 2), (3, 1)):
        assert turn_of(host, Received(SEQUENCER, Answer(life, number, 0))) == Turn()
    for life, last in ((1, 1), (3, 1)):
        assert turn_of(host, Received(SEQUENCER, Taken(life, last))) == Turn()
    assert turn_of(host, Received(SEQUENCER, Answer(2, 1, 0))) == Turn(outputs=[ReadReady((7,))])


def test_the_sequencer_answers_with_its_last_index():
    host = started(SEQUENCER, Appended(entries(b"a", b"b")))
    assert turn_of(host, Received(OTHER, Ask(5, 6))) == Turn(sends=[to(OTHER, Answer(5, 6, 2))])


def test_while_storage_stalls_nothing_is_taken_in():
    forward = Received(FOLLOWER, Forward(1, 1, (b"a",)))
    host = started(SEQUENCER)
    assert turn_of(host, Stalled("disk full"), forward) == Turn()
    assert turn_of(host, Stalled(None), forward).records != ()
    ordered = Received(SEQUENCER, Ordered(1, entries(b"a"), 1))
    host = started(FOLLOWER)
    assert turn_of(host, Stalled("disk full"), ordered) == Turn()
    assert turn_of(host, Stalled(None), ordered).records != ()


SPEAKS, ASTRAY = "speaks as the sequencer, and is not", "takes this node for the sequencer"


@pytest.mark.parametrize(
    ("node", "sender", "message", "why"),
    [
        (FOLLOWER, OTHER, Ordered(1, entries(b"a"), 1), SPEAKS),
        (FOLLOWER, OTHER, Taken(1, 1), SPEAKS),
        (FOLLOWER, OTHER, Answer(1, 1, 1), SPEAKS),
        (SEQUENCER, OTHER, Ordered(1, entries(b"a"), 1), SPEAKS),
        (FOLLOWER, OTHER, Forward(1, 1, (b"a",)), ASTRAY),
        (FOLLOWER, OTHER, Fetch(1), ASTRAY),
        (FOLLOWER, OTHER, Ask(1, 1), ASTRAY),
        (FOLLOWER, SEQUENCER, Taken(1, 2**62 - 1), "took values that were never sent"),
        (SEQUENCER, OTHER, Forward(1, 2, (b"b",)), "left out values"),
        (SEQUENCER, OTHER, Forward(2**62 - 1, 2**62 - 1, (b"b",)), "left out values"),
        (SEQUENCER, OTHER, Fetch(0), "fetches past the end of the log"),
        (SEQUENCER, OTHER, Fetch(2**62 - 1), "fetches past the end of the log"),
    ],
)
def test_what_no_correct_node_sends_is_blamed_and_changes_nothing(node, sender, message, why):
    host = started(node)
    before = host.checkpoint()
    assert turn_of(host, Received(sender, message)) == Turn(blames=[Blame(sender, why)])
    assert host.checkpoint() == before


@pytest.mark.parametrize(
    "message", [Ordered(0, entries(b"a", b"b"), 1), Ordered(2**62 - 1, entries(b"a"), 1), Ordered(1, (), 9)]
)
def test_entries_that_do_not_fit_are_dropped(message):
    assert turn_of(started(FOLLOWER), Received(SEQUENCER, message)) == Turn()


@pytest.mark.parametrize(
    "wrong",
    [
        {"resend_s": 0.0},
        {"resend_s": float("nan")},
        {"message_entries_max": 0},
        {"message_entries_max": 10**6},
        {"message_bytes_max": 0},
        {"pending_max": 0},
    ],
)
def test_a_config_that_cannot_work_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EchoConfig(**wrong)


# --- whole groups ---

WIRE = msgspec.msgpack.Decoder(Forward | Taken | Fetch | Ordered | Ask | Answer)
DISK = msgspec.msgpack.Decoder(Appended | Counted)


def copied(decoder, value):
    """As the other end decodes it."""
    return decoder.decode(msgspec.msgpack.encode(value))


class Group:
    """Three nodes, a bag of messages on their way, and the promises, which are checked as outputs come."""

    def __init__(self, seed: int, core: type[Echo] = Echo) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        config = EchoConfig(resend_s=1.0, message_entries_max=3, message_bytes_max=120, pending_max=8)
        self.nodes = {node: OneNode(lambda env: core(env, config), node, PEERS, seed=node) for node in PEERS}
        self.down: set[int] = set()
        self.flying: list[tuple[int, int, object]] = []
        self.submitted: dict[int, list[bytes]] = {node: [] for node in PEERS}  # by the process that runs now
        self.ever: set[bytes] = set()
        self.decided: list[bytes] = []  # what anybody was told, by index
        self.told = dict.fromkeys(PEERS, 0)  # how much the App of each process knows
        self.asked: dict[int, dict[int, int]] = {node: {} for node in PEERS}  # token to what it must see
        self.serial = 0
        for node in PEERS:
            self.collect(node)

    # What may happen.

    def step(self, node: int, item) -> None:
        turn = self.nodes[node].step(item, now=self.now)
        assert not turn.blames, "a correct node is blamed"
        self.collect(node)

    def receive(self, keep: bool = False) -> None:
        """Any message on its way arrives; it may arrive again."""
        if self.flying:
            at = self.rng.randrange(len(self.flying))
            sender, node, message = self.flying[at] if keep else self.flying.pop(at)
            if node not in self.down:
                self.step(node, Received(sender, copied(WIRE, message)))

    def lose(self) -> None:
        others = [at for at, (sender, node, _) in enumerate(self.flying) if sender != node]
        if others:
            del self.flying[self.rng.choice(others)]

    def submit(self, node: int) -> None:
        values = [b"%d" % (self.serial + more) for more in range(self.rng.randrange(1, 4))]
        self.serial += len(values)
        self.submitted[node] += values
        self.ever.update(values)
        self.step(node, Submitted(tuple(values)))

    def ask(self, node: int) -> None:
        self.serial += 1
        self.asked[node][self.serial] = len(self.decided)
        self.step(node, Asked((self.serial,)))

    def sync(self, node: int) -> None:
        self.nodes[node].sync()
        self.collect(node)

    def crash(self, node: int) -> None:
        """Some of what was not synced may be on the disk; what the process sent to itself is gone."""
        self.nodes[node].crash(lucky=self.rng.randrange(3))
        self.down.add(node)
        self.flying = [(sender, to, m) for sender, to, m in self.flying if not sender == to == node]

    def restart(self, node: int) -> None:
        machine = self.nodes[node]
        if self.rng.random() < 0.3 and machine.journal:  # compact the journal first
            machine.journal = [machine_checkpoint(machine)]
        machine.journal = [[Record((), copied(DISK, r.value)) for r in records] for records in machine.journal]
        self.down.discard(node)
        self.told[node], self.asked[node], self.submitted[node] = 0, {}, []
        machine.boot(self.now)
        self.collect(node)

    def any(self) -> None:
        """One thing happens."""
        node = self.rng.choice(PEERS)
        dice = self.rng.random()
        if node in self.down:
            if dice < 0.2:
                self.restart(node)
        elif dice < 0.45:
            self.receive(keep=self.rng.random() < 0.2)
        elif dice < 0.5:
            self.lose()
        elif dice < 0.65:
            self.sync(node)
        elif dice < 0.75:
            self.submit(node)
        elif dice < 0.85:
            self.ask(node)
        elif dice < 0.97:
            self.now += 1.0
            self.step(node, Fired("resend"))
        else:
            self.crash(node)

    def heal(self) -> None:
        """All nodes are up, nothing is lost any more, time goes on."""
        for node in sorted(self.down):
            self.restart(node)
        for _ in range(60):
            self.now += 1.0
            for node in PEERS:
                self.step(node, Fired("resend"))
                self.sync(node)
            while self.flying:
                self.receive()
                for node in PEERS:
                    self.sync(node)

    # What must be true.

    def collect(self, node: int) -> None:
        machine = self.nodes[node]
        sent, machine.sent = machine.sent, []
        self.flying += [(node, to, send.message) for send in sent for to in send.to]
        outputs, machine.outputs = machine.outputs, []
        for output in outputs:
            if isinstance(output, Decided):
                self.check_committed(node, output)
            elif isinstance(output, ReadReady):
                for token in output.tokens:
                    assert self.told[node] >= self.asked[node].pop(token), "a read that is stale"
            elif isinstance(output, ReadFailed):
                for token in output.tokens:
                    del self.asked[node][token]
            elif isinstance(output, Dropped):
                self.ever.difference_update(output.values)
                self.submitted[node] = [v for v in self.submitted[node] if v not in output.values]

    def check_committed(self, node: int, output: Decided) -> None:
        assert output.first_index == self.told[node] + 1, "in order, without gaps"
        for index, entry in enumerate(output.entries, output.first_index):
            if index > len(self.decided):
                assert entry.data in self.ever, "nobody submitted it, or it was refused"
                assert entry.data not in self.decided, "decided twice"
                self.decided.append(entry.data)
            assert self.decided[index - 1] == entry.data, "nodes disagree"
        self.told[node] += len(output.entries)

    def check_end(self) -> None:
        for node in PEERS:
            assert self.told[node] == len(self.decided), "all have all"
            mine = set(self.submitted[node])
            assert [v for v in self.decided if v in mine] == self.submitted[node], "each value, in its order"
            assert self.asked[node] == {}, "each read has been answered"


def machine_checkpoint(machine: OneNode) -> list[Record]:
    """What a compacted journal would hold."""
    host = Host(lambda env: Echo(env), machine.node, PEERS, streams(0))
    for records in machine.journal:
        for record in records:
            host.restore(record)
    return host.checkpoint()


def run(seed: int, core: type[Echo] = Echo, steps: int = 300) -> Group:
    group = Group(seed, core)
    for _ in range(steps):
        group.any()
    group.heal()
    group.check_end()
    return group


def test_groups_agree_and_lose_nothing():
    decided = sum(len(run(seed).decided) for seed in range(60))
    assert decided > 1000, "the runs did something"


def test_a_seed_is_a_run():
    assert run(7).decided == run(7).decided


def test_without_the_sequencer_nothing_new_is_decided_until_it_is_back():
    group = Group(1)
    group.crash(SEQUENCER)
    group.submit(FOLLOWER)
    group.ask(OTHER)
    for _ in range(5):
        for node in (FOLLOWER, OTHER):
            group.step(node, Fired("resend"))
            group.sync(node)
        while group.flying:
            group.receive()
    assert group.decided == []
    group.heal()
    group.check_end()
    assert group.decided == group.submitted[FOLLOWER] != []


# --- planted bugs: the runs above count for something only if they catch these ---


class SendsBeforeTheWrite(Echo):
    """Breaks the durability rule."""

    def settle(self):
        class Hasty:
            def __init__(self, env):
                self.env = env

            def __getattr__(self, name):
                return getattr(self.env, name)

            def broadcast(self, message):
                self.env.send_now(self.env.others, message)
                self.env.send(self.env.id, message)

        env, self.env = self.env, Hasty(self.env)
        super().settle()
        self.env = env


class CountsNothing(Echo):
    """A value that comes twice is put in order twice."""

    def _count(self, node, life, last):
        if node == self.env.id:
            super()._count(node, life, last)


class ForgetsCounts(Echo):
    """The counts are not durable."""

    def restore(self, record):
        if isinstance(record, Appended) or record.node == self.env.id:
            super().restore(record)


class LivesOnce(Echo):
    """Each process numbers its values and rounds as the one before it did."""

    def start(self):
        self.counted.pop(self.env.id, None)
        super().start()


class ReadsLocally(Echo):
    """A follower serves reads from whatever it has."""

    def read(self, tokens):
        self.env.deliver(ReadReady(tuple(tokens)))


class TakesAnyAnswer(Echo):
    """Answers to earlier rounds and lives count."""

    def on_answer(self, sender, message):
        super().on_answer(sender, Answer(self.life, self._round, message.index))


class JumpsGaps(Echo):
    """Takes what comes for what is next."""

    def on_ordered(self, sender, message):
        super().on_ordered(sender, Ordered(self.delivered + 1, message.entries, message.last_index))


class NeverResends(Echo):
    """A lost message stays lost."""

    def on_timer(self, key):
        self.env.set_timer("resend", self.config.resend_s)


MUTANTS = [
    SendsBeforeTheWrite,
    CountsNothing,
    ForgetsCounts,
    LivesOnce,
    ReadsLocally,
    TakesAnyAnswer,
    JumpsGaps,
    NeverResends,
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_runs_catch_a_planted_bug(mutant):
    for seed in range(60):
        try:
            run(seed, mutant)
        except AssertionError:
            return
    pytest.fail(f"{mutant.__name__} was not caught")
