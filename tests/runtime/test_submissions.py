"""Submissions: in order, a bounded share at a time, when the journal is quiet and the batch before is decided."""

from quorate.kernel import Submitted
from quorate.runtime.submissions import Submissions

from tests.runtime.servers import run, until


class Line:
    """Submissions, and how often they asked to be taken."""

    def __init__(self, *, gathers: bool = True) -> None:
        self.wakes = 0
        self.waiting = Submissions(self._wake, gathers=gathers)

    def _wake(self) -> None:
        self.wakes += 1

    def take(self, *, is_quiet: bool = True) -> list[tuple[bytes, ...]]:
        return [item.values for item in self.waiting.take(is_quiet=is_quiet)]


def test_they_are_taken_in_order_a_bounded_share_at_a_time() -> None:
    line = Line()
    line.waiting.add([bytes([n]) * 1_500_000 for n in range(7)], ())
    counts = []
    while line.waiting:
        [values] = line.take()
        counts.append(len(values))
        line.waiting.decided()
    assert counts == [3, 3, 1]
    small = [b"%d" % n for n in range(20_000)]
    line.waiting.add(small, ())
    parts: list[tuple[bytes, ...]] = []
    while line.waiting:
        parts += line.take()
        line.waiting.decided()
    assert [value for part in parts for value in part] == small
    assert list(map(len, parts)) == [8192, 8192, 3616]


def test_they_wait_for_a_quiet_journal() -> None:
    line = Line()
    line.waiting.add([b"a"], ())
    assert line.take(is_quiet=False) == []
    line.waiting.add([b"b"], ())
    assert line.take() == [(b"a", b"b")]


def test_they_wait_for_the_batch_before_them_but_not_long() -> None:
    async def main() -> None:
        line = Line()
        line.waiting.add([b"a"], ())
        assert line.take() == [(b"a",)]
        line.waiting.add([b"b"], ())
        assert line.take() == []
        line.waiting.decided()
        assert line.wakes == 1
        assert line.take() == [(b"b",)]
        line.waiting.add([b"c"], ())
        assert line.take() == []
        await until(lambda: line.wakes == 2)  # nothing was decided, and enough time has passed
        if not (taken := line.take()):  # uvloop's timers count whole milliseconds, and this one came early
            await until(lambda: line.wakes == 3)
            taken = line.take()
        assert taken == [(b"c",)]

    run(main())


def test_a_core_that_only_passes_them_on_gets_them_at_once() -> None:
    line = Line(gathers=False)
    line.waiting.add([b"a"], ())
    assert line.take(is_quiet=False) == [(b"a",)]
    line.waiting.add([b"b"], ())
    assert line.take(is_quiet=False) == [(b"b",)], "and neither for what is undecided"


def test_each_path_has_its_own() -> None:
    line = Line()
    line.waiting.add([b"a"], (("group", 1),))
    line.waiting.add([b"b"], (("group", 2),))
    line.waiting.add([b"c"], (("group", 1),))
    found = line.waiting.take(is_quiet=True)
    assert found == [Submitted((b"a", b"c"), (("group", 1),)), Submitted((b"b",), (("group", 2),))]
