"""What must hold of the ledger above a chain, at every look and in the end.

The supply is exact at every head that is looked at, and the pool stays within its bytes. In the end the state is that
of a replay from the first block, and a light client that is given the headers stands where its node does.
"""

from __future__ import annotations

from typing import Any, Final

from quorate.ledger.header_client import HEADERS_MAX, HeaderClient, PayloadBranch
from quorate.ledger.outputs import Extended
from quorate.ledger.tree import BlockStatus, TreeBase
from quorate.parts.crypto.merkle import merkle_proofs
from quorate.protocols.nakamoto.chain_equipment import GENESIS
from quorate.protocols.nakamoto.core import S_NS
from quorate.sim.checkers.base import Checker, Violation
from quorate.trials.chain.app import POOL_BYTES_MAX, CoinApp
from quorate.trials.chain.coins import CoinEngine, supply_at

SUPPLY: Final = "no coin is made or lost"
STATE: Final = "the state is that of a replay"
POOL: Final = "the pool of payments is bounded"
LIGHT: Final = "a light client agrees with its full node"
LOOK_EVERY: Final = 8
"""At how many blocks of a node its ledger is looked at once."""


class LedgerChecks(Checker):
    """Looks at a node's App now and then, and at all of them in the end."""

    def __init__(self) -> None:
        self._world: Any = None
        self._extended: dict[int, int] = {}

    def watch(self, world: Any) -> None:
        """It is the App that has the ledger."""
        self._world = world

    def output(self, node: int, value: Any) -> None:
        """Before the App is given it."""
        if isinstance(value, Extended):
            count = self._extended[node] = self._extended.get(node, 0) + 1
            if count % LOOK_EVERY == 0:
                check_supply(node, self._world.nodes[node].app)

    def finish(self, world: Any) -> None:
        """Nodes with one head share a replay."""
        replays: dict[bytes, CoinEngine] = {}
        for node in world.honest:
            app = node.app
            if app.head != node.host.root.head:
                raise Violation(STATE, f"node {node.id}: App and core have different heads")
            check_supply(node.id, app)
            if app.head not in replays:
                replays[app.head] = replayed(node.id, app)
            check_balances(node.id, app, replays[app.head])
        check_light_client(world.honest[0].id, world.honest[0].app, world.honest[0].host.root)


def check_supply(name: object, app: CoinApp) -> None:
    """At the head of one node. Raises Violation."""
    height = len(app.main) - 1
    supply, expected = app.supply(), supply_at(height)
    if supply != expected:
        raise Violation(SUPPLY, f"node {name} has {supply} coins at height {height}, not {expected}")
    held = sum(map(len, app.pool.values()))
    if held > POOL_BYTES_MAX or held != app.pool_bytes:
        raise Violation(POOL, f"node {name} holds {held} bytes, and counts {app.pool_bytes} of {POOL_BYTES_MAX}")


def replayed(name: object, app: CoinApp) -> CoinEngine:
    """An engine that was given the chain of one node from the first block on. Raises Violation."""
    replay = CoinEngine()
    for id in app.main[1:]:
        block = app.engine.done[id].block
        assert block is not None
        why = replay.execute(id, block)
        if why:
            raise Violation(STATE, f"node {name}: a replay refuses {id.hex()}: {why}")
        replay.go(id)
    return replay


def check_balances(name: object, app: CoinApp, replay: CoinEngine) -> None:
    """Of one node, whose head the replay is at. Raises Violation."""
    app.engine.go(app.head)
    if replay.state != app.engine.state:
        raise Violation(STATE, f"node {name}: a replay from the beginning has another state")


def check_light_client(name: object, app: CoinApp, core: Any) -> None:
    """It is given the headers of the node's chain and of its valid side branches, and asked for the newest payment.

    Of headers of invalid blocks no honest node tells it, and it could not tell them from others.
    """
    client = HeaderClient(TreeBase(GENESIS), core.sealer)
    wall_s = app.port.wall_ns // S_NS
    chain = [app.engine.done[id].block for id in app.main[1:]]
    headers = [block.header for block in chain if block is not None]
    headers += [entry.header for entry in core.tree.entries.values() if entry.status is BlockStatus.VALID]
    for at in range(0, len(headers), HEADERS_MAX):
        ruling = client.update(headers[at : at + HEADERS_MAX], wall_s)
        if ruling.kind == "bad":
            raise Violation(LIGHT, f"that of node {name} refuses a header of its chain: {ruling.why}")
    if client.height != len(app.main) - 1:
        raise Violation(LIGHT, f"that of node {name} is at {client.height}, the node at {len(app.main) - 1}")
    for block in reversed(chain):
        if block is not None and block.transactions:
            place = merkle_proofs(block.transactions)[1][0]
            ruling = client.holds(block.id, PayloadBranch(block.payload, place), block.transactions[0], 1)
            if not ruling.is_ok and client.head == app.head:
                raise Violation(LIGHT, f"that of node {name} does not believe a payment: {ruling.why}")
            break
