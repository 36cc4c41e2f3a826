"""The simulated disk: group commit, crashes, checkpoints, stalls."""

from collections.abc import Callable
from random import Random

from quorate.kernel import Record
from quorate.sim.disk import Disk


class Bench:
    """A disk, and a clock that runs what is due."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 0.0
        self.due: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.synced: list[int] = []
        self.disk = Disk(Random(seed), 0.01, self._after)
        self.disk.synced = self.synced.append

    def _after(self, delay_s: float, act: Callable[[], None]) -> None:
        self.count += 1
        self.due.append((self.now + delay_s, self.count, act))

    def run(self) -> None:
        """Until nothing is due."""
        while self.due:
            self.due.sort(key=lambda item: item[:2])
            self.now, _, act = self.due.pop(0)
            act()

    def write(self, *numbers: int) -> None:
        """A frame for each number."""
        for number in numbers:
            self.disk.append([Record((), number)])

    @property
    def journal(self) -> list[int]:
        """What is durable."""
        return [record.value for frame in self.disk.journal for record in frame]


def test_frames_become_durable_in_order_by_few_syncs() -> None:
    bench = Bench()
    bench.write(1, 2, 3)
    assert bench.journal == []
    bench.run()
    assert bench.journal == [1, 2, 3]
    assert bench.synced == [1, 3], "the first alone, then those that waited for it"
    assert 0.01 <= bench.now <= 0.03


def test_a_crash_leaves_a_prefix_and_every_prefix_is_possible() -> None:
    left = []
    for seed in range(100):
        bench = Bench(seed)
        bench.write(1, 2)
        bench.run()
        bench.write(3, 4, 5)
        bench.disk.crash()
        assert bench.journal == [1, 2, 3, 4, 5][: len(bench.journal)]
        left.append(len(bench.journal))
        assert bench.disk.frames_lost == 5 - left[-1]
        bench.run()
        assert bench.synced[-1] == 2, "a sync of the life before tells nobody"
    assert sorted(set(left)) == [2, 3, 4, 5]


def test_a_checkpoint_replaces_all_before_it_or_nothing() -> None:
    left = set()
    for seed in range(40):
        bench = Bench(seed)
        bench.write(1, 2)
        bench.run()
        bench.disk.replace([Record((), 12)])
        bench.write(3)
        assert bench.journal == [1, 2]
        bench.disk.crash()
        left.add(tuple(bench.journal))
    assert sorted(left) == [(1, 2), (12,), (12, 3)]


def test_a_stall_lets_a_sync_end_and_begins_no_other() -> None:
    bench = Bench()
    bench.write(1)
    bench.disk.stall("full")
    bench.write(2, 3)
    bench.run()
    assert bench.journal == [1]
    bench.disk.stall(None)
    bench.run()
    assert bench.journal == [1, 2, 3]


def test_a_slow_disk_is_slow() -> None:
    bench = Bench()
    bench.disk.slowness = 100.0
    bench.write(1)
    bench.run()
    assert bench.now >= 0.5
