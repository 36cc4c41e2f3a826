"""The language of golden traces: commands in, one line an event out.

A file is blocks, parted by blank lines: commands, ``----``, what they print. ``#`` begins a remark. Commands:

    cluster 3 [keep_entries=2 ...]     new nodes, which start; words set fields of the protocol's config
    given 1 term=6 [vote=2] [log=1,1,4]  what node 1's journal holds when it starts: its term, its entries' terms
    begin                              start the nodes (after the last ``given``)
    tick 1 election                    let time pass until this timer of the node does something
    wait 0.3                           let time pass; nothing runs out
    deliver 1 2                        deliver what is on its way from 1 to 2 now
    drop 1 2                           lose it
    duplicate 1 2                      deliver it, and leave it on its way as well
    settle                             deliver until nothing is on its way
    submit 1 x y    read 1 7           values and reads at a node
    transfer 1 [2]                     have node 1 make way, for node 2 if it is named
    join 1 4 [witness]                 node 4 starts, and node 1 submits its introduction
    change 1 2,3                       others are to be the members, submitted at node 1 for the epoch it goes by
    cut 1,2 3,4,5   heal               part the network, join it
    crash 2         restart 2          end a process, begin its next life
    hold 2          sync 2             let what node 2 writes wait, make it durable
    state                              one line a node
    quietly COMMAND                    print roles, outputs and blames alone

What is printed:

    1 <- 2 Vote term=1 granted=True    a message arrives at 1
    1 is leader of term 1              role or term changed
    1 writes HardState term=1 vote=1   a durable record
    1 -> 2,3 PreVote term=1 ...        a message leaves
    1 says Decided 1..2 1: 1:x       an output: indexes, then term:command for each entry
    1 asks for TakeSnapshot index=3    a job
    1 blames 2: why
"""

import shlex
from typing import Any

import msgspec
from msgspec import UNSET

from quorate.kernel import Core, Env, HandOver, Turn
from quorate.parts.log.configuration import Newcomer, Reconfigurable, Voters, decode_change, encode_change
from quorate.parts.log.entries import CONFIGURATION, NOOP, WITHHELD, Entry
from quorate.parts.log.replicated import Chunk
from quorate.protocols.multipaxos.messages import Run
from quorate.protocols.raft import Raft, RaftConfig
from quorate.protocols.raft.messages import Entries, HardState

from tests.protocols.cluster import Cluster, Flight


def text_of(value: Any) -> str:
    """A message, record, output or job on one line: ``Vote term=1 granted=True``."""
    if isinstance(value, bytes):
        return plain(value)
    words = [type(value).__name__]
    for name in value.__struct_fields__:
        field = getattr(value, name)
        if (name == "proof" and field is None) or field is UNSET:
            continue
        if isinstance(field, list | tuple) and (not field or isinstance(field[0], Entry)):
            words.append("[" + " ".join(map(entry_of, field)) + "]")
        elif isinstance(field, list | tuple):
            words.append(f"{name}=" + ",".join(map(plain, field)))
        else:
            words.append(f"{name}={plain(field)}")
    return " ".join(words)


def plain(field: Any) -> str:
    """A field's value; of a piece of a snapshot only what it is a piece of."""
    if isinstance(field, bytes):
        return field.decode() if field.isascii() and field.decode().isprintable() else f"{len(field)} bytes"
    if isinstance(field, Chunk):
        return f"({field.index}: {field.offset}+{len(field.data)}/{field.total_bytes} bytes)"
    if isinstance(field, Run):
        return f"{field.first_slot}@{field.ballot[0]},{field.ballot[1]}[{' '.join(map(entry_of, field.entries))}]"
    return str(field)


def entry_of(entry: Entry) -> str:
    """``term:command``; a no-op has no command, and a configuration says who the members are."""
    if entry.kind == CONFIGURATION:
        change = decode_change(entry.data)
        return f"{entry.term}:" + (
            "leaves-joint" if change is None else f"members({','.join(map(str, change.members))})"
        )
    if entry.kind == WITHHELD:
        return f"{entry.term}:withheld"
    return f"{entry.term}:" + ("noop" if entry.kind == NOOP else entry.data.decode())


def voters_text(voters: Voters) -> str:
    """``1,2,3``, or ``1,2,3&1,4,5`` while they are joint."""
    halves = (voters.members, voters.next_members) if voters.next_members else (voters.members,)
    return "&".join(",".join(map(str, half)) for half in halves)


class Script:
    """Runs commands and collects what they print. A subclass says what differs where the protocol is not Raft."""

    protocol: type[Core] = Raft
    config: type[msgspec.Struct] = RaftConfig

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._quiet = False
        self._size = 0
        self._config = self.config()
        self._journals: dict[int, list[Any]] = {}
        self._roles: dict[int, str] = {}
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        """The running cluster; the first command that needs it starts the nodes."""
        if self._cluster is None:
            self._cluster = Cluster(self._make, self._size, seed=1, journals=self._journals)
            self._roles = {node: self._role(node) for node in self._cluster.peers}
            self._cluster.watch = self._print
        return self._cluster

    def _make(self, env: Env) -> Core:
        make: Any = self.protocol
        core: Core = make(env, self._config)
        return core

    def run(self, command: str) -> list[str]:
        """Run one command; what it printed."""
        self.lines = []
        word, *args = shlex.split(command)
        self._quiet = word == "quietly"
        if self._quiet:
            word, *args = args
        getattr(self, f"do_{word}")(*args)
        return self.lines

    # --- commands ---

    def do_cluster(self, size: str, *settings: str) -> None:
        self._size = int(size)
        given: dict[str, Any] = dict(s.split("=") for s in settings)
        for name in {"members", "founders"} & given.keys():
            given[name] = given[name].split(",")
        self._config = msgspec.convert(given, self.config, strict=False)
        self._journals = {}
        self._cluster = None

    def do_given(self, node: str, *settings: str) -> None:
        assert self._cluster is None, "`given` comes before the nodes start"
        given = dict(s.split("=") for s in settings)
        vote = int(given["vote"]) if "vote" in given else None
        terms = [int(term) for term in given["log"].split(",")] if "log" in given else []
        entries = [Entry(term, f"{'abcdefghijklmnopqrstuvwxyz'[at]}{term}".encode()) for at, term in enumerate(terms)]
        self._journals[int(node)] = [HardState(int(given["term"]), vote), Entries(1, entries)]

    def do_begin(self) -> None:
        assert self.cluster

    def do_tick(self, node: str, timer: str) -> None:
        self.cluster.fire(int(node), timer)

    def do_wait(self, seconds: str) -> None:
        self.cluster.now += float(seconds)

    def do_deliver(self, sender: str, to: str) -> None:
        for flight in self.cluster.take(int(sender), int(to)):
            self._arrive(flight)

    def do_drop(self, sender: str, to: str) -> None:
        for flight in self.cluster.take(int(sender), int(to)):
            self.lines.append(f"  lost: {flight.sender} -> {flight.to} {self.text_of(flight.message)}")

    def do_duplicate(self, sender: str, to: str) -> None:
        flights = self.cluster.take(int(sender), int(to))
        self.cluster.network.extend(flights)
        for flight in flights:
            self._arrive(flight)

    def do_settle(self) -> None:
        for _ in range(1000):
            if not self.cluster.network:
                return
            self._arrive(self.cluster.network.pop(0))
        raise AssertionError("the cluster does not come to rest")

    def do_submit(self, node: str, *values: str) -> None:
        self.cluster.submit(int(node), *[value.encode() for value in values])

    def do_join(self, at: str, node: str, *kind: str) -> None:
        core = self.cluster[int(at)].core
        assert isinstance(core, Reconfigurable)
        self.cluster.join(int(node))
        self._roles[int(node)] = self._role(int(node))
        newcomer = Newcomer(int(node), f"n{node}:1", witness="witness" in kind)
        acting = core.acting()
        self.cluster.submit(int(at), encode_change(acting.members, acting.epoch, [newcomer]))

    def do_change(self, node: str, members: str) -> None:
        core = self.cluster[int(node)].core
        assert isinstance(core, Reconfigurable)
        change = encode_change([int(member) for member in members.split(",")], core.acting().epoch)
        self.cluster.submit(int(node), change)

    def do_read(self, node: str, *tokens: str) -> None:
        self.cluster.read(int(node), *map(int, tokens))

    def do_transfer(self, node: str, *to: str) -> None:
        self.cluster.step(int(node), HandOver(to=int(to[0]) if to else None))

    def do_cut(self, *groups: str) -> None:
        self.cluster.cut(*[tuple(map(int, group.split(","))) for group in groups])

    def do_heal(self) -> None:
        self.cluster.heal()

    def do_crash(self, node: str) -> None:
        self.cluster.crash(int(node))

    def do_restart(self, node: str) -> None:
        member = self.cluster[int(node)]
        before = len(member.outputs)
        self.cluster.restart(int(node))
        self._roles[int(node)] = self._role(int(node))
        for output in member.outputs[before:]:
            self.lines.append(f"  {node} says {self.text_of(output)}")

    def do_hold(self, node: str) -> None:
        self.cluster[int(node)].held = True

    def do_sync(self, node: str) -> None:
        self.cluster[int(node)].held = False
        self.cluster[int(node)].sync()
        self.cluster.work(int(node))

    def do_state(self) -> None:
        for node, member in self.cluster.members.items():
            core, log = member.core, member.core.log
            words = [f"term={core.term} vote={core.vote} commit={core.commit_index}"]
            if log.base_index:
                words.append(f"log after {log.base_index}:")
            words.append("[" + " ".join(map(entry_of, log.slice(log.base_index + 1, log.last_index))) + "]")
            if isinstance(core, Reconfigurable) and core.acting().epoch:
                words.append(f"goes by {voters_text(core.acting())}, committed {voters_text(core.in_force().voters)}")
            self.lines.append(f"  {node} {core.role if member.up else 'down'} " + " ".join(words))

    # --- printing ---

    def text_of(self, value: Any) -> str:
        """A message, record, output or job on one line."""
        return text_of(value)

    def _role(self, node: int) -> str:
        core = self.cluster[node].core
        return f"{core.role} of term {core.term}"

    def _arrive(self, flight: Flight) -> None:
        if self.cluster[flight.to].up:
            if not self._quiet:
                self.lines.append(f"{flight.to} <- {flight.sender} {self.text_of(flight.message)}")
            self.cluster.arrive(flight)

    def _print(self, node: int, turn: Turn) -> None:
        role = self._role(node)
        if role != self._roles[node]:
            self._roles[node] = role
            self.lines.append(f"  {node} is {role}")
        if not self._quiet:
            self.lines += [f"  {node} writes {self.text_of(record.value)}" for record in turn.records]
            for send in [*turn.early, *turn.sends]:
                late = " (waits for the disk)" if self.cluster[node].held and send in turn.sends else ""
                self.lines.append(f"  {node} -> {','.join(map(str, send.to))} {self.text_of(send.message)}{late}")
            self.lines += [f"  {node} asks for {self.text_of(job.work)}" for job in turn.jobs]
        self.lines += [f"  {node} says {self.text_of(output)}" for output in turn.outputs]
        self.lines += [f"  {node} blames {blame.node}: {blame.why}" for blame in turn.blames]


def plain_ballot(ballot: tuple[int, int]) -> str:
    """Round and node, as messages are printed."""
    return ",".join(map(str, ballot))
