"""MemoryStore: whatever is written, synced and lost, what is left is a prefix of the batches with all synced ones."""

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import App, Core, Requester, Rng
from quorate.sim.memory_store import UNSYNCED_BATCHES_MAX, MemoryStore
from quorate.sim.options import Options
from quorate.sim.run import simulate
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.workload import Results, Subject, Workload
from quorate.sim.world import World

from tests.sim.worlds import NoApp

Batch = Mapping[bytes, bytes | None]

KEYS = st.binary(max_size=2)
BATCHES = st.dictionaries(KEYS, st.one_of(st.none(), st.binary(max_size=2)), max_size=4)
ACTIONS = st.lists(st.one_of(BATCHES, st.just("sync"), st.integers(0, 2**32)), max_size=40)


class NothingKept(Random):
    """Draws 0 each time."""

    def random(self) -> float:
        return 0.0


def replay(batches: Iterable[Batch]) -> dict[bytes, bytes]:
    """What these batches make of nothing."""
    content: dict[bytes, bytes] = {}
    for batch in batches:
        for key, value in batch.items():
            if value is None:
                content.pop(key, None)
            else:
                content[key] = value
    return content


@given(ACTIONS)
def test_the_content_is_a_prefix_of_the_batches_that_covers_all_synced_ones(actions: list[Any]) -> None:
    store = MemoryStore()
    batches: list[Batch] = []
    synced = 0
    for action in actions:
        if action == "sync":
            store.sync()
            synced = len(batches)
        elif isinstance(action, int):
            lost = store.batches_lost
            store.crash(Random(action))
            kept = len(batches) - (store.batches_lost - lost)
            assert synced <= kept <= len(batches)
            batches = batches[:kept]
            synced = kept
        else:
            store.write(action)
            batches.append(action)
        assert store.items() == sorted(replay(batches).items())


@given(BATCHES, BATCHES, KEYS)
def test_reading(first: Batch, second: Batch, prefix: bytes) -> None:
    store = MemoryStore()
    store.write(first)
    store.write(second)
    content = replay([first, second])
    assert store.items(prefix) == sorted(item for item in content.items() if item[0].startswith(prefix))
    assert store.get(prefix) == content.get(prefix)
    assert len(store) == len(content)


def test_a_crash_keeps_every_prefix_now_and_then() -> None:
    left = set()
    for seed in range(100):
        store = MemoryStore()
        store.write({b"a": b"0"})
        store.sync()
        for number in (1, 2, 3):
            store.write({b"a": b"%d" % number, b"b%d" % number: b""})
        store.crash(Random(seed))
        left.add(store.get(b"a"))
        assert [key for key, _ in store.items(b"b")] == [b"b%d" % n for n in range(1, 1 + int(store.get(b"a") or b""))]
    assert left == {b"0", b"1", b"2", b"3"}


def test_what_survived_a_crash_is_durable() -> None:
    for seed in range(20):
        store = MemoryStore()
        store.write({b"a": b"1"})
        store.crash(Random(seed))
        left = store.items()
        store.crash(Random(seed + 1))
        assert store.items() == left


def test_what_is_never_synced_becomes_durable_by_itself_one_day() -> None:
    store = MemoryStore()
    for number in range(UNSYNCED_BATCHES_MAX + 5):
        store.write({b"count": b"%d" % (number + 1)})
    store.crash(NothingKept())
    assert store.get(b"count") == b"5"
    assert store.batches_lost == UNSYNCED_BATCHES_MAX


# --- in a world ---


class Counting(NoApp):
    """Counts the requests that it got, all its lives long, and syncs every third."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self.store = store

    @property
    def count(self) -> int:
        return int(self.store.get(b"count") or b"0")

    def request(self, client: Requester, request: Any) -> None:
        self.store.write({b"count": b"%d" % (self.count + 1), b"seen %04d" % self.count: b""})
        if self.count % 3 == 0:
            self.store.sync()


class Requests(Workload):
    """One request each 10 ms to every node."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def start(self) -> None:
        self.world.after(0.01, self._ask)

    def _ask(self) -> None:
        self.operations += 1
        for node in self.world.nodes:
            node.request(0, None)
        self.world.after(0.01, self._ask)


class Stores(Subject):
    """Every life of a node gets the node's store."""

    def __init__(self) -> None:
        self.stores: dict[int, MemoryStore] = {}
        self.crashes: list[tuple[int, float]] = []
        self.lives = 0

    def app(self, node: int, rng: Rng) -> App:
        self.lives += 1
        return Counting(self.stores.setdefault(node, MemoryStore()))

    def workload(self, world: World) -> Workload:
        return Requests(world)

    def crashed(self, node: int, rng: Rng) -> None:
        before = len(self.stores[node])
        self.stores[node].crash(rng)
        self.crashes.append((node, before - len(self.stores[node])))

    def results(self, world: World) -> Results:
        lost = sum(store.batches_lost for store in self.stores.values())
        return Results(counts={"batches lost": lost}, data=[b"%r" % (self.crashes,)])


def test_a_store_outlives_its_process_and_loses_what_was_not_synced() -> None:
    mix = Mix(crash_every_s=0.1, down_s=0.05)
    subject, again = Stores(), Stores()
    outcome = simulate(Trial(Core, subject, Options(seed=1, nodes=3, duration_s=5.0), mix=mix))
    assert outcome.holds, outcome.text
    assert outcome.operations > 400
    assert subject.lives == 3 + len(subject.crashes) > 20
    assert {lost for _, lost in subject.crashes} == {0, 1, 2}
    assert outcome.counts["batches lost"] == sum(lost for _, lost in subject.crashes)
    for store in subject.stores.values():
        count = int(store.get(b"count") or b"0")
        assert 100 < count < outcome.operations
        assert [key for key, _ in store.items(b"seen")] == [b"seen %04d" % number for number in range(count)]
    assert simulate(Trial(Core, again, Options(seed=1, nodes=3, duration_s=5.0), mix=mix)) == outcome
    assert again.crashes == subject.crashes
