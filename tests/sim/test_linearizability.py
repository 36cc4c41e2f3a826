"""The linearizability checker: known histories, agreement with brute force, recorded runs, and how much it explores."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.sim.checkers import report
from quorate.sim.checkers.linearizability import CheckProgress, Verdict, check_linearizable
from quorate.sim.checkers.models import CasRegister, KeyValue, Model, MultiRegister, Mutex, Register
from quorate.sim.checkers.prefix import cut_after
from quorate.sim.history import Event, HistoryError, Operation, pair

from tests.sim import atomic

SEEDS = st.integers(min_value=0, max_value=2**32)


def events(*lines: str) -> list[Event]:
    """`0 invoke write 1`: process, type, f and, if there is one, value; `x=..` gives a key."""
    found = []
    for line in lines:
        process, kind, f, *rest = line.split()
        key = next((word[2:] for word in rest if word.startswith("x=")), None)
        values: list[Any] = [None if word == "nil" else int(word) for word in rest if not word.startswith("x=")]
        value = values[0] if len(values) == 1 else (values or None)
        found.append(Event(kind, int(process), f, value, key=key))  # type: ignore[arg-type]
    return found


def verdict(model: Model, *lines: str) -> Verdict:
    return check_linearizable(events(*lines), model)


def test_a_stale_read_is_caught_and_named() -> None:
    found = verdict(
        Register(),
        *("0 invoke write 1", "0 ok write 1", "0 invoke write 2", "0 ok write 2"),
        *("1 invoke read", "1 ok read 1", "2 invoke read", "2 ok read 2"),
    )
    assert found.linearizable is False
    assert found.stuck is not None
    assert (found.stuck.process, found.stuck.output) == (1, 1)
    assert found.states == (2,)
    assert [operation.value for operation in found.order] == [1, 2]


def test_concurrent_operations_may_take_effect_in_either_order() -> None:
    lines = ["0 invoke write 1", "1 invoke write 2", "0 ok write 1", "1 ok write 2", "2 invoke read"]
    assert verdict(Register(), *lines, "2 ok read 1").linearizable
    assert verdict(Register(), *lines, "2 ok read 2").linearizable
    assert verdict(Register(), *lines, "2 ok read nil").linearizable is False


def test_reads_that_see_two_orders_are_caught() -> None:
    found = verdict(
        Register(),
        *("0 invoke write 1", "1 invoke write 2", "2 invoke read", "2 ok read 1", "2 invoke read", "2 ok read 2"),
        *("2 invoke read", "2 ok read 1", "0 ok write 1", "1 ok write 2"),
    )
    assert found.linearizable is False
    assert {operation.f for operation in found.concurrent} == {"write"}


def test_a_lost_update_is_caught() -> None:
    lines = ["0 invoke write 0", "0 ok write 0", "1 invoke cas 0 1", "2 invoke cas 0 2", "1 ok cas 0 1"]
    assert verdict(CasRegister(), *lines, "2 fail cas 0 2").linearizable
    assert verdict(CasRegister(), *lines, "2 info cas 0 2").linearizable
    assert verdict(CasRegister(), *lines, "2 ok cas 0 2").linearizable is False


def test_a_value_never_written_is_caught() -> None:
    found = verdict(CasRegister(), "0 invoke write 1", "1 invoke read", "1 ok read 7", "0 ok write 1")
    assert found.linearizable is False
    assert set(found.states) == {None, 1}


def test_an_unknown_write_may_take_effect_late_once_or_never() -> None:
    begin = ["0 invoke write 1", "0 info write 1", "1 invoke write 2", "1 ok write 2"]
    reads_2 = ["2 invoke read", "2 ok read 2"]
    reads_1 = ["2 invoke read", "2 ok read 1"]
    assert verdict(Register(), *begin, *reads_2).linearizable
    assert verdict(Register(), *begin, *reads_2, *reads_1).linearizable
    assert verdict(Register(), *begin, *reads_1, *reads_2).linearizable is False
    assert verdict(Register(), *begin[:1], *begin[2:], *reads_2, *reads_1).linearizable, "no completion is unknown too"
    again = ["1 invoke write 2", "1 ok write 2"]
    assert verdict(Register(), *begin, *reads_1, *again, *reads_1).linearizable is False


def test_an_unknown_write_cannot_take_effect_before_it_is_invoked() -> None:
    lines = ["1 invoke read", "1 ok read 1", "0 invoke write 1", "0 info write 1"]
    assert verdict(Register(), *lines).linearizable is False


def test_a_failed_write_never_happened() -> None:
    lines = ["0 invoke write 1", "0 fail write 1", "1 invoke read", "1 ok read 1"]
    assert verdict(Register(), *lines).linearizable is False


def test_a_chain_of_unknown_operations_can_explain_a_read() -> None:
    chain = ["0 invoke cas 1 2", "1 invoke cas 0 1", "2 invoke cas 2 3", "4 invoke write 0", "4 ok write 0"]
    assert verdict(CasRegister(), *chain, "5 invoke read", "5 ok read 3").linearizable
    assert verdict(CasRegister(), *chain[1:], "5 invoke read", "5 ok read 3").linearizable is False


def test_an_unknown_write_spent_in_vain_is_not_spent_on_another_way() -> None:
    """The first way to come behind the read uses the unknown write up; the second saves it for the end."""
    first = ["9 invoke write 1", "0 invoke write 1", "1 invoke write 2", "0 ok write 1", "1 ok write 2"]
    read_1 = ["2 invoke read", "2 ok read 1"]
    write_5 = ["0 invoke write 5", "0 ok write 5"]
    assert verdict(Register(), *first, *read_1, *write_5, *read_1).linearizable
    assert verdict(Register(), *first, *read_1, *write_5, *read_1, *write_5, *read_1).linearizable is False


def test_a_mutex_is_held_once() -> None:
    both = ["0 invoke acquire", "0 ok acquire", "1 invoke acquire"]
    assert verdict(Mutex(), *both, "0 invoke release", "1 ok acquire", "0 ok release").linearizable
    assert verdict(Mutex(), *both, "0 invoke release", "0 info release", "1 ok acquire").linearizable
    found = verdict(Mutex(), *both, "1 ok acquire")
    assert found.linearizable is False
    assert found.states == ("held",)


def test_keys_are_checked_apart() -> None:
    lines = ["0 invoke put 1 x=a", "0 ok put 1 x=a", "0 invoke put 2 x=b", "0 ok put 2 x=b"]
    assert verdict(KeyValue(), *lines, "0 invoke get x=a", "0 ok get 1 x=a").linearizable
    found = verdict(KeyValue(), *lines, "0 invoke get x=b", "0 ok get 1 x=b")
    assert (found.linearizable, found.key, found.keys) == (False, "b", 2)


def test_a_store_appends_deletes_and_compares() -> None:
    def run(*steps: tuple[str, Any, Any]) -> bool | None:
        operations = [
            Operation(0, f, value, output, "k", 2 * i, 2 * i + 1) for i, (f, value, output) in enumerate(steps)
        ]
        return check_linearizable(operations, KeyValue()).linearizable

    assert run(("put", "a", None), ("append", "b", None), ("get", None, "ab"), ("delete", None, 1), ("get", None, None))
    assert run(("append", 1, None), ("append", 2, None), ("get", None, [1, 2]))
    assert run(("append", 2, None), ("append", 1, None), ("get", None, [1, 2])) is False
    assert run(("put", 0, None), ("cas", [0, 1], True), ("cas", [0, 2], False), ("get", None, 1))
    assert run(("put", 0, None), ("cas", [0, 1], False)) is False


def test_true_is_not_one() -> None:
    one = Operation(0, "write", 1, 1, None, 0, 1)
    assert check_linearizable([one, Operation(0, "read", None, 1, None, 2, 3)], Register()).linearizable
    assert check_linearizable([one, Operation(0, "read", None, True, None, 2, 3)], Register()).linearizable is False


def test_transactions_are_atomic() -> None:
    def run(reads: list[Any]) -> bool | None:
        write = Operation(0, "txn", [["w", "x", 1], ["w", "y", 1]], [["w", "x", 1], ["w", "y", 1]], None, 0, 3)
        return check_linearizable([write, Operation(1, "txn", reads, reads, None, 1, 2)], MultiRegister()).linearizable

    assert run([["r", "x", 1], ["r", "y", 1]])
    assert run([["r", "x", None], ["r", "y", None]])
    assert run([["r", "x", 1], ["r", "y", None]]) is False
    assert run([["w", "x", 2], ["r", "x", 2]])


def test_an_empty_history_is_linearizable() -> None:
    assert check_linearizable([], Register()).linearizable
    assert check_linearizable(events("0 invoke read", "1 invoke write 3"), Register()).linearizable


@pytest.mark.parametrize(
    ("model", "line", "says"),
    [
        (Register(), "0 invoke cas 0 1", "try --model cas-register or kv"),
        (CasRegister(), "0 invoke cas 1", "[expected new]"),
        (KeyValue(), "0 invoke put 1", "without a key"),
        (MultiRegister(), "0 invoke txn 1", "list of [r key value]"),
        (Mutex(), "0 invoke lock", "no model knows it"),
    ],
)
def test_an_operation_that_the_model_does_not_know_is_an_error(model: Model, line: str, says: str) -> None:
    with pytest.raises(HistoryError) as error:
        verdict(model, line)
    assert says in str(error.value)


def test_a_spent_budget_is_undecided_not_true() -> None:
    history = atomic.record(Register(), atomic.unique_values, Random(1), operations=300, clients=8)
    assert check_linearizable(history, Register()).linearizable
    found = check_linearizable(history, Register(), states_max=20)
    assert found.linearizable is None
    assert found.explored <= 21


def test_the_caller_can_give_up() -> None:
    history = atomic.record(Register(), atomic.unique_values, Random(1), operations=4000, clients=10)
    seen: list[CheckProgress] = []

    def watch(progress: CheckProgress) -> bool:
        seen.append(progress)
        return False

    assert check_linearizable(history, Register(), watch=watch).linearizable is None
    assert len(seen) == 1
    many = [event for key in range(300) for event in events(f"0 invoke write 1 x={key}", f"0 ok write 1 x={key}")]
    several = [*events("0 invoke read x=a", "1 invoke write 1 x=a", "0 ok read 1 x=a", "1 ok write 1 x=a"), *many]
    assert check_linearizable(several, Register(), watch=watch).linearizable is None
    assert check_linearizable(several, Register(), watch=lambda _: True).linearizable


TINY: list[tuple[Model, atomic.Request, list[Any]]] = [
    (Register(), atomic.choosing("read", "write 2"), [0, 1, None]),
    (CasRegister(), atomic.choosing("read", "write 3", "cas 3"), [0, 1, 2, None]),
    (KeyValue(), atomic.choosing("get", "get", "put ab", "append ab", "delete"), [None, "a", "b", "ab", "ba", "aba"]),
    (KeyValue(), atomic.choosing("get", "append ab", "append ab", "put ab"), ["a", "b", "ab", "ba", "aab", "abb"]),
    (KeyValue(), atomic.choosing("get", "put ab", "append ab", "cas ab"), [None, "a", "b", "ab", "ba"]),
    (Mutex(), atomic.lock, [None]),
    (MultiRegister(), atomic.transactions, [None]),
]


@pytest.mark.parametrize(("model", "request_", "outputs"), TINY, ids=range(len(TINY)))
@given(seed=SEEDS)
@settings(max_examples=120, deadline=None)
def test_it_agrees_with_trying_everything(
    model: Model, request_: atomic.Request, outputs: list[Any], seed: int
) -> None:
    rng = Random(seed)
    operations = atomic.scribble(
        request_, outputs, rng, operations=rng.randrange(2, 7), unknown=rng.choice([0.0, 0.2, 0.5])
    )
    found = check_linearizable(operations, model)
    assert found.linearizable == atomic.brute_force(operations, model)
    assert atomic.legal(list(found.order), model)
    placed = {operation.invoked for operation in found.order}
    if found.linearizable:
        assert placed >= {operation.invoked for operation in operations if operation.certain}
        return
    assert found.stuck is not None
    end = found.stuck.completed
    assert end is not None
    assert not atomic.brute_force(cut_after(operations, end), model)
    assert atomic.brute_force(cut_after(operations, end - 1), model), "the first completion that cannot be met"
    assert placed >= {o.invoked for o in operations if o.completed is not None and o.completed < end}


def test_both_answers_occur_among_the_tiny_histories() -> None:
    for model, request, outputs in TINY:
        answers = {
            check_linearizable(atomic.scribble(request, outputs, Random(seed), operations=4), model).linearizable
            for seed in range(100)
        }
        assert answers == {True, False}


RECORDED: list[tuple[Model, atomic.Request]] = [
    (CasRegister(), atomic.few_values),
    (Register(), atomic.unique_values),
    (KeyValue(), atomic.store),
    (KeyValue(), atomic.appends),
    (Mutex(), atomic.lock),
    (MultiRegister(), atomic.transactions),
]


@pytest.mark.parametrize(("model", "request_"), RECORDED, ids=lambda item: getattr(item, "__name__", None))
@given(seed=SEEDS, clients=st.integers(1, 8), unknown=st.sampled_from([0.0, 0.05, 0.3]))
@settings(max_examples=30, deadline=None)
def test_what_an_atomic_object_did_is_accepted(
    model: Model, request_: atomic.Request, seed: int, clients: int, unknown: float
) -> None:
    history = atomic.record(
        model, request_, Random(seed), operations=80, clients=clients, unknown=unknown, keys=1 + seed % 3
    )
    found = check_linearizable(history, model, states_max=200_000)
    assert found.linearizable is not False
    if found.linearizable and found.keys == 1:
        assert atomic.legal(list(found.order), model)


@pytest.mark.parametrize("unknown", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("keys", [1, 5])
@pytest.mark.parametrize(
    ("model", "request_", "states_max"),
    [
        (CasRegister(), atomic.few_values, 50_000),
        (Register(), atomic.unique_values, 150_000),
        (Mutex(), atomic.lock, 50_000),
    ],
    ids=["few-values", "unique-values", "mutex"],
)
def test_ten_thousand_operations_take_few_states(
    model: Model, request_: atomic.Request, states_max: int, keys: int, unknown: float
) -> None:
    history = atomic.record(model, request_, Random(3), operations=10_000, clients=10, unknown=unknown, keys=keys)
    found = check_linearizable(history, model, states_max=states_max)
    assert found.linearizable, found.explored


@pytest.mark.parametrize("unknown", [0.0, 0.05])
def test_a_stale_read_late_in_a_long_history_is_found(unknown: float) -> None:
    history = atomic.record(Register(), atomic.unique_values, Random(3), operations=5_000, clients=10, unknown=unknown)
    reads = [i for i, event in enumerate(history) if event.type == "ok" and event.f == "read"]
    old, late = history[reads[10]], reads[-10]
    history[late] = Event("ok", history[late].process, "read", old.value, key=history[late].key)
    found = check_linearizable(history, Register(), states_max=200_000)
    assert found.linearizable is False
    assert found.stuck is not None
    assert found.stuck.completed == late


def test_a_client_that_stalls_for_the_whole_run_costs_little() -> None:
    history = atomic.record(Register(), atomic.unique_values, Random(5), operations=3_000, clients=6)
    slow = [Event("invoke", 99, "write", -1, key="k0"), *history, Event("ok", 99, "write", -1, key="k0")]
    found = check_linearizable(slow, Register(), states_max=60_000)
    assert found.linearizable


def test_the_timeline_shows_the_stuck_operation_among_the_concurrent_ones() -> None:
    found = verdict(
        CasRegister(),
        *("0 invoke write 0", "0 ok write 0", "1 invoke read", "2 invoke write 4", "3 invoke write 9"),
        *("1 ok read 3", "2 ok write 4"),
    )
    assert found.stuck is not None
    rows = report.timeline(found.stuck, found.concurrent, found.order)
    assert [row.split("  ")[0] for row in rows] == ["process 0", "process 1", "process 2", "process 3"]
    assert "read -> 3" in rows[1]
    assert rows[1].endswith("<-- stuck")
    assert rows[1].index("|") > rows[0].rindex("|"), "what was over before begins to the left"
    assert rows[3].endswith("...")
    assert "write 9 -> ?" in rows[3]
    assert "0 or 4" in report.text(found)


def test_operations_and_events_give_the_same_verdict() -> None:
    history = events("0 invoke write 1", "0 ok write 1", "1 invoke read", "1 ok read 1")
    assert check_linearizable(history, Register()) == check_linearizable(pair(history), Register())
    mixed: list[Any] = [*history, *pair(history)]
    with pytest.raises(TypeError):
        check_linearizable(mixed, Register())
