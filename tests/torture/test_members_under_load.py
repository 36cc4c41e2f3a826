"""Members that shrink, and grow again, while clients write: nobody sees more of it than a retry."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.cluster import LocalCluster, until
from tests.torture.protocols import OPTIONS, in_tiers
from tests.torture.verify import check_replicas

pytestmark = [pytest.mark.torture, pytest.mark.timeout(240)]

WRITERS = 4
STEPS = {"multipaxos": (5, [(4, 5), (3,), (2,)]), "pbft": (6, [(5, 6)])}
"""How many nodes, and who is demoted at a time. Of six nodes of PBFT one may lie, which takes four."""


@pytest.mark.parametrize("protocol", in_tiers(sorted(STEPS), ("multipaxos",)))
def test_members_shrink_and_grow_while_clients_write(protocol: str, tmp_path: Path) -> None:
    nodes, steps = STEPS[protocol]
    options = OPTIONS[protocol] + ("\nalpha = 64" if protocol == "multipaxos" else "")
    with LocalCluster(tmp_path / "cluster", nodes, protocol, options) as cluster:
        written, failed, is_over = [0] * WRITERS, [], threading.Event()

        def write(writer: int) -> None:
            with cluster.client() as client:
                while not is_over.is_set():
                    try:
                        client.put(b"writer %d" % writer, b"%d" % (written[writer] + 1))
                    except Exception as error:
                        failed.append(error)
                        return
                    written[writer] += 1

        def goes_on() -> None:
            before = list(written)
            until(lambda: failed or all(now > then + 3 for now, then in zip(written, before, strict=True)), "writes")

        threads = [threading.Thread(target=write, args=(writer,), daemon=True) for writer in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            with cluster.client(key=cluster.admin_key()) as admin:
                voters = set(cluster.ids)
                for some in steps:
                    goes_on()
                    voters -= set(some)
                    assert admin.demote(some).members == tuple(sorted(voters))
                for some in reversed(steps):
                    goes_on()
                    voters |= set(some)
                    assert admin.promote(some).members == tuple(sorted(voters))
                goes_on()
        finally:
            is_over.set()
            for thread in threads:
                thread.join(60)
        assert not failed, failed
        with cluster.client() as client:
            found = [client.get(b"writer %d" % writer) for writer in range(WRITERS)]
            assert [pair and pair.value for pair in found] == [b"%d" % count for count in written]
        check_replicas(cluster)
