"""Sequential models: what an object would do if operations came one at a time.

A model is a pure step function over hashable states. The hooks beside it (`readonly`, `blind`, `demand`) say
nothing new about the object; they tell the search what it need not try. A model that overrides none of them is
checked correctly, only slower. To add a model, subclass Model and enter it in MODELS.

Values are frozen (`freeze`) before a model sees them, so they are hashable and true is not 1.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable
from enum import Enum
from math import inf
from typing import Any, ClassVar, Final

import msgspec

from quorate.sim.history.edn import Keyword
from quorate.sim.history.events import HistoryError, Operation

State = Hashable


class Mark(Enum):
    """Words that no value of a history equals."""

    UNKNOWN = "an output that nobody saw"
    ANY = "any state at all"
    LOST = "a state from which no demand can be met before it is overwritten"


UNKNOWN: Final = Mark.UNKNOWN
ANY: Final = Mark.ANY
LOST: Final = Mark.LOST


class Truth(msgspec.Struct, frozen=True):
    """A boolean that is not equal to a number."""

    value: bool


class Mapping(msgspec.Struct, frozen=True):
    """A map, hashable."""

    items: frozenset[tuple[Any, Any]]


def freeze(value: Any) -> State:
    """A hashable equal of a value of a history. Raises TypeError for what has none."""
    if value is None or type(value) in (int, str):
        return value  # type: ignore[no-any-return]
    if isinstance(value, bool):
        return Truth(value)
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    if isinstance(value, dict):
        return Mapping(frozenset((freeze(key), freeze(item)) for key, item in value.items()))
    if isinstance(value, (set, frozenset)):
        return frozenset(freeze(item) for item in value)
    hash(value)
    return value  # type: ignore[no-any-return]


def thaw(value: Any) -> Any:
    """The plain value of a frozen one, for people to read."""
    if isinstance(value, Truth):
        return value.value
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    if isinstance(value, Mapping):
        return {thaw_key(key): thaw(item) for key, item in sorted(value.items, key=repr)}
    return value


def thaw_key(key: Any) -> Any:
    """As `thaw`, but what comes out can be the key of a dict."""
    return key.value if isinstance(key, Truth) else key


class Model(ABC):
    """An object as if it were used by one client at a time.

    `by_key` says that operations with different keys never affect each other, so that each key can be checked alone.
    """

    name: ClassVar[str]
    functions: ClassVar[frozenset[str]]
    by_key: ClassVar[bool] = True
    foresees: ClassVar[bool] = False  # do `leads` and `hopes` say anything?

    def __init__(self, initial: Any = None) -> None:
        self.initial: State = freeze(initial)

    @abstractmethod
    def step(self, state: State, f: str, value: Any, output: Any) -> tuple[bool, State]:
        """(could the operation have had this output in this state?, the state after it). `output` may be UNKNOWN."""

    def readonly(self, f: str, value: Any, output: Any) -> bool:
        """True if the operation changes the state in no state it could have happened in."""
        return False

    def blind(self, f: str, value: Any, output: Any) -> bool:
        """True if it succeeds in every state and leaves always the same state: nothing before it shows after it."""
        return False

    def demand(self, f: str, value: Any, output: Any) -> State:
        """The only state in which the operation could have happened, or ANY if there may be several."""
        return ANY

    def leads(self, state: State, goal: State) -> bool:
        """Could operations that are neither blind nor of one demand (appends) alone turn `state` into `goal`?

        A model with `foresees` promises that such operations are possible in every state.
        """
        return True

    def hopes(self, demands: Iterable[tuple[State, float]]) -> Callable[[State], float]:
        """Given demands and until when each is open: until when does a state lead to one? It may err upwards."""
        return lambda state: inf

    def validate(self, operation: Operation) -> None:
        """Raise HistoryError if the operation is none of this model's."""
        if operation.f not in self.functions:
            fits = [name for name, model in MODELS.items() if operation.f in model.functions]
            hint = f"try --model {' or '.join(fits)}" if fits else "no model knows it"
            known = ", ".join(sorted(self.functions))
            raise HistoryError(f"{place(operation)}: {self.name} has no {operation.f!r} (it has {known}); {hint}")


def place(operation: Operation) -> str:
    """Where an operation was invoked."""
    return f"line {operation.line}" if operation.line else f"event {operation.invoked}"


def _require_pair(operation: Operation) -> None:
    value = operation.value
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise HistoryError(f"{place(operation)}: the value of a cas is [expected new], got {value!r}")


class Register(Model):
    """read -> the value; write value."""

    name = "register"
    functions = frozenset({"read", "write"})

    def step(self, state: State, f: str, value: Any, output: Any) -> tuple[bool, State]:
        if f == "read":
            return output is UNKNOWN or output == state, state
        return True, value

    def readonly(self, f: str, value: Any, output: Any) -> bool:
        return f == "read"

    def blind(self, f: str, value: Any, output: Any) -> bool:
        return f == "write"

    def demand(self, f: str, value: Any, output: Any) -> State:
        return output if f == "read" and output is not UNKNOWN else ANY


class CasRegister(Register):
    """A register with cas [expected new], which is `ok` only if it took place."""

    name = "cas-register"
    functions = frozenset({"read", "write", "cas"})

    def step(self, state: State, f: str, value: Any, output: Any) -> tuple[bool, State]:
        if f == "cas":
            return state == value[0], value[1]
        return super().step(state, f, value, output)

    def demand(self, f: str, value: Any, output: Any) -> State:
        return value[0] if f == "cas" else super().demand(f, value, output)

    def validate(self, operation: Operation) -> None:
        super().validate(operation)
        if operation.f == "cas":
            _require_pair(operation)


class Mutex(Model):
    """acquire, release; a mutex is held by at most one."""

    name = "mutex"
    functions = frozenset({"acquire", "release"})

    def __init__(self, initial: Any = None) -> None:
        if initial not in (None, "free", "held"):
            raise HistoryError(f"a mutex begins free or held, not {initial!r}")
        super().__init__(initial or "free")

    def step(self, state: State, f: str, value: Any, output: Any) -> tuple[bool, State]:
        before, after = ("free", "held") if f == "acquire" else ("held", "free")
        return state == before, after

    def demand(self, f: str, value: Any, output: Any) -> State:
        return "free" if f == "acquire" else "held"


class KeyValue(Model):
    """get, put, append, delete and cas [expected new] of one key; a key that is absent reads None.

    append concatenates strings (and bytes) and otherwise adds to a list. A cas whose output is false did not match;
    any other output says that it did.
    """

    name = "kv"
    functions = frozenset({"get", "read", "put", "write", "append", "delete", "cas"})
    foresees = True

    def step(self, state: State, f: str, value: Any, output: Any) -> tuple[bool, State]:
        if f in ("get", "read"):
            return output is UNKNOWN or output == state, state
        if f == "cas":
            if output == NO:
                return state != value[0], state
            return state == value[0], value[1]
        if f == "append":
            return True, _append(state, value)
        return True, None if f == "delete" else value

    def readonly(self, f: str, value: Any, output: Any) -> bool:
        return f in ("get", "read") or (f == "cas" and output == NO)

    def blind(self, f: str, value: Any, output: Any) -> bool:
        return f in ("put", "write", "delete")

    def demand(self, f: str, value: Any, output: Any) -> State:
        if f == "cas" and output != NO:
            return value[0]  # type: ignore[no-any-return]
        return output if f in ("get", "read") and output is not UNKNOWN else ANY

    def leads(self, state: Any, goal: Any) -> bool:
        if state is None or state == goal:
            return True
        if isinstance(goal, str):
            return isinstance(state, str) and goal.startswith(state)
        if isinstance(goal, bytes):
            return isinstance(state, bytes) and goal.startswith(state)
        if isinstance(goal, tuple):
            return goal[: len(state)] == state if isinstance(state, tuple) else goal[:1] == (state,)
        return False

    def hopes(self, demands: Iterable[tuple[State, float]]) -> Callable[[State], float]:
        ordered = sorted((_text(demand), until) for demand, until in demands)

        def hope(state: State) -> float:
            if state is None:
                return inf
            latest, text = -1.0, _text(state)
            at = bisect_left(ordered, (text, -1.0))
            for demand, until in ordered[at : at + HOPES_READ_MAX]:
                if not demand.startswith(text):
                    return latest
                latest = max(latest, until)
            return latest if at + HOPES_READ_MAX > len(ordered) else inf

        return hope

    def validate(self, operation: Operation) -> None:
        super().validate(operation)
        if operation.key is None:
            raise HistoryError(
                f"{place(operation)}: {operation.f} without a key; give events a key, or use --independent "
                "if values are [key value]"
            )
        if operation.f == "cas":
            _require_pair(operation)


NO: Final = Truth(False)
HOPES_READ_MAX: Final = 16


def _text(value: Any) -> str:
    """A text that is a prefix of another's where one value leads to the other."""
    if isinstance(value, str):
        return f"s{value}"
    if isinstance(value, bytes):
        return f"b{value.decode('latin-1')}"
    items = value if isinstance(value, tuple) else (value,)
    return "v" + "".join(f"{item!r}\n" for item in items)


def _append(state: Any, value: Any) -> Any:
    if state is None:
        return value if isinstance(value, (str, bytes)) else (value,)
    if isinstance(state, str) and isinstance(value, str):
        return state + value
    if isinstance(state, bytes) and isinstance(value, bytes):
        return state + value
    if isinstance(state, tuple):
        return (*state, value)
    return (state, value)


READS: Final = frozenset({"r", "read"})
WRITES: Final = frozenset({"w", "write"})


class MultiRegister(Model):
    """Transactions over many registers: `txn [[r key value] [w key value] ...]`, each all at once.

    The state is a map of key to value. A read of a key never written sees None.
    """

    name = "multi-register"
    functions = frozenset({"txn", "read", "write"})
    by_key = False

    def __init__(self, initial: Any = None) -> None:
        if initial is not None and not isinstance(initial, dict):
            raise HistoryError(f"a multi-register begins with a map of key to value, not {initial!r}")
        super().__init__({key: value for key, value in (initial or {}).items() if value is not None})

    def step(self, state: State, f: str, value: Any, output: Any) -> tuple[bool, State]:
        assert isinstance(state, Mapping)
        registers = dict(state.items)
        for kind, key, wanted in value if output is UNKNOWN else output:
            if _micro(kind) in WRITES:
                registers[key] = wanted
            elif output is not UNKNOWN and registers.get(key) != wanted:
                return False, state
        if self.readonly(f, value, output):
            return True, state
        return True, Mapping(frozenset(item for item in registers.items() if item[1] is not None))

    def readonly(self, f: str, value: Any, output: Any) -> bool:
        return not any(_micro(kind) in WRITES for kind, _, _ in value)

    def validate(self, operation: Operation) -> None:
        super().validate(operation)
        self._validate_txn(operation, operation.value)
        if operation.certain:
            self._validate_txn(operation, operation.output)
            if len(operation.output) != len(operation.value):
                raise HistoryError(
                    f"{place(operation)}: a transaction completes with other steps than it was invoked with"
                )

    def _validate_txn(self, operation: Operation, txn: Any) -> None:
        for step in txn if isinstance(txn, (list, tuple)) else (None,):
            if not isinstance(step, (list, tuple)) or len(step) != 3 or _micro(step[0]) not in READS | WRITES:
                raise HistoryError(
                    f"{place(operation)}: a transaction is a list of [r key value] and [w key value], got {txn!r}"
                )
            if operation.f == "read" and _micro(step[0]) in WRITES:
                raise HistoryError(f"{place(operation)}: a transaction that is called read writes: {txn!r}")


def _micro(kind: Any) -> str | None:
    """The name of one step of a transaction, be it a string or an EDN keyword."""
    return kind if isinstance(kind, str) else kind.name if isinstance(kind, Keyword) else None


MODELS: Final[dict[str, type[Model]]] = {
    model.name: model for model in (Register, CasRegister, MultiRegister, Mutex, KeyValue)
}
