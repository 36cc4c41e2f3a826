"""Endpoints: where a client turns next."""

from quorate.service.client.endpoints import Endpoints


def _connect(endpoints: Endpoints, alive: dict[str, int], leader: int, dials_max: int = 20) -> list[str]:
    """Dial as a client does, until it stays where it is; the addresses dialled."""
    dialled = []
    while len(dialled) < dials_max:
        dialled.append(endpoints.current)
        if endpoints.current not in alive:
            endpoints.failed()
            continue
        endpoints.found(alive[endpoints.current])
        if not endpoints.prefer(leader):
            return dialled
    raise AssertionError(f"it never settles: {dialled}")


def test_the_leader_is_found_past_nodes_that_are_down() -> None:
    for order in (["a:1", "b:1", "c:1"], ["b:1", "a:1", "c:1"], ["b:1", "c:1", "a:1"], ["c:1", "a:1", "b:1"]):
        endpoints = Endpoints(order)
        _connect(endpoints, {"b:1": 2, "c:1": 3}, leader=3)
        assert endpoints.current == "c:1"


def test_a_leader_that_cannot_be_reached_leaves_the_client_with_a_follower() -> None:
    endpoints = Endpoints("a:1,b:1,c:1")
    assert _connect(endpoints, {"a:1": 1, "b:1": 2, "c:1": 3}, leader=3) == ["a:1", "b:1", "c:1"]
    endpoints.next()  # the link to the leader is lost
    assert _connect(endpoints, {"a:1": 1, "b:1": 2}, leader=3) == ["a:1", "c:1", "a:1"]


def test_a_leader_that_is_not_in_the_list_leaves_the_client_with_a_follower() -> None:
    endpoints = Endpoints("a:1,b:1")
    assert _connect(endpoints, {"a:1": 1}, leader=3) == ["a:1", "b:1", "a:1"]


def test_a_node_that_failed_is_tried_again_when_it_is_the_new_leader() -> None:
    endpoints = Endpoints("a:1,b:1")
    _connect(endpoints, {"a:1": 1}, leader=1)
    assert _connect(endpoints, {"a:1": 1}, leader=3) == ["a:1", "b:1", "a:1"]
    assert _connect(endpoints, {"a:1": 1, "b:1": 2}, leader=2) == ["a:1", "b:1"]
    assert endpoints.current == "b:1"
