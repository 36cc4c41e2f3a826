"""Cores that are recovered by their inputs, as a whole (Lottery) or in part (Hall and its Games), and their App.

All state is in ``state()``, and all of it hangs on chance, messages, timers, jobs and children: what a replay does
differently shows there. ``found`` is its digest as it was when this life began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import Annotated, Any, BinaryIO

import msgspec
from msgspec import Meta

from quorate.kernel import ROOT, App, Core, Env, Job, Key, Name, Path, Requester
from quorate.parts.log.replicated import TakeSnapshot
from quorate.parts.wire import Natural
from quorate.runtime.jobs import Jobs

TICK_S = 0.01
BOOTH_DRAWS = 7
"""After so many a Lottery opens another booth."""
GAME_BETS = 5
"""After so many a game is over."""
HALL_SNAPSHOT_BETS = 16

Data = Annotated[bytes, Meta(max_length=64)]


class Weigh(msgspec.Struct, frozen=True):
    """A job. Result: Weighed."""

    data: bytes


class Weighed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    weight: Natural


async def weigh(jobs: Jobs, job: Job) -> Weighed:
    """The doer, in a thread."""
    data = job.work.data
    return Weighed(await jobs.in_thread(lambda: int.from_bytes(blake2b(data, digest_size=4).digest(), "big")))


class Draw(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    value: Data
    number: Natural


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    noise: Natural


class Stamp(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    number: Natural


class Drawn(msgspec.Struct, frozen=True):
    """An output: these were drawn here, in this life or an earlier one."""

    values: tuple[bytes, ...]


def digest_of(state: Any) -> str:
    return blake2b(repr(state).encode(), digest_size=8).hexdigest()


class Booth(Core):
    """Below a Lottery: stamps what it is given, and trades stamps with the booths of others."""

    messages = (Stamp,)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.stamps: list[int] = []

    def start(self) -> None:
        self.stamps.append(self.env.rng.getrandbits(16))
        self.env.send(self.env.others, Stamp(self.env.rng.getrandbits(16)))

    def on_stamp(self, sender: int, m: Stamp) -> None:
        self.stamps.append(sender * m.number + self.env.rng.getrandbits(8))
        self.env.deliver(len(self.stamps))


class Lottery(Core):
    """Recovered by inputs. Every value that is submitted is drawn on every node that hears of it."""

    messages = (Draw, Ping)
    children = (Booth,)
    results = (Weighed,)
    by_inputs = True

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.ticket = env.rng.getrandbits(16)  # drawn before any record is there
        self.lives = 0
        self.found = ""
        self.drawn: list[tuple[int, bytes, int]] = []
        self.weights: dict[int, int] = {}
        self.noise = 0
        self.stamped = 0
        self.booth: Booth | None = None
        self.booths = 0

    def state(self) -> Any:
        booth = None if self.booth is None else self.booth.stamps
        counts = (self.ticket, self.lives, self.noise, self.stamped, self.booths)
        return (counts, self.drawn, sorted(self.weights.items()), booth)

    def start(self) -> None:
        self.found = digest_of(self.state())
        self.lives += 1
        self.env.deliver(Drawn(tuple(value for sender, value, _ in self.drawn if sender == self.env.id)))
        for number in range(len(self.drawn)):
            self.weigh(number)
        self.on_timer("tick")

    def submit(self, values: Sequence[bytes]) -> None:
        for value in values:
            self.env.broadcast(Draw(value, self.env.rng.getrandbits(32)))

    def on_draw(self, sender: int, m: Draw) -> None:
        self.drawn.append((sender, m.value, m.number ^ self.env.rng.getrandbits(32)))
        self.weigh(len(self.drawn) - 1)
        if sender == self.env.id:
            self.env.deliver(Drawn((m.value,)))
        if len(self.drawn) % BOOTH_DRAWS == 0:
            if self.booth is not None:
                self.env.retire(("booth", self.booths))
            self.booths += 1
            self.booth = self.env.spawn(("booth", self.booths), Booth, upcall=self.on_stamped)

    def on_stamped(self, count: int) -> None:
        self.stamped += count

    def weigh(self, number: int) -> None:
        if number not in self.weights:
            self.env.work(("weigh", number), Weigh(self.drawn[number][1]))

    def on_done(self, key: Key, result: Any) -> None:
        if isinstance(result, Weighed):
            self.weights[int(key[1])] = result.weight ^ self.env.rng.getrandbits(8)

    def on_timer(self, key: Key) -> None:
        rng = self.env.rng
        self.env.set_timer("tick", TICK_S * rng.uniform(0.5, 2.0))
        self.env.send_now(rng.sample(self.env.peers, 1)[0], Ping(rng.getrandbits(16)))  # noise rests on nothing

    def on_ping(self, sender: int, m: Ping) -> None:
        self.noise = (self.noise * 31 + m.noise + sender) % 2**61


# --- a hall of games ---


class Opened(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A record: this game is on."""

    game: Natural


class Closed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A record: this game is over, and what came of it."""

    game: Natural
    total: Natural


class Betted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A record: what was bet here, by whom."""

    values: tuple[Data, ...]


class Chip(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """To the same game elsewhere."""

    number: Natural


class Bet(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """From the hall to a game."""

    value: Data


class Game(Core):
    """Recovered by inputs, for as long as it lasts."""

    messages = (Chip,)
    handed = (Bet,)
    results = (Weighed,)
    by_inputs = True

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.total = 0
        self.bets: list[bytes] = []
        self.starts = 0

    def state(self) -> Any:
        return (self.total, self.bets, self.starts)

    def start(self) -> None:
        self.starts += 1
        self.total += self.env.rng.getrandbits(16)
        self.on_timer("chip")

    def on_timer(self, key: Key) -> None:
        self.env.set_timer("chip", TICK_S * self.env.rng.uniform(0.5, 2.0))
        self.env.send(self.env.others, Chip(self.env.rng.getrandbits(16)))

    def on_chip(self, sender: int, m: Chip) -> None:
        self.total += sender * m.number

    def on_handed(self, value: Bet) -> None:
        self.bets.append(value.value)
        self.env.work(("weigh", len(self.bets)), Weigh(value.value))

    def on_done(self, key: Key, result: Any) -> None:
        if isinstance(result, Weighed):
            self.total += result.weight ^ self.env.rng.getrandbits(8)
            if len(self.bets) >= GAME_BETS:
                self.env.deliver(self.total)


class Hall(Core):
    """Recovered by records. It has one game at a time, which gets what is bet."""

    records = (Opened, Closed, Betted)
    children = (Game,)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.found = ""
        self.bets: list[bytes] = []  # durable (Betted)
        self.totals: dict[int, int] = {}  # durable (Closed)
        self.game: tuple[int, Game] | None = None  # durable (Opened)

    def state(self) -> Any:
        game = None if self.game is None else (self.game[0], self.game[1].state())
        return (self.bets, sorted(self.totals.items()), game)

    def restore(self, record: Opened | Closed | Betted) -> None:
        if isinstance(record, Betted):
            self.bets += record.values
        elif isinstance(record, Opened):
            self.open(record.game)
        else:
            self.close(record.game, record.total)

    def revive(self, name: Name) -> None:
        self.open(name[1])

    def checkpoint(self) -> Iterator[Opened | Closed | Betted]:
        yield Betted(tuple(self.bets))
        yield from (Closed(game, total) for game, total in self.totals.items())
        if self.game is not None:
            yield Opened(self.game[0])

    def start(self) -> None:
        self.found = digest_of(self.state())
        self.env.deliver(Drawn(tuple(self.bets)))
        if self.game is None:
            self.begin(len(self.totals) + 1)

    def submit(self, values: Sequence[bytes]) -> None:
        assert self.game is not None
        self.bets += values
        self.env.persist(Betted(tuple(values)))
        self.env.deliver(Drawn(tuple(values)))
        for value in values:
            self.env.hand(("game", self.game[0]), Bet(value))
        if len(self.bets) % HALL_SNAPSHOT_BETS < len(values):
            self.env.work("snapshot", TakeSnapshot(len(self.bets), 0))

    def begin(self, game: int) -> None:
        self.env.persist(Opened(game))
        self.open(game)

    def open(self, game: int) -> None:
        made: Any = self.env.spawn(("game", game), Game, upcall=partial(self.on_total, game))
        self.game = (game, made)

    def on_total(self, game: int, total: int) -> None:
        self.env.persist(Closed(game, total))
        self.close(game, total)
        self.begin(game + 1)

    def close(self, game: int, total: int) -> None:
        self.totals[game] = total
        self.env.retire(("game", game))
        self.game = None


# --- above both ---


class Teller(App):
    """Tells clients when their values are drawn."""

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        self.waiting: dict[bytes, Requester] = {}

    def output(self, value: Any, path: Path = ROOT) -> None:
        assert isinstance(value, Drawn)
        self.known.update(value.values)
        for each in value.values:
            if (client := self.waiting.pop(each, None)) is not None:
                self.port.reply(client, f"drawn {each.decode()}")

    def request(self, client: Requester, request: bytes) -> None:
        self.waiting[request] = client
        self.port.submit([request])

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        known = b"".join(sorted(self.known))
        return lambda file: (file.write(known), None)[1]

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        raise NotImplementedError("its cores give all again")
