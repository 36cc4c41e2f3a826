"""Sequential models: what an object would do if operations came one at a time.

A model is a pure step function over hashable states. The hooks beside it (`readonly`, `blind`, `demand`) say
nothing new about the object; they tell the search what it need not try. A model that overrides none of them is
checked correctly, only slower. To add a model, subclass Model and enter it in MODELS.

Values are frozen (see `quorate.sim.history.values`) before a model sees them: hashable, and true is not 1.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable
from enum import Enum
from math import inf
from typing import Any, ClassVar, Final

from quorate.sim.history import edn
from quorate.sim.history.events import HistoryError, Operation, brief
from quorate.sim.history.values import Keyword, Mapping, Symbol, Truth, freeze

State = Hashable


class Mark(Enum):
    """Words that no value of a history equals."""

    UNKNOWN = "an output that nobody saw"
    ANY = "any state at all"
    LOST = "a state from which no demand can be met before it is overwritten"


UNKNOWN: Final = Mark.UNKNOWN
ANY: Final = Mark.ANY
LOST: Final = Mark.LOST


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
        raise HistoryError(f"{place(operation)}: the value of a cas is [expected new], got {brief(value)}")


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
        if isinstance(initial, (Keyword, Symbol)):
            initial = initial.name
        if initial is not None and freeze(initial) not in ("free", "held"):
            raise HistoryError(f"a mutex begins free or held, not {brief(initial)}")
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
            if isinstance(state, tuple):
                return goal[: len(state)] == state
            return goal != () and self.leads(state, goal[0])  # grows to the first item, then becomes a list
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
    if not isinstance(value, tuple):
        return f"v{_item(value)}\n"
    if value and isinstance(value[0], (str, bytes)):  # may come of a text, to which something else was appended
        return "".join((f"{_text(value[0])}\n", *(f"{_item(item)}\n" for item in value[1:])))
    return "v" + "".join(f"{_item(item)}\n" for item in value)


def _item(value: Any) -> str:
    """The same text for equal values: `repr` has no order for sets."""
    return repr(value) if isinstance(value, (int, str, bytes)) else edn.write(value)


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
APPENDS: Final = frozenset({"append"})


class MultiRegister(Model):
    """Transactions over many registers: `txn [[r key value] [w key value] ...]`, each all at once.

    The state is a map of key to value. A read of a key never written sees None. That one order of all transactions
    explains what each saw, and keeps real time, is strict serializability.
    """

    name = "multi-register"
    functions = frozenset({"txn", "read", "write"})
    by_key = False
    writes: ClassVar[frozenset[str]] = WRITES

    def __init__(self, initial: Any = None) -> None:
        if initial is not None and not isinstance(initial, dict):
            raise HistoryError(f"a {self.name} begins with a map of key to value, not {brief(initial)}")
        super().__init__({key: value for key, value in (initial or {}).items() if value is not None})

    def step(self, state: State, f: str, value: Any, output: Any) -> tuple[bool, State]:
        assert isinstance(state, Mapping)
        registers = dict(state.items)
        for kind, key, wanted in value if output is UNKNOWN else output:
            if _micro(kind) in self.writes:
                registers[key] = self.after(registers.get(key), wanted)
            elif output is not UNKNOWN and not self.shows(registers.get(key), wanted):
                return False, state
        if self.readonly(f, value, output):
            return True, state
        return True, Mapping(frozenset(item for item in registers.items() if item[1] is not None))

    def after(self, held: Any, written: Any) -> Any:
        """What a register holds after a write."""
        return written

    def shows(self, held: Any, seen: Any) -> bool:
        """Could a read have seen this?"""
        return held == seen  # type: ignore[no-any-return]

    def readonly(self, f: str, value: Any, output: Any) -> bool:
        return not any(_micro(kind) in self.writes for kind, _, _ in value)

    def validate(self, operation: Operation) -> None:
        super().validate(operation)
        self._validate_txn(operation, operation.value)
        if operation.certain:
            self._validate_txn(operation, operation.output)
            if self._asked(operation.output) != self._asked(operation.value):
                raise HistoryError(
                    f"{place(operation)}: a transaction completes with other steps than it was invoked with"
                )

    def _validate_txn(self, operation: Operation, txn: Any) -> None:
        for step in txn if isinstance(txn, (list, tuple)) else (None,):
            if not isinstance(step, (list, tuple)) or len(step) != 3 or _micro(step[0]) not in READS | self.writes:
                write = sorted(self.writes)[0]
                others = [model.name for model in TRANSACTIONAL if model.writes != self.writes]
                raise HistoryError(
                    f"{place(operation)}: a transaction of {self.name} is a list of [r key value] and "
                    f"[{write} key value], got {brief(txn)}; if it has other steps, try --model {' or '.join(others)}"
                )
            if operation.f == "read" and _micro(step[0]) in self.writes:
                raise HistoryError(f"{place(operation)}: a transaction that is called read writes: {brief(txn)}")

    def _asked(self, txn: Any) -> State:
        """The steps without what reads saw."""
        return freeze([[_micro(kind), key, value if _micro(kind) in self.writes else None] for kind, key, value in txn])


class RwRegister(MultiRegister):
    """Elle's rw-register, under the name that it has there. Checked is strict serializability, nothing weaker."""

    name = "rw-register"


class ListAppend(MultiRegister):
    """Elle's list-append: `txn [[r key list] [append key value] ...]`. Checked is strict serializability."""

    name = "list-append"
    functions = frozenset({"txn", "read", "append"})
    writes = APPENDS

    def __init__(self, initial: Any = None) -> None:
        super().__init__(initial)
        for key, held in (initial or {}).items():
            _require_list(f"--initial of key {brief(key)}", held)

    def after(self, held: Any, written: Any) -> Any:
        return (*(held or ()), written)

    def shows(self, held: Any, seen: Any) -> bool:
        return (held or ()) == (seen or ())

    def validate(self, operation: Operation) -> None:
        super().validate(operation)
        for kind, _, seen in operation.output if operation.certain else ():
            if _micro(kind) in READS:
                _require_list(f"{place(operation)}: what a read of list-append sees", seen)


def _require_list(what: str, value: Any) -> None:
    if value is not None and not isinstance(value, (list, tuple)):
        raise HistoryError(f"{what} is a list or nil, got {brief(value)}")


def _micro(kind: Any) -> str | None:
    """The name of one step of a transaction, be it a string or an EDN keyword."""
    return kind if isinstance(kind, str) else kind.name if isinstance(kind, Keyword) else None


TRANSACTIONAL: Final[tuple[type[MultiRegister], ...]] = (MultiRegister, RwRegister, ListAppend)
MODELS: Final[dict[str, type[Model]]] = {
    **{model.name: model for model in (Register, CasRegister, Mutex, KeyValue)},
    **{model.name: model for model in TRANSACTIONAL},
}
"""Name to model: what `quorate check --model` offers."""
