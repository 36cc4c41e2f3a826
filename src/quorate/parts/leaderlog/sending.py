"""Sending: which entries leave a leader's log now, and for whom.

Each follower is sent what it lacks as far as its Progress lets it. Those that want the same get one message, which is
encoded once. A follower that lacks what the log no longer has is sent the snapshot.
"""

from __future__ import annotations

from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.transfers import Transfers
from quorate.parts.log.entries import Entry, Log, size_of


def outgoing(
    config: LeaderConfig, log: Log, commit_index: int, followers: Followers, transfers: Transfers
) -> list[tuple[tuple[int, ...], int, list[Entry]]]:
    """The nodes, the first index, and the entries of each message, which count as sent with that commit."""
    messages: list[tuple[tuple[int, ...], int, list[Entry]]] = []
    last = log.last_index
    while wanted := followers.wanting(last, config.inflight_messages_max, config.inflight_bytes_max):
        for next_index, nodes in wanted.items():
            if next_index <= log.base_index:
                for node in nodes:
                    transfers.begin(node, followers[node])
                continue
            entries = log.batch(next_index, config.message_entries_max, config.message_bytes_max)
            followers.sent(nodes, next_index + len(entries) - 1, size_of(entries), commit_index)
            messages.append((tuple(nodes), next_index, entries))
    return messages
