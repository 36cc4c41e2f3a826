"""Random programs of commands over a state, against plain Python containers.

Equal results, equal content with equal types and in equal order, and nothing left of a command that failed; digests
kept change by change are those of a restored copy; two machines answer and write the same bytes. A program fails
exactly if it leaves an alias behind, or ends with an exception.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quorate.machines.objects.calls import decode_call, decode_outcome, encode_call, encode_result, unpacker_of_calls
from quorate.machines.objects.machine import ObjectMachine, Raised, Replicated, Returned, command, kinds_of, read
from quorate.machines.objects.ordered_set import OrderedSet
from quorate.machines.objects.values import TOO_DEEP, Packer

from tests.campaigns import many


@dataclass
class Box:
    content: Any


def containers(value: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Everything in a state that can change, in order; what is there twice comes once."""
    seen = set() if seen is None else seen
    if not isinstance(value, dict | list | set | Box) or id(value) in seen:
        return
    seen.add(id(value))
    yield value
    if not isinstance(value, Box):
        for part in list(value.values() if isinstance(value, dict) else value):
            yield from containers(part, seen)


def places(roots: list[Any]) -> list[int]:
    """The identities of all containers in a state, once for each place."""
    found, waiting, seen = [], list(roots), set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list | set | Box):
            found.append(id(value))
            if id(value) not in seen and not isinstance(value, Box):
                waiting += value.values() if isinstance(value, dict) else value
            seen.add(id(value))
    return found


def step(state: Any, name: str, which: int, key: Any, value: Any) -> Any:
    """One step of a program: a method of one of the containers, chosen by number."""
    found = [part for root in (state.d, state.l, state.s) for part in containers(root)]
    chosen = found[which % len(found)]
    other = found[(which // 7) % len(found)]
    if name == "move":
        value = other
    if name == "bad":
        # What is refused half-way, and caught: plain containers would take it.
        if type(chosen) in (dict, list, OrderedSet, Box):
            raise TypeError
        if isinstance(chosen, dict):
            chosen[key] = {"a": [1], "b": Box(1), "c": other, "d": float("nan")}
        elif isinstance(chosen, list):
            chosen[:1] = [[1], Box(1), other, float("nan")]
        else:
            chosen.add(float("nan"))
    if name == "wrap":
        value = {"in": [other]}
    if name == "attribute":
        setattr(state, "dls"[which % 3], {"d": {}, "l": [], "s": OrderedSet()}["dls"[which % 3]])
        return None
    if name == "swap":
        state.d, state.extra = state.extra, state.d
        return None
    if isinstance(chosen, Box):
        chosen.content = key
        return None
    if isinstance(chosen, dict):
        return on_dict(chosen, name, key, value)
    if isinstance(chosen, list):
        return on_list(chosen, name, which % 5 - 2, key, value)
    return on_set(chosen, name, key, value)


def on_dict(chosen: dict[Any, Any], name: str, key: Any, value: Any) -> Any:
    match name:
        case "put" | "move" | "wrap":
            chosen[key] = value
        case "rewrap":
            chosen[key] = {"in": chosen[key]}
        case "unwrap":
            chosen[key] = chosen[key]["in"]
        case "take":
            return chosen.pop(key)
        case "take-else":
            return chosen.pop(key, None)
        case "last":
            return chosen.popitem()[0]
        case "many":
            chosen.update({key: 1, 2: value})
        case "default":
            chosen.setdefault(key, value)
        case "clear":
            chosen.clear()
        case "delete":
            del chosen[key]
        case "or":
            chosen |= {key: 5}
    return [len(chosen), list(chosen)]


def on_list(chosen: list[Any], name: str, at: int, key: Any, value: Any) -> Any:
    match name:
        case "put" | "move" | "wrap":
            chosen.append(value)
        case "rewrap":
            chosen[at] = [chosen[at], value]
        case "unwrap":
            chosen[at] = chosen[at][0]
        case "take":
            chosen.pop(at)
        case "take-else":
            chosen.pop(0)
        case "last":
            chosen.pop()
        case "many":
            chosen.extend([key, value])
        case "default":
            chosen[at] = value
        case "clear":
            chosen.clear()
        case "delete":
            del chosen[at]
        case "or":
            chosen.insert(at, value)
        case "slice":
            chosen[at : at + 2] = [key, value]
        case "stride":
            del chosen[::2]
        case "reverse":
            chosen.reverse()
        case "sort":
            chosen.sort(key=str)
        case "times":
            chosen *= at
        case "exchange":
            chosen[0], chosen[-1] = chosen[-1], chosen[0]
    return len(chosen)


def on_set(chosen: set[Any], name: str, key: Any, value: Any) -> Any:
    match name:
        case "put" | "many":
            chosen.add(key)
        case "take" | "delete":
            chosen.remove(key)
        case "take-else":
            chosen.discard(key)
        case "last":
            return chosen.pop()
        case "or":
            chosen |= {key, 7}
        case "slice":
            chosen &= {key, 7, "a"}
        case "reverse":
            chosen ^= {key, 7}
        case "sort":
            chosen -= {key, 7}
        case "clear":
            chosen.clear()
    return [len(chosen), list(chosen), sorted(map(str, chosen | {3}))]


class Program(Replicated):
    def __init__(self) -> None:
        self.d: Any = {}
        self.l: Any = []
        self.s: Any = OrderedSet()
        self.extra: Any = {"x": [1]}
        self.n = 0

    @command
    def run(self, steps: list[Any], fails: bool) -> list[Any]:
        """Run steps; an exception of a step is its result."""
        results = []
        for name, which, key, value in steps:
            try:
                results.append(step(self, name, which, key, value))
            except (KeyError, IndexError, ValueError, TypeError) as error:
                if "nested" in str(error):
                    raise
                results.append(type(error).__name__)
        self.n += 1
        if fails:
            raise ZeroDivisionError(self.n)
        return results

    @read
    def look(self) -> list[Any]:
        return [len(list(containers(root))) for root in (self.d, self.l, self.s)]


def exact(value: Any) -> Any:
    """The value with types, and with the order of dicts and sets."""
    if isinstance(value, dict):
        return ["dict", [(exact(key), exact(part)) for key, part in value.items()]]
    if isinstance(value, list):
        return ["list", [exact(part) for part in value]]
    if isinstance(value, set):
        return ["set", [exact(part) for part in value]]
    return [type(value).__name__, repr(value)]


def unordered(value: Any) -> Any:
    """The same without the order, which undo may change."""
    if isinstance(value, dict):
        return ["dict", sorted(([exact(key), unordered(part)] for key, part in value.items()), key=repr)]
    if isinstance(value, list):
        return ["list", [unordered(part) for part in value]]
    if isinstance(value, set):
        return ["set", sorted(map(exact, value), key=repr)]
    return exact(value)


def plain(value: Any) -> Any:
    """A deep copy of plain containers, in the same order."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, set):
        return OrderedSet(value)
    return Box(value.content) if isinstance(value, Box) else value


KINDS = kinds_of(Program)
keys = st.sampled_from(["a", "b", "\u00e9", 1, True, 1.0, 0, False, -0.0, None, b"a", (1, 2), (1.0, 2), 2**70])
values = st.recursive(
    st.one_of(keys, st.integers(-3, 3), st.builds(Box, keys)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3), st.sets(keys, max_size=3)
    ),
    max_leaves=6,
)
NAMES = (
    *("put", "move", "take", "take-else", "last", "many", "default", "clear", "delete", "or", "slice", "stride"),
    *("reverse", "sort", "times", "exchange", "attribute", "swap", "wrap", "rewrap", "unwrap", "bad"),
)
steps = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 100), keys, values), max_size=6)
programs = st.lists(st.tuples(steps, st.sampled_from([False, False, True])), max_size=6)


def snapshot_of(machine: ObjectMachine) -> bytes:
    file = io.BytesIO()
    machine.snapshot()(file)
    return file.getvalue()


def check_refused(why: str, found: list[int], expected: Any) -> None:
    """Either something is in the state twice, or what was in itself, and was taken out, is in the answer."""
    if why == TOO_DEEP:
        with pytest.raises(TypeError, match=TOO_DEEP):
            encode_result(expected, Packer(KINDS))
    else:
        assert "put a copy" in why, why
        assert len(found) != len(set(found)), why


def check(program: list[Any], digest_each: bool) -> None:
    machine, second = ObjectMachine(Program), ObjectMachine(Program)
    model = Program()
    for commands, fails in program:
        before = {name: plain(value) for name, value in vars(model).items()}
        data = encode_call("run", [[list(one) for one in commands], fails], {}, KINDS)
        answer = machine.apply(data)
        assert second.apply(data) == answer
        outcome = decode_outcome(answer, KINDS)
        call = decode_call(data, unpacker_of_calls(KINDS))
        expected: Any = None
        try:
            expected = model.run(*call.args)
        except ZeroDivisionError:
            assert isinstance(outcome, Raised)
            assert outcome.kind == "ZeroDivisionError"
        found = places(list(vars(model).values()))
        if isinstance(outcome, Raised):
            if outcome.kind != "ZeroDivisionError":
                assert outcome.kind == "TypeError"
                check_refused(outcome.text, found, expected)
            state = dict(vars(machine.instance))
            assert unordered(state) == unordered(before)
            vars(model).update({name: plain(value) for name, value in state.items()})
        else:
            assert len(found) == len(set(found)), "an alias was not seen"
            result = decode_outcome(encode_result(expected, Packer(KINDS)), KINDS)
            assert isinstance(result, Returned)
            assert exact(outcome.value) == exact(result.value)
            assert exact(dict(vars(machine.instance))) == exact(dict(vars(model)))
        if digest_each:
            machine.digests()
    data = encode_call("look")
    assert machine.query(data) == second.query(data)
    assert machine.digests() == second.digests()
    written = snapshot_of(machine)
    assert snapshot_of(second) == written
    second.restore(io.BytesIO(written))()  # compares the digests, kept and from scratch
    assert exact(dict(vars(second.instance))) == exact(dict(vars(machine.instance)))
    assert snapshot_of(second) == written


@given(programs, st.booleans())
@settings(max_examples=100, deadline=None)
@example([([("put", 0, "a", [1]), ("move", 7, "b", 0)], False)], True)
@example([([("put", 0, "a", {}), ("put", 1, "a", {}), ("swap", 0, 0, 0)], True)], True)
@example(
    [
        ([("wrap", 0, "b", "a"), ("default", 67, "a", []), *[("put", 0, "a", "a")] * 3], False),
        ([("put", 0, "a", "a"), ("move", 63, "a", "a"), ("put", 0, "a", []), ("reverse", 2, "a", [])], False),
    ],
    False,
)
@example(
    [([("put", 44, (1.0, 2), []), ("take", 2, (1, 2), 0), ("take", 91, (1, 2), 0), ("put", 44, (1, 2), 0)], False)],
    False,
)
@example(
    [
        (
            [
                *(("put", 4, 2**70, "a"), ("move", 55, 1, set()), ("put", 0, False, [])),
                *(("move", 72, "a", {}), ("take", 0, "a", {})),
            ],
            False,
        )
    ],
    True,
)
@example([([("put", 0, 1, 5)], False), ([("take", 0, 1, 0), ("put", 0, True, 5)], False)], False)
@example([([("put", 0, 1, 5)], False), ([("take", 0, 1, 0), ("put", 0, True, 5)], False)], True)
def test_programs_do_to_the_state_what_they_do_to_plain_containers(program: list[Any], digest_each: bool) -> None:
    check(program, digest_each)


@pytest.mark.slow
@given(programs, st.booleans())
@settings(max_examples=many(4_000), deadline=None)
def test_many_programs(program: list[Any], digest_each: bool) -> None:
    check(program, digest_each)
