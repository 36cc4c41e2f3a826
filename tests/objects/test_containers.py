"""ReplicatedDict, ReplicatedList, ReplicatedSet and Counter by random programs against plain Python containers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.objects import Counter, ReplicatedDict, ReplicatedList, ReplicatedSet
from quorate.objects.arguments import PAGE_MAX

from tests.objects.replicas import RESTART, Pair, run

keys = st.sampled_from(["a", "b", "c", 1, 2, None, b"x", (1, "a")])
values = st.one_of(st.integers(-3, 3), st.text(max_size=2), st.lists(st.integers(0, 2), max_size=2), st.none())
indexes = st.integers(-3, 3)
starts, limits = st.integers(-1, 4), st.integers(0, 4)


def programs(**methods: Any) -> Any:
    """Lists of calls; each method has a tuple of strategies, one for each argument."""
    steps = [st.tuples(st.just(name), st.tuples(*arguments)) for name, arguments in methods.items()]
    return st.lists(st.one_of(*steps, st.just((RESTART, ()))), max_size=25)


def page(found: Any, start: int, limit: int) -> list[Any]:
    if start < 0 or limit < 1:
        raise ValueError
    return list(found)[start : start + limit]


class DictModel(dict[Any, Any]):
    def put(self, key: Any, value: Any) -> None:
        self[key] = value

    def discard(self, key: Any) -> bool:
        return super().pop(key, self) is not self

    def compare_and_set(self, key: Any, expected: Any, value: Any) -> bool:
        if [found for name, found in super().items() if name == key] != [expected]:
            return False
        self[key] = value
        return True

    def keys(self, start: int, limit: int) -> list[Any]:  # type: ignore[override]
        return page(self, start, limit)

    def items(self, start: int, limit: int) -> list[Any]:  # type: ignore[override]
        return page(super().items(), start, limit)


class ListModel(list[Any]):
    def append(self, value: Any) -> int:  # type: ignore[override]
        self += [value]
        return len(self) - 1

    def extend(self, values: Any) -> int:  # type: ignore[override]
        self += values
        return len(self)

    def put(self, index: int, value: Any) -> None:
        self[index] = value

    def get(self, index: int) -> Any:
        return self[index]

    def compare_and_set(self, index: int, expected: Any, value: Any) -> bool:
        same = bool(self[index] == expected)
        self[index] = value if same else self[index]
        return same

    def page(self, start: int, limit: int) -> list[Any]:
        return page(self, start, limit)


class SetModel:
    """In the order of insertion: a list without doubles."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def add(self, element: Any) -> bool:
        is_new = element not in self.found
        self.found += [element] if is_new else []
        return is_new

    def update(self, elements: list[Any]) -> int:
        return sum([self.add(element) for element in elements])

    def discard(self, element: Any) -> bool:
        was_there = element in self.found
        self.found = [other for other in self.found if other != element]
        return was_there

    def remove(self, element: Any) -> None:
        if not self.discard(element):
            raise KeyError(element)

    def pop(self) -> Any:
        if not self.found:
            raise KeyError
        return self.found.pop()

    def clear(self) -> None:
        self.found = []

    def __contains__(self, element: Any) -> bool:
        return element in self.found

    def __len__(self) -> int:
        return len(self.found)

    def page(self, start: int, limit: int) -> list[Any]:
        return page(self.found, start, limit)


class CounterModel:
    value = 0

    def add(self, n: int) -> int:
        self.value += n
        return self.value

    def reset(self, value: int) -> int:
        before, self.value = self.value, value
        return before

    def compare_and_set(self, expected: int, value: int) -> bool:
        before = self.value
        self.value = value if before == expected else before
        return before == expected

    def get(self) -> int:
        return self.value


@given(
    programs(
        put=(keys, values),
        __setitem__=(keys, values),
        update=(st.dictionaries(keys, values, max_size=3),),
        setdefault=(keys, values),
        compare_and_set=(keys, values, values),
        pop=(keys,),
        __delitem__=(keys,),
        discard=(keys,),
        clear=(),
        get=(keys, values),
        __getitem__=(keys,),
        __contains__=(keys,),
        __len__=(),
        keys=(starts, limits),
        items=(starts, limits),
    )
)
@settings(max_examples=60, deadline=None)
def test_a_dict_is_a_dict(program: Any) -> None:
    model = DictModel()
    pair = run(ReplicatedDict, model, program)
    assert list(pair.state.entries.items()) == list(dict(model).items())


@given(
    programs(
        append=(values,),
        extend=(st.lists(values, max_size=3),),
        insert=(indexes, values),
        put=(indexes, values),
        __setitem__=(indexes, values),
        compare_and_set=(indexes, values, values),
        pop=(indexes,),
        __delitem__=(indexes,),
        remove=(values,),
        clear=(),
        get=(indexes,),
        __getitem__=(indexes,),
        __contains__=(values,),
        __len__=(),
        page=(starts, limits),
    )
)
@settings(max_examples=60, deadline=None)
def test_a_list_is_a_list(program: Any) -> None:
    model = ListModel()
    pair = run(ReplicatedList, model, program)
    assert pair.state.entries == list(model)


@given(
    programs(
        add=(keys,),
        update=(st.lists(keys, max_size=3),),
        discard=(keys,),
        remove=(keys,),
        pop=(),
        clear=(),
        __contains__=(keys,),
        __len__=(),
        page=(starts, limits),
    )
)
@settings(max_examples=60, deadline=None)
def test_a_set_is_a_set_in_the_order_of_insertion(program: Any) -> None:
    model = SetModel()
    pair = run(ReplicatedSet, model, program)
    assert list(pair.state.entries) == model.found


@given(
    programs(
        add=(st.integers(),),
        reset=(st.integers(-5, 5),),
        compare_and_set=(st.integers(-5, 5), st.integers(-5, 5)),
        get=(),
    )
)
@settings(max_examples=60, deadline=None)
def test_a_counter_counts(program: Any) -> None:
    model = CounterModel()
    assert run(Counter, model, program).state.value == model.value


def test_what_cannot_be_counted_or_paged_is_refused_in_words() -> None:
    counter = Pair(Counter)
    for bad in (0.5, True, "1", None):
        with pytest.raises(TypeError, match=f"n is an int, not {type(bad).__name__}"):
            counter.call("add", bad)
        with pytest.raises(TypeError, match="value is an int"):
            counter.call("compare_and_set", 0, bad)
    assert counter.call("get") == 0
    entries = Pair(ReplicatedList)
    entries.call("extend", list(range(PAGE_MAX + 5)))
    assert entries.call("page") == list(range(PAGE_MAX))
    assert entries.call("page", PAGE_MAX) == list(range(PAGE_MAX, PAGE_MAX + 5))
    with pytest.raises(ValueError, match=f"limit is at most {PAGE_MAX}, not {PAGE_MAX + 1}"):
        entries.call("page", 0, PAGE_MAX + 1)
    with pytest.raises(TypeError, match="index is an int, not str"):
        entries.call("put", "0", 1)


def test_pages_follow_one_another() -> None:
    entries, elements = Pair(ReplicatedDict), Pair(ReplicatedSet)
    entries.call("update", {number: -number for number in range(7)})
    elements.call("update", list(range(7)))
    assert [entries.call("keys", start, 3) for start in (0, 3, 6, 9)] == [[0, 1, 2], [3, 4, 5], [6], []]
    assert [entries.call("items", start, 3) for start in (3, 6)] == [[(3, -3), (4, -4), (5, -5)], [(6, -6)]]
    assert [elements.call("page", start, 3) for start in (0, 3, 6, 9)] == [[0, 1, 2], [3, 4, 5], [6], []]


def test_of_an_update_that_is_refused_nothing_stays() -> None:
    for kind, method, wrong in (
        (ReplicatedDict, "update", {"a": 1, "b": float("nan")}),
        (ReplicatedList, "extend", [1, float("nan")]),
        (ReplicatedSet, "update", [1, [2]]),
    ):
        pair = Pair(kind)
        with pytest.raises(TypeError):
            pair.call(method, wrong)
        assert pair.call("__len__") == 0
        pair.restart()


def test_compare_and_set_changes_only_what_is_as_expected() -> None:
    for pair, at, absent in ((Pair(ReplicatedDict), "k", False), (Pair(ReplicatedList), 0, IndexError)):
        if absent is IndexError:
            with pytest.raises(IndexError):
                pair.call("compare_and_set", at, None, 1)
            pair.call("append", [1])
        else:
            assert pair.call("compare_and_set", at, None, 1) is False
            pair.call("put", at, [1])
        assert pair.call("compare_and_set", at, [2], "new") is False
        assert pair.call("get", at) == [1]
        assert pair.call("compare_and_set", at, [1], "new") is True
        assert pair.call("get", at) == "new"
