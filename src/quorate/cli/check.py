"""`quorate check HISTORY`: is a recorded history linearizable?"""

import os
import sys
import time
import traceback
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from quorate.sim.checkers import linearizability, report
from quorate.sim.checkers.models import MODELS, Model
from quorate.sim.history import HistoryError, edn, read_history

NOT_LINEARIZABLE: Final = 1
WRONG_USE: Final = 2
UNDECIDED: Final = 4
OUR_ERROR: Final = 70  # EX_SOFTWARE of sysexits.h
QUIET_S: Final = 2.0
INITIAL_CHARS_MAX: Final = 10_000

ModelName = Enum("ModelName", {name: name for name in MODELS}, type=str)  # type: ignore[misc]

DEFAULT_MODEL: Final = ModelName("cas-register")


def check(
    history: Annotated[Path, typer.Argument(help="Jepsen's EDN, or JSON lines; the format is found out.")],
    model: Annotated[
        ModelName, typer.Option(help="What one client alone would see.", show_choices=True)
    ] = DEFAULT_MODEL,
    independent: Annotated[
        bool, typer.Option("--independent", help="Values are pairs of key and value, as jepsen.independent writes.")
    ] = False,
    initial: Annotated[
        str | None, typer.Option(help="State at the beginning, in EDN: 0, or held, or {:x 0 :y 0}. Default: nil.")
    ] = None,
    budget_s: Annotated[float, typer.Option(help="Give up after so many seconds.", min=0.0)] = 60.0,
    budget_states: Annotated[int, typer.Option(help="Give up after so many states.", min=1)] = 10_000_000,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as one JSON object.")] = False,
) -> None:
    """Check that a recorded history is linearizable.

    An operation without ok or fail has an unknown outcome: it may take effect at any time, or never. Where the history
    is not linearizable, the first completion that no order can explain is shown with what was concurrent.

    Example:  quorate check --model cas-register history.edn

    Transactions (multi-register, rw-register, list-append) are checked for strict serializability.

    Exit code: 0 linearizable, with at least one operation; 1 not linearizable; 2 wrong use, or a file that is not a
    history with operations; 4 undecided within the budget or the memory; 70 an error in this program.
    """
    try:
        code = _check(history, model.value, independent, initial, budget_s, budget_states, json)
    except HistoryError as error:
        _say_error(str(error))
        code = WRONG_USE
    except (MemoryError, RecursionError) as error:
        _say_error(f"undecided: {type(error).__name__}; try a shorter part of the history")
        code = UNDECIDED
    except Exception:  # whatever it is, it is not a verdict: 1 would say that the history is not linearizable
        _say_error(f"an error in quorate, which says nothing about the history:\n{traceback.format_exc()}")
        code = OUR_ERROR
    raise typer.Exit(code)


def _check(
    history: Path, model: str, independent: bool, initial: str | None, budget_s: float, budget_states: int, json: bool
) -> int:
    """Check, print the verdict and return the exit code."""
    with _Display(Console(stderr=True), budget_s) as display:
        began = _model(model, initial)
        events = read_history(history, independent=independent, watch=display.read)
        verdict = linearizability.check_linearizable(events, began, states_max=budget_states, watch=display.search)
    if verdict.operations == 0:
        raise HistoryError(f"{history}: no operation to check: no client has one that is ok or of unknown outcome")
    if json:
        _say(msgspec.json.encode(report.as_plain(verdict)).decode())
    else:
        _say(report.text(verdict))
        if verdict.linearizable is None:
            _say("\nThe budget was spent before either was proved; try a larger --budget-s or a shorter history.")
    return UNDECIDED if verdict.linearizable is None else 0 if verdict.linearizable else NOT_LINEARIZABLE


def _say(text: str) -> None:
    """Print; a reader who went away (`| head`) does not change the verdict."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        typer.echo(text.encode(encoding, "backslashreplace").decode(encoding))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_error(text: str) -> None:
    typer.echo(f"error: {text}".encode("utf-8", "backslashreplace").decode(), err=True)


def _model(name: str, initial: str | None) -> Model:
    return MODELS[name]() if initial is None else MODELS[name](_initial(initial))


def _initial(text: str) -> Any:
    try:
        values = list(edn.read_edn([text], whole=True)) if len(text) <= INITIAL_CHARS_MAX else []
    except edn.EdnError as error:
        raise HistoryError(f"--initial {text!r} is not EDN: {error}") from None
    if len(values) != 1:
        raise HistoryError(f"--initial is one value in EDN, such as 0 or {{:x 0}}; got {text[:60]!r}")
    return values[0][1]


class _Display:
    """Says on stderr how far the check is, if it takes long, and ends it when its time is up."""

    def __init__(self, console: Console, budget_s: float) -> None:
        self._began_s = time.monotonic()
        self._budget_s = budget_s
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
        )
        self._task = self._progress.add_task("reading", total=None)
        self._shown = False

    def __enter__(self) -> "_Display":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._progress.stop()

    def read(self, events: int) -> None:
        """Called by the reader now and then."""
        self._show(f"{events:,} events read", None, None)

    def search(self, progress: linearizability.CheckProgress) -> bool:
        """Called by the search now and then; False when the time is up."""
        self._show(f"{progress.explored:,} states explored", progress.keys_done, progress.keys)
        return time.monotonic() - self._began_s < self._budget_s

    def _show(self, words: str, done: int | None, total: int | None) -> None:
        if not self._shown and time.monotonic() - self._began_s > QUIET_S:
            self._progress.start()
            self._shown = True
        if self._shown:
            self._progress.update(self._task, description=words, completed=done, total=total)
