"""Log against a plain list of everything ever appended, under appends, truncations and compactions."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quorate.parts.log.entries import ENTRY_OVERHEAD_BYTES, Entry, Log


class LogMachine(RuleBasedStateMachine):
    """The model is ``terms`` and ``entries`` from index 1 on, of which the Log forgets what lies below ``base``."""

    @initialize()
    def begin(self):
        self.log = Log()
        self.model = [Entry(0)]  # so that model[index] is the entry at index
        self.base = 0

    @property
    def last(self):
        return len(self.model) - 1

    def index(self, data, low, high):
        return data.draw(st.integers(low, high))

    @rule(sizes=st.lists(st.sampled_from([0, 8, 40]), max_size=5), step=st.integers(0, 2))
    def append(self, sizes, step):
        entries = [Entry(self.model[-1].term + step, b"x" * size) for size in sizes]
        self.log.append(entries)
        self.model += entries

    @rule(data=st.data())
    def truncate(self, data):
        first = self.index(data, self.base + 1, self.last + 2)
        self.log.truncate(first)
        del self.model[first:]

    @rule(data=st.data())
    def compact(self, data):
        index = self.index(data, self.base, self.last)
        self.log.compact(index, self.model[index].term)
        self.base = index

    @rule(data=st.data(), beyond=st.booleans())
    def compact_where_the_log_disagrees(self, data, beyond):
        """A leader's snapshot is ahead of the log, or of another history: nothing of the log stays."""
        index = self.last + 1 if beyond else self.index(data, self.base, self.last)
        term = self.model[-1].term + 1
        self.log.compact(index, term)
        self.model = [*self.model[:index], Entry(term)]
        self.base = index

    @rule(data=st.data())
    def slices(self, data):
        first = self.index(data, self.base + 1, self.last + 1)
        last = self.index(data, first - 1, self.last)
        assert self.log.slice(first, last) == self.model[first : last + 1]

    @rule(data=st.data(), count_max=st.integers(1, 6), bytes_max=st.integers(0, 18).map(lambda n: 8 * n))
    def batches(self, data, count_max, bytes_max):
        first = self.index(data, self.base + 1, self.last + 2)
        batch = self.log.batch(first, count_max, bytes_max)
        rest = self.model[first:]
        assert batch == rest[: len(batch)]
        assert len(batch) <= count_max
        assert len(batch) == 1 or sum(entry.size_bytes for entry in batch) <= bytes_max or not rest
        if len(batch) < min(count_max, len(rest)):
            assert batch, "one goes, however large"
            assert sum(entry.size_bytes for entry in rest[: len(batch) + 1]) > bytes_max, "no smaller than it must be"

    @rule(data=st.data(), above=st.integers(0, 3), more=st.integers(-2, 2))
    def asks_for_the_last_at_or_below_a_term(self, data, above, more):
        index = self.index(data, self.base, self.last) + above
        term = self.model[self.index(data, self.base, self.last)].term + more
        fits = [i for i in range(self.base + 1, self.last + 1) if i <= index and self.model[i].term <= term]
        assert self.log.last_at_or_below_term(index, term) == (fits[-1] if fits else self.base)

    @invariant()
    def agrees(self):
        log, model = self.log, self.model
        held = model[self.base + 1 :]
        assert (log.base_index, log.base_term) == (self.base, model[self.base].term)
        assert (len(log), log.last_index, log.last_term) == (len(held), self.last, model[-1].term)
        assert log.size_bytes == sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in held)
        assert [log.term_at(i) for i in range(self.base, self.last + 1)] == [entry.term for entry in model[self.base :]]
        assert log.term_at(self.base - 1) is None
        assert log.term_at(self.last + 1) is None


LogMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLog = LogMachine.TestCase


def test_what_the_log_does_not_hold_is_refused():
    """A negative position would quietly be counted from the end of a Python list."""
    log = Log()
    log.append([Entry(1), Entry(1), Entry(2)])
    log.compact(2, 1)
    for call in (
        lambda: log.slice(2, 3),
        lambda: log.slice(3, 4),
        lambda: log.batch(2, 10, 10),
        lambda: log.truncate(2),
        lambda: log.compact(1, 1),
    ):
        with pytest.raises(AssertionError):
            call()
    assert (log.base_index, len(log)) == (2, 1)
