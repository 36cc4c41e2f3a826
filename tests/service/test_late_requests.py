"""A late request is answered on a real link: without an answer it holds up the reading of all that comes after."""

from __future__ import annotations

from pathlib import Path

from quorate.parts import requests
from quorate.protocols.pbft.messages import PbftConfig
from quorate.runtime.keys import Ed25519Signer, generate_secret
from quorate.service.client.link import dial
from quorate.service.deadlines import TICK
from quorate.service.requests import Apply, AskStatus, Command, Failure, Status, decode_response, encode

from tests.runtime.servers import run, servers, until

LATE_COUNT = 12
WAITED_MS = 60_000
"""By ticks that this test makes, and those that a slow machine has time for."""
OPERATION_BYTES = 1_000_000
"""All of them are more than what a connection may have unanswered."""


def test_a_client_that_gave_up_much_is_read_from_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with servers(tmp_path, 4, start=False, protocol="pbft", options=PbftConfig()) as cluster:
            await cluster.start(1)  # alone it decides nothing
            server = cluster.running[1]
            answers: list[object] = []
            link, _ = await dial(
                *cluster.endpoints(1), lambda frames: answers.extend(map(decode_response, frames)), 5.0
            )
            signer = Ed25519Signer(None, generate_secret()).within(cluster.config.cluster)
            for number in range(LATE_COUNT):
                command = Apply(requests.COMMANDS_MAX, number, 0, bytes(OPERATION_BYTES))
                value = requests.sign(signer, [encode(command)])
                link.send(encode(Command(number, value, WAITED_MS)))
            link.send(encode(AskStatus(LATE_COUNT)))
            (connection,) = server.listener.clients
            await until(lambda: not connection._reading)
            assert not any(isinstance(answer, Status) for answer in answers)

            def are_answered() -> bool:
                server.replica.on_timer(TICK)  # a second later
                server.replica.settle()
                return len(answers) > LATE_COUNT

            await until(are_answered)
            assert {type(answer) for answer in answers} == {Failure, Status}
            assert connection.unanswered == 0
            link.close("enough")

    run(scenario())
