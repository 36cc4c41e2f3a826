"""OpenNode: a real node in an open network, where anybody may connect.

How it works. It is a Node whose links are Strangers. What happens to a link is an input. The number of a link that is
gone is used again only when the core has taken that in and all that the node wrote before is durable: until then the
Barrier may hold something that was said to it.
"""

from __future__ import annotations

from typing import Any

from quorate.kernel import Input, Met, Misbehaved, Part, Parted, RosterChange, Unmet
from quorate.kernel.roster import SELF
from quorate.parts.crypto.keys import Signer
from quorate.runtime.node import Node
from quorate.runtime.stranger_limits import StrangerLimits
from quorate.runtime.strangers import Strangers


class OpenNode(Node):
    """One node of an open network. ``signer`` has its key, ``network`` names the network and its beginning.

    ``listen_at``: where to listen; None: nowhere. ``ban_hosts``: a ban is for the host, too. What else there is, is as
    for a Node.
    """

    is_open = True

    def __init__(
        self,
        *,
        signer: Signer,
        network: str,
        protocol: str,
        listen_at: tuple[str, int] | None = None,
        ban_hosts: bool = False,
        limits: StrangerLimits | None = None,
        **rest: Any,
    ) -> None:
        self.strangers = Strangers(
            signer,
            f"{protocol} {network}",
            on_met=lambda *values: self._put(Met(*values)),
            on_parted=lambda *values: self._put(Parted(*values)),
            on_unmet=lambda *values: self._put(Unmet(*values)),
            on_frames=lambda *values: self._on_frames(*values),
            on_misbehaved=lambda *values: self._put(Misbehaved(*values)),
            listen_at=listen_at,
            ban_hosts=ban_hosts,
            limits=limits,
        )
        self._gone: list[tuple[int, int]] = []
        """Numbers of links that the core knows to be gone, each with the newest frame at that time."""
        super().__init__(node=SELF, cluster=network, protocol=protocol, links=self.strangers, **rest)

    def change_roster(self, change: RosterChange) -> None:
        """Dial a stranger, or hang up on one."""
        if isinstance(change, Part):
            self.strangers.part(change.node, change.why, change.ban_s)
        else:
            self.strangers.meet(change.address, change.key or None)

    def _step(self) -> None:
        super()._step()
        self._release()

    def _take_inputs(self) -> list[Input]:
        inputs = super()._take_inputs()
        gone = [item.node for item in inputs if type(item) is Parted]
        if gone:
            # After the step, which may write a frame: that one is the newest that can speak of them.
            self._loop.call_soon(self._rest, gone)
        return inputs

    def _rest(self, gone: list[int]) -> None:
        self._gone += [(self._written, number) for number in gone]
        self._release()

    def _on_durable(self, sequence: int) -> None:
        super()._on_durable(sequence)
        self._release()

    def _release(self) -> None:
        while self._gone and self._gone[0][0] <= self._durable:
            self.strangers.release(self._gone.pop(0)[1])
