"""State of replicated objects: what is refused where it is set, what is undone, and what a restored copy has."""

import contextlib
import copy
import io
import json
import operator
import re
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from quorate.machines.objects.calls import Raised, Returned, Unapplied, decode_outcome, encode_call
from quorate.machines.objects.machine import ObjectMachine, Replicated, command, kinds_of, read


@dataclass
class Point:
    x: int
    tags: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Fixed:
    x: Any


class Row(msgspec.Struct):
    n: int


class Store(Replicated):
    """One command that does what a test says: functions are looked up by name in STEPS."""

    def __init__(self) -> None:
        self.d: dict[Any, Any] = {}
        self.l: list[Any] = []
        self.s: set[Any] = set()
        self.n = 0
        self.p = Point(1)

    @command
    def run(self, name: str) -> Any:
        """Take a step."""
        return STEPS[name](self)

    @read
    def look(self, name: str) -> Any:
        """Take a step that should change nothing."""
        return STEPS[name](self)


STEPS: dict[str, Callable[[Any], Any]] = {}


def run(machine: ObjectMachine, step: Callable[[Any], Any], *, mark: str = "run") -> Any:
    """The outcome of a step, as a command or as a read."""
    STEPS["step"] = step
    data = encode_call(mark, ["step"])
    return decode_outcome(machine.apply(data) if mark == "run" else machine.query(data), kinds_of(Store))


def ok(machine: ObjectMachine, step: Callable[[Any], Any]) -> Any:
    outcome = run(machine, step)
    assert isinstance(outcome, Returned), outcome
    return outcome.value


def refused(machine: ObjectMachine, step: Callable[[Any], Any], *, mark: str = "run") -> str:
    """The words of the TypeError, with nothing changed."""
    before, digests = copy_of(machine), machine.digests()
    outcome = run(machine, step, mark=mark)
    assert isinstance(outcome, Raised), outcome
    assert outcome.kind == "TypeError", outcome
    assert vars(machine.instance) == vars(before.instance)
    assert machine.digests() == digests
    return outcome.text


def written(machine: ObjectMachine) -> bytes:
    file = io.BytesIO()
    machine.snapshot()(file)
    return file.getvalue()


def copy_of(machine: ObjectMachine) -> ObjectMachine:
    made = ObjectMachine(Store)
    made.restore(io.BytesIO(written(machine)))()
    assert made.digests() == machine.digests()
    assert written(made) == written(machine)
    return made


# --- what is refused, and where ---


def twice(state: Any) -> None:
    row = {"hits": 0}
    state.d["row"] = row
    state.l.append(row)


def kept(state: Any) -> None:
    row: dict[str, int] = {}
    state.d["row"] = row
    row["n"] = 1


def shared_object(state: Any) -> None:
    state.d["a"] = state.d["b"] = Point(1)


def shared_inside(state: Any) -> None:
    tags: list[Any] = []
    state.d["a"] = Point(1, tags)
    state.d["b"] = Point(2, tags)


def ring(state: Any) -> None:
    state.d["a"] = [1]
    state.d["a"].append(state.d["a"])


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (twice, r"Store.d\['row'\] and Store.l\[0\] would be the same dict, and after a restart two: put a copy"),
        (lambda s: setattr(s, "n", s.d), "Store.d and Store.n would be the same dict"),
        (ring, r"would be the same list"),
        (kept, r"put into Store.d\['row'\] as a copy and changed after that.*change Store.d\['row'\] instead"),
        (shared_object, "would be the same Point"),
        (shared_inside, "belongs to another part of the state: put a copy"),
        (lambda s: s.d.update(a=Point(1, s.l)), r"part of the state is put into an instance too: put a copy, list\("),
        (lambda s: setattr(s.p, "tags", s.l), "put a copy"),
        (lambda s: s.d.update(a=defaultdict(int)), r"Store.d\['a'\]: a defaultdict .* use a dict and setdefault"),
        (lambda s: s.d.update(a=[{"b": defaultdict(int)}]), r"Store.d\['a'\]\[0\]\['b'\]: a defaultdict"),
        (lambda s: s.l.append(float("nan")), r"Store.l\[0\]: NaN cannot be state"),
        (lambda s: setattr(s, "n", float("nan")), "Store.n: NaN"),
        (lambda s: s.d.update(a=(1, [2])), "a list in a tuple could be changed unseen"),
        (lambda s: s.d.update({(1, (2, float("nan"))): 1}), "NaN"),
        (lambda s: s.s.add(Point(1)), "unhashable"),
        (lambda s: s.s.add(Fixed([1])), "unhashable|cannot be a key"),
        (lambda s: setattr(s, "n", threading.Lock()), "Store.n: a value of type lock cannot be stored"),
        (lambda s: setattr(s.p, "x", threading.Lock()), "Store.p: a value of type lock"),
        (lambda s: setattr(s, "n", "\ud800"), "lone surrogates"),
        (lambda s: s.d.update({"\ud800": 1}), "lone surrogates"),
        (lambda s: s.__dict__.update(n=5), "no attribute|not support"),
        (lambda s: vars(s).__setitem__("n", 5), "not support|__setitem__"),
        (lambda s: setattr(s, "__class__", Replicated), "cannot be assigned"),
        (lambda s: object(), "a value of type object cannot be stored or sent"),
    ],
)
def test_what_would_not_survive_is_refused_by_the_command_that_sets_it(step: Any, words: str) -> None:
    machine = ObjectMachine(Store)
    outcome = run(machine, step)
    assert isinstance(outcome, Raised)
    assert outcome.kind in ("TypeError", "AttributeError")
    assert re.search(words, outcome.text), outcome.text
    fresh = ObjectMachine(Store)
    assert vars(machine.instance) == vars(fresh.instance)
    assert machine.digests() == fresh.digests()


def swap(state: Any) -> None:
    state.d, state.l = state.l, state.d
    state.d, state.l = state.l, state.d
    state.l.append(state.d.pop("a"))
    state.d["wrapped"] = {"in": state.l.pop()}
    state.d["b"], state.d["wrapped"] = state.d["wrapped"], state.d["b"]


def test_swaps_and_moves_are_no_aliases() -> None:
    machine = ObjectMachine(Store)
    ok(machine, lambda s: s.d.update(a=[1], b={}))
    ok(machine, swap)
    assert machine.instance.d == {"b": {"in": [1]}, "wrapped": {}}
    ok(machine, lambda s: s.d["b"]["in"].append(2))
    copy_of(machine)


def test_a_command_that_fails_leaves_nothing_and_takes_no_place() -> None:
    machine = ObjectMachine(Store)
    ok(machine, lambda s: s.d.update(a=[1]))

    def wrap_and_fail(state: Any) -> None:
        state.d["a"] = {"in": state.d["a"]}
        state.s.add(1)
        del state.n
        state.new = 1
        raise KeyError(1)

    assert run(machine, wrap_and_fail).kind == "KeyError"
    assert dict(vars(machine.instance)) == {"d": {"a": [1]}, "l": [], "s": set(), "n": 0, "p": Point(1)}
    ok(machine, lambda s: s.d.update(a={"in": s.d["a"]}))
    assert machine.instance.d == {"a": {"in": [1]}}
    copy_of(machine)


# --- objects that change without telling ---


def test_an_object_that_was_handed_out_and_changed_changes_the_state() -> None:
    machine = ObjectMachine(Store)
    ok(machine, lambda s: s.d.update(a=Point(1), b=Row(1)))
    ok(machine, lambda s: s.l.extend([Point(5), 7]))
    before = machine.digests()

    def change(state: Any) -> None:
        state.d["a"].x += 1
        for row in state.d.values():
            if isinstance(row, Row):
                row.n = 9
        next(point for point in state.l if point != 7).tags.append("new")
        state.p.x = 4

    ok(machine, change)
    assert machine.instance.d == {"a": Point(2), "b": Row(9)}
    after = machine.digests()
    assert {name for name in after if after[name] != before[name]} == {"d", "l", "p"}
    other = copy_of(machine)
    assert other.instance.l == [Point(5, ["new"]), 7]
    assert type(other.instance.d["b"]) is Row


@pytest.mark.parametrize(
    "step",
    [
        lambda s: setattr(s.d["a"], "x", 9),
        lambda s: setattr(s.d.get("a"), "x", 9),
        lambda s: [setattr(p, "x", 9) for p in s.d.values()],
        lambda s: [setattr(p, "x", 9) for _, p in s.d.items()],
        lambda s: [setattr(p, "x", 9) for p in dict(s.d).values()],
        lambda s: [setattr(p, "x", 9) for p in {**s.d}.values()],
        lambda s: [setattr(p, "x", 9) for p in (s.d | {}).values()],
        lambda s: [setattr(p, "x", 9) for p in s.d.copy().values()],
        lambda s: setattr(s.l[0], "x", 9),
        lambda s: setattr(s.l[:][0], "x", 9),
        lambda s: [setattr(p, "x", 9) for p in list(s.l)],
        lambda s: [setattr(p, "x", 9) for p in [*s.l]],
        lambda s: setattr(next(iter(s.l)), "x", 9),
        lambda s: setattr(next(reversed(s.l)), "x", 9),
        lambda s: setattr(operator.add(s.l, [])[0], "x", 9),
        lambda s: setattr(operator.add([], s.l)[0], "x", 9),
        lambda s: setattr((s.l * 1)[0], "x", 9),
        lambda s: [setattr(p, "x", 9) for p in tuple(s.l)],
        lambda s: setattr(sorted(s.l, key=lambda p: p.x)[0], "x", 9),
        lambda s: setattr(copy.copy(s.l)[0], "x", 9),
        lambda s: s.l[0].tags.append(1),
        lambda s: setattr(s.p, "x", 9),
    ],
)
def test_every_way_to_an_object_is_seen_by_reads_and_by_undo(step: Any) -> None:
    machine = ObjectMachine(Store)
    ok(machine, lambda s: (s.d.update(a=Point(1)), s.l.append(Point(2)), None)[-1])
    words = refused(machine, step, mark="look")
    assert "a @read changes nothing, but this one changes Store." in words

    def fail(state: Any) -> None:
        step(state)
        raise ZeroDivisionError

    digests = machine.digests()
    assert run(machine, fail).kind == "ZeroDivisionError"
    assert dict(vars(machine.instance)) == {"d": {"a": Point(1)}, "l": [Point(2)], "s": set(), "n": 0, "p": Point(1)}
    assert machine.digests() == digests
    ok(machine, lambda s: (step(s), None)[-1])
    assert machine.digests() != digests
    copy_of(machine)


# --- reads, and changes from outside ---


@pytest.mark.parametrize(
    "step",
    [
        lambda s: setattr(s, "n", 1),
        lambda s: s.d.update(a=1),
        lambda s: s.l.append([1]),
        lambda s: s.s.add("x"),
        lambda s: delattr(s, "n"),
        lambda s: s.l.sort(),
        lambda s: s.d.setdefault("k", {}),
    ],
)
def test_a_read_that_changes_something_is_caught(step: Any) -> None:
    machine = ObjectMachine(Store)
    assert "mark it @command" in refused(machine, step, mark="look")


def test_the_state_is_not_changed_from_outside() -> None:
    machine = ObjectMachine(Store)
    with pytest.raises(TypeError, match="only its @command methods change it"):
        machine.instance.n = 3
    with pytest.raises(TypeError, match="only its @command methods"):
        machine.instance.l.append(3)
    with pytest.raises(TypeError, match="mappingproxy"):
        vars(machine.instance)["n"] = 3


def test_the_class_itself_stays_plain() -> None:
    plain = Store()
    plain.n = 3
    plain.d["a"] = plain.l
    assert type(plain.d) is dict
    machine = ObjectMachine(Store)
    assert isinstance(machine.instance, Store)
    assert (type(machine.instance).__name__, type(machine.instance).__module__) == ("Store", __name__)


# --- the containers ---


def test_containers_look_like_plain_ones_and_their_copies_are_plain() -> None:
    machine = ObjectMachine(Store)
    ok(machine, lambda s: (s.d.update(a=[1, {"b": 2}]), s.l.extend([[1], 2]), s.s.update(["x", "w"]), None)[-1])
    d, items, s = machine.instance.d, machine.instance.l, machine.instance.s
    assert (d, items, s) == ({"a": [1, {"b": 2}]}, [[1], 2], {"x", "w"})
    assert isinstance(d, dict)
    assert isinstance(items, list)
    assert isinstance(s, set)
    assert json.dumps([d, items]) == '[{"a": [1, {"b": 2}]}, [[1], 2]]'
    assert repr([d, items, s]) == "[{'a': [1, {'b': 2}]}, [[1], 2], {'x', 'w'}]"
    assert list(s) == ["x", "w"]
    copies = items[:], operator.add(items, []), items * 2, items.copy(), copy.copy(items), copy.deepcopy(items)
    assert [type(part) for part in copies] == [list] * 6
    assert [type(part) for part in (d | {}, {} | d, d.copy(), copy.copy(d), copy.deepcopy(d))] == [dict] * 5
    assert type(copy.deepcopy(d)["a"]) is list
    assert type(copy.deepcopy(s)) is set
    changed = s | {"v"}
    changed.add("u")
    assert list(changed - {"w"}) == ["x", "v", "u"]
    assert s == {"x", "w"}


def test_results_of_commands_are_plain_at_the_caller() -> None:
    machine = ObjectMachine(Store)
    ok(machine, lambda s: s.d.update(a=[1, {"b": {1, 2}}], p=Point(3)))
    value = ok(machine, lambda s: s.d)
    assert value == {"a": [1, {"b": {1, 2}}], "p": Point(3)}
    assert [type(value), type(value["a"]), type(value["a"][1]["b"])] == [dict, list, set]


def test_an_order_of_insertion_is_the_same_for_plain_sets_that_are_put_into_the_state() -> None:
    machine = ObjectMachine(Store)
    names = {f"n{n}" for n in range(40)}
    ok(machine, lambda s: setattr(s, "s", set(names)))
    assert list(machine.instance.s) == sorted(names)
    ok(machine, lambda s: s.s.clear())
    ok(machine, lambda s: s.s.update(set(names)))
    assert list(machine.instance.s) == sorted(names)


# --- restore ---


def version(names: tuple[str, ...]) -> type[Replicated]:
    class Grown(Replicated):
        @command
        def add(self) -> int:
            self.value += 1  # type: ignore[attr-defined]
            return int(self.value)

    def __init__(self: Any) -> None:
        for name in NAMES_BY_VERSION[len(type(self).mro()[1].attributes)]:  # type: ignore[attr-defined]
            setattr(self, name, 0 if name == "value" else [])

    Grown.attributes = names  # type: ignore[attr-defined]
    Grown.__init__ = __init__  # type: ignore[method-assign]
    return Grown


NAMES_BY_VERSION = {1: ("value",), 2: ("value", "history")}


def test_a_new_attribute_of_init_keeps_its_default_after_a_restore() -> None:
    old, new = ObjectMachine(version(("value",))), ObjectMachine(version(("value", "history")))
    assert decode_outcome(old.apply(encode_call("add"))) == Returned(1)
    new.restore(io.BytesIO(written(old)))()
    assert dict(vars(new.instance)) == {"value": 1, "history": []}
    assert decode_outcome(new.apply(encode_call("add"))) == Returned(2)


def test_a_snapshot_whose_content_is_not_what_was_digested_names_the_attribute() -> None:
    machine = ObjectMachine(Store)
    ok(machine, lambda s: s.d.update(key=12345))
    data = written(machine)
    broken = data.replace(b"\xcd\x30\x39", b"\xcd\x30\x38")
    assert broken != data
    other = ObjectMachine(Store)
    with pytest.raises(ValueError, match="the snapshot of Store is corrupt: d is not as it was written"):
        other.restore(io.BytesIO(broken))
    assert other.instance.d == {}


def test_a_snapshot_that_is_cut_or_changed_anywhere_is_a_value_error_or_the_same() -> None:
    machine = ObjectMachine(Store)
    ok(machine, lambda s: (s.d.update(a=[1, {"b": (1, 2)}], p=Point(1)), s.s.update([1, "x"]), None)[-1])
    data = written(machine)
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r".+"):
            ObjectMachine(Store).restore(io.BytesIO(data[:length]))
    with pytest.raises(ValueError, match=r".+"):
        ObjectMachine(Store).restore(io.BytesIO(data + b"\x00"))
    for at in range(len(data)):
        for bit in (1, 0x40, 0x80):
            broken = bytearray(data)
            broken[at] ^= bit
            other = ObjectMachine(Store)
            try:
                other.restore(io.BytesIO(bytes(broken)))()
            except ValueError:
                continue
            assert other.instance.d == machine.instance.d


def test_depth_of_the_state_is_unlimited() -> None:
    machine = ObjectMachine(Store)

    def chain(state: Any) -> None:
        for n in range(3000):
            state.d = {"n": n, "next": state.d}

    ok(machine, chain)
    before = machine.digests()
    restored = ObjectMachine(Store)
    restored.restore(io.BytesIO(written(machine)))()
    assert restored.digests() == before
    inner = restored.instance.d
    for n in reversed(range(3000)):
        assert inner["n"] == n
        inner = inner["next"]


# --- what differs by node ---


def recurse(state: Any) -> Any:
    state.n += 1
    return recurse(state)


def exhaust(state: Any) -> Any:
    state.n += 1
    return [0] * (1 << 60)


@pytest.mark.parametrize(("step", "words"), [(recurse, "out of stack"), (exhaust, "out of memory")])
def test_running_out_of_memory_or_stack_is_undone_and_ends_the_node(step: Any, words: str) -> None:
    machine = ObjectMachine(Store)
    with pytest.raises(Unapplied, match=f"Store.run ran {words} on this node .* stops with the command unapplied"):
        run(machine, step)
    assert machine.instance.n == 0
    assert ok(machine, lambda s: s.n) == 0


def leave(state: Any) -> None:
    state.n = 5
    raise SystemExit(3)


def test_leaving_the_process_is_a_result_like_any_other() -> None:
    machine = ObjectMachine(Store)
    assert run(machine, leave).kind == "SystemExit"
    assert machine.instance.n == 0


def test_equal_content_has_equal_digests_whatever_its_history() -> None:
    first, second = ObjectMachine(Store), ObjectMachine(Store)
    ok(first, lambda s: (s.l.extend([0, 1, [2], 3]), s.l.pop(0), s.l.insert(0, "x"), None)[-1])
    first.digests()
    ok(first, lambda s: (s.l.pop(0), s.l.pop(), s.d.update(b=1, a=2), s.s.update([1, 2]), s.s.discard(1), None)[-1])
    ok(second, lambda s: (s.l.extend([1, [2]]), s.d.update(a=2, b=1), s.s.add(2), None)[-1])
    assert first.digests() == second.digests()
    ok(second, lambda s: s.l[1].append(1))
    differing = {name for name, digest in second.digests().items() if digest != first.digests()[name]}
    assert differing == {"l"}


def test_undo_at_the_front_of_a_list_leaves_no_trace_in_later_digests() -> None:
    first, second = ObjectMachine(Store), ObjectMachine(Store)
    for machine in (first, second):
        ok(machine, lambda s: s.l.extend([1, 2]))
        machine.digests()

    def fail_at_the_front(state: Any) -> None:
        state.l.insert(0, 0)
        raise ZeroDivisionError

    def fail_to_take(state: Any) -> None:
        state.l.pop(0)
        raise ZeroDivisionError

    for step in (fail_at_the_front, fail_to_take):
        assert run(first, step).kind == "ZeroDivisionError"
        for machine in (first, second):
            ok(machine, lambda s: s.l.append(3))
        assert first.digests() == second.digests()


def test_an_object_that_left_the_state_is_forgotten() -> None:
    machine = ObjectMachine(Store)
    ok(machine, lambda s: (s.d.update(a=Point(1, [1])), s.l.append(Point(2)), None)[-1])
    assert len(machine.state.tracker.holds) == 3
    ok(machine, lambda s: (s.d.pop("a"), s.l.clear(), None)[-1])
    assert [hold.value for hold in machine.state.tracker.holds.values()] == [Point(1)]

    def put_and_fail(state: Any) -> None:
        state.d["a"] = Point(3)
        raise ZeroDivisionError

    run(machine, put_and_fail)
    assert len(machine.state.tracker.holds) == 1


def test_what_was_refused_half_way_and_caught_leaves_nothing() -> None:
    machine = ObjectMachine(Store)
    ok(machine, lambda s: s.l.append(0))
    machine.digests()

    def catch(state: Any) -> None:
        for bad in ({"a": [1], "b": float("nan")}, {"a": Point(1), "b": float("nan")}):
            with contextlib.suppress(TypeError):
                state.d["k"] = bad
            with contextlib.suppress(TypeError):
                state.l[0] = list(bad.values())
            with contextlib.suppress(TypeError):
                state.l[:] = [[1], Point(2), float("nan")]

    ok(machine, catch)
    assert dict(vars(machine.instance)) == {"d": {}, "l": [0], "s": set(), "n": 0, "p": Point(1)}
    assert len(machine.state.tracker.holds) == 1
    copy_of(machine)
