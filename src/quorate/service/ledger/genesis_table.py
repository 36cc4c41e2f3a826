"""The table [ledger] of a configuration: what the chain of a cluster begins with. It must be alike at all nodes.

[ledger]
time_s = 1700000000           # of block 0, in seconds since 1970
collector = "q..."            # the address that gets fees and subsidies
subsidy = 50                  # new units with each block
fee_min = 1                   # what a payment pays at least
time_step_s_max = 7200        # only where clients may lie: a block's time is at most so far ahead of its parent's

[ledger.accounts]             # the first balances
"q..." = 1000000
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from quorate.ledger.accounts import SUPPLY_MAX, address_text, parse_account_address
from quorate.ledger.genesis import ACCOUNTS_MAX, TIME_STEP_S_MAX, Genesis
from quorate.ledger.header import Uint32

_Units = Annotated[int, Meta(ge=0, le=SUPPLY_MAX)]


class GenesisTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As TOML has it: addresses are text."""

    time_s: Uint32
    collector: str
    accounts: Annotated[dict[str, _Units], Meta(max_length=ACCOUNTS_MAX)]
    subsidy: _Units = 0
    fee_min: _Units = 0
    time_step_s_max: Uint32 = TIME_STEP_S_MAX


def genesis_of_table(cluster: str, table: Any) -> Genesis:
    """The name of the chain is the cluster's. Raises ValueError that names the field."""
    read = msgspec.convert(table, GenesisTable)
    accounts = sorted((parse_account_address(text), amount) for text, amount in read.accounts.items())
    collector = parse_account_address(read.collector)
    genesis = Genesis(
        cluster, read.time_s, collector, tuple(accounts), read.subsidy, read.fee_min, read.time_step_s_max
    )
    msgspec.convert(msgspec.to_builtins(genesis, builtin_types=(bytes,)), Genesis)  # the ranges of its fields
    return genesis


def genesis_lines(genesis: Genesis) -> list[str]:
    """The table's lines."""
    lines = [
        "[ledger]  # what the chain begins with; alike at all nodes, and never changed",
        f"time_s = {genesis.time_s}",
        f'collector = "{address_text(genesis.collector)}"  # who gets fees and subsidies',
        f"subsidy = {genesis.subsidy}  # new units with each block",
        f"fee_min = {genesis.fee_min}",
    ]
    if genesis.time_step_s_max != TIME_STEP_S_MAX:
        lines.append(f"time_step_s_max = {genesis.time_step_s_max}  # clients say the time, and may lie")
    lines += ["", "[ledger.accounts]"]
    return lines + [f'"{address_text(address)}" = {amount}' for address, amount in genesis.accounts]
