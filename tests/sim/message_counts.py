"""How many messages a decision costs where nothing goes wrong, counted in the simulator.

``count`` runs a quiet World, submits values one by one at the node that leads (node 0 where nobody does), at equal
distances and while earlier ones are on their way, and counts what leaves for *other* nodes, by type. The first values,
and what comes before them, are not counted.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from quorate.kernel import Send
from quorate.protocols import REGISTRY
from quorate.sim.options import Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import subject

DELAY_S = 0.001
ELECTION_S = 5.0


def sent_in(world: World) -> Counter[str]:
    """Counts messages to other nodes from now on, by the name of their type."""
    sent: Counter[str] = Counter()
    send = world.network.send

    def counting(sender: int, sends: Sequence[Send]) -> None:
        for each in sends:
            sent[type(each.message).__name__] += sum(to != sender for to in each.to)
        send(sender, sends)

    world.network.send = counting  # type: ignore[method-assign]
    return sent


def count(protocol: str, nodes: int, values: int, every_s: float, config: Any = None) -> dict[str, float]:
    """Messages to other nodes for each of ``values`` values, by the name of their type."""
    make = REGISTRY[protocol].make(config or equipment_of(protocol).simulation)
    options = Options(seed=1, nodes=nodes, faults=(), clients=0)
    mix = Mix(delay_s_min=DELAY_S, delay_s_mean=1e-9, is_fifo=True, sync_s=DELAY_S / 10, clients=0)
    world = World(Trial(make, subject("register"), options, mix=mix))
    sent = sent_in(world)
    world.start()
    world.run_until(ELECTION_S)
    leading = next((n for n in world.nodes if getattr(n.host.root, "role", "") == "leader"), world.nodes[0])
    for number in range(values + 20):
        if number == 20:
            sent.clear()
            before = leading.applied
        leading.operate(b"value %d" % number)
        world.run_until(world.now + every_s)
    decided = leading.applied - before
    assert decided == values, (decided, values)
    return {name: total / values for name, total in sorted(sent.items())}
