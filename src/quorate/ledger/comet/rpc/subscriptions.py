"""Who wants to hear of what: the queries of each client, with limits."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from quorate.ledger.comet.rpc.chain_events import Tags
from quorate.ledger.comet.rpc.queries import EventQuery, parse_query
from quorate.ledger.comet.rpc.view import RPCRefusal

CLIENTS_MAX: Final = 100
"""max_subscription_clients"""
QUERIES_OF_CLIENT_MAX: Final = 5
"""max_subscriptions_per_client"""

RequestID: TypeAlias = int | str
C = TypeVar("C", bound=Hashable)


class EventSubscription(NamedTuple):
    """What a client asked for: the id of its request, the query, and the text that it wrote."""

    request: RequestID
    query: EventQuery
    text: str


class Subscriptions(Generic[C]):
    """The subscriptions of all clients, who are whatever the server tells them by."""

    def __init__(self, clients_max: int = CLIENTS_MAX, queries_max: int = QUERIES_OF_CLIENT_MAX) -> None:
        self.clients_max = clients_max
        self.queries_max = queries_max
        self._of: dict[C, dict[str, EventSubscription]] = {}
        """By the one way to write the query."""

    def add(self, client: C, request: RequestID, text: str) -> None:
        """Raises RPCRefusal for what is no query, a query that the client has already, and too many."""
        own = self._of.get(client, {})
        if len(self._of) >= self.clients_max and not own:
            raise RPCRefusal(f"max_subscription_clients {self.clients_max} reached")
        if len(own) >= self.queries_max:
            raise RPCRefusal(f"max_subscriptions_per_client {self.queries_max} reached")
        query = _parsed(text)
        if query.text() in own:
            raise RPCRefusal("already subscribed")
        self._of.setdefault(client, {})[query.text()] = EventSubscription(request, query, text)

    def remove(self, client: C, text: str) -> None:
        """Raises RPCRefusal for a query that the client does not have."""
        query = _parsed(text)
        own = self._of.get(client, {})
        if own.pop(query.text(), None) is None:
            raise RPCRefusal("subscription not found")
        if not own:
            del self._of[client]

    def remove_all(self, client: C) -> None:
        """Raises RPCRefusal for a client that has none."""
        if self._of.pop(client, None) is None:
            raise RPCRefusal("subscription not found")

    def forget(self, client: C) -> None:
        """The client is gone."""
        self._of.pop(client, None)

    def has_any(self) -> bool:
        """Whether anybody listens."""
        return bool(self._of)

    def wanting(self, tags: Tags) -> Iterator[tuple[C, EventSubscription]]:
        """Who is to hear of an event with these tags, once for each query that it matches."""
        for client, own in list(self._of.items()):
            for subscription in list(own.values()):
                if subscription.query.matches(tags):
                    yield client, subscription


def _parsed(text: str) -> EventQuery:
    try:
        return parse_query(text)
    except ValueError as error:
        raise RPCRefusal(f"failed to parse query: {error}") from None
