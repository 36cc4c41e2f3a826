"""`quorate chain`: payments, balances, blocks and proofs of a cluster that keeps a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorate.cli.chain_texts import block_row, payment_row, proof_object, read_proof, rests_on
from quorate.cli.common import (
    DEFAULT_ENDPOINTS_TEXT,
    Code,
    EndpointsOption,
    FaultsOption,
    JsonOption,
    TimeoutOption,
    ask,
    fail,
    print_json,
)
from quorate.cli.wallet import PasswordOption, address_of_text, unlocked, wallet

if TYPE_CHECKING:
    from quorate.service.ledger.ledger_client import LedgerClient

chain = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
chain.add_typer(wallet, name="wallet")

WhoseArgument = Annotated[str, typer.Argument(metavar="WHOSE", help="An address, or a wallet file.")]


@chain.callback()
def chain_group() -> None:
    """Pay, and look at the chain of a cluster that was begun with `quorate up --ledger`.

    Example:  quorate chain send data/treasury.wallet alice.wallet 100
    """


def _client() -> type[LedgerClient]:
    from quorate.service.ledger.ledger_client import LedgerClient

    return LedgerClient


@chain.command("send")
def send(
    source: Annotated[Path, typer.Argument(metavar="WALLET", help="The wallet that pays.")],
    to: Annotated[str, typer.Argument(metavar="TO", help="An address, or a wallet file.")],
    amount: Annotated[int, typer.Argument(metavar="AMOUNT", min=1, help="In units.")],
    fee: Annotated[int | None, typer.Option("--fee", min=0, show_default="the least that is taken")] = None,
    password_file: PasswordOption = None,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Pay, and wait until a block has it. With --json: {"id", "height", "block"}.

    Example:  quorate chain send data/treasury.wallet q0123... 100

    Exit code: 0 a block has it, 1 it was not taken, as the text says, 2 wrong use, 3 no quorum or nobody to reach.
    """
    address = address_of_text(to)
    opened = unlocked(source, password_file)

    async def pay(client: LedgerClient) -> tuple[bytes, Any]:
        head = await client.head()
        nonce = (await client.account(opened.address)).proof.account.account.nonce
        try:
            raw = opened.pay(head.chain, nonce, address, amount, head.fee_min if fee is None else fee)
        except ValueError as error:
            fail(str(error), Code.WRONG_USE)
        return raw, await client.send([raw])

    raw, result = ask(pay, endpoints, timeout_s, faults, kind=_client())
    if result.skipped:
        fail(f"not paid: {result.skipped[0][1]}", Code.NO)
    from quorate.ledger.header import sha256d

    id = sha256d(raw).hex()
    if json:
        print_json({"id": id, "height": result.height, "block": result.id.hex()})
    else:
        typer.echo(f"payment {id} is in block {result.height}")


@chain.command("balance")
def balance(
    whose: WhoseArgument,
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """What an address has. The node's answer is checked against the state root of the last block.

    With --json: {"address", "balance", "nonce", "height", "block"}.

    Example:  quorate chain balance alice.wallet

    Exit code: 0 done (0 for an address that nobody has paid), 2 wrong use, 3 no quorum or nobody to reach.
    """
    from quorate.ledger.accounts import address_text

    address = address_of_text(whose)
    found = ask(lambda client: client.account(address), endpoints, timeout_s, faults, kind=_client())
    account = found.proof.account.account
    if json:
        row = {"address": address_text(address), "balance": account.balance, "nonce": account.nonce}
        print_json({**row, "height": found.proof.block.payload.height, "block": found.id.hex()})
    else:
        typer.echo(account.balance)


@chain.command("block")
def block(
    which: Annotated[str, typer.Argument(metavar="BLOCK", help="A height, an id (64 hex digits), or head.")] = "head",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """A block and its payments.

    With --json: {"height", "id", "parent", "time_s", "collector", "header", "payload", "payments": [...]}.

    Example:  quorate chain block 12

    Exit code: 0 done, 1 there is none, 2 wrong use, 3 no quorum or nobody to reach.
    """
    id = _id_of(which) if len(which) == 64 else b""
    if not id and which != "head" and not (which.isascii() and which.isdigit() and int(which) < 2**63):
        fail(f"{which!r} is no block: write a height, 64 hex digits, or head", Code.WRONG_USE)

    async def get(client: LedgerClient) -> Any:
        if which == "head":
            return await client.block(id=(await client.head()).block.header.id)
        return await client.block(id=id) if id else await client.block(int(which))

    found = _ask_for(get, endpoints, timeout_s, faults)
    row = block_row(found)
    if json:
        print_json(row)
        return
    for field in ("height", "id", "parent", "time_s", "collector"):
        typer.echo(f"{field:10} {row[field]}")
    for payment in row["payments"]:
        typer.echo("{id}  {amount} from {sender} to {to}, fee {fee}".format(**payment))


@chain.command("tx")
def tx(
    id: Annotated[str, typer.Argument(metavar="ID", help="Of a payment: 64 hex digits.")],
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """A payment and its block, whose root the answer is checked against.

    With --json: {"id", "sender", "nonce", "to", "amount", "fee", "raw", "height", "block"}.

    Example:  quorate chain tx 5e0c...

    Exit code: 0 done, 1 no block has it, 2 wrong use, 3 no quorum or nobody to reach.
    """
    payment = _id_of(id)
    found = _ask_for(lambda client: client.payment(payment), endpoints, timeout_s, faults)
    row = {
        **payment_row(found.proof.raw),
        "height": found.proof.block.payload.height,
        "block": found.id.hex(),
    }
    if json:
        print_json(row)
        return
    for field, value in row.items():
        typer.echo(f"{field:8} {value}")


@chain.command("proof")
def proof(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="An address, a wallet file, or the id of a payment.")],
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
) -> None:
    """Print, as JSON, what shows that a block has a payment, or what an address has after the last block.

    With the block's id anyone can check it: `quorate chain verify`, or by docs/ledger.md.

    Example:  quorate chain proof alice.wallet > alice.proof

    Exit code: 0 done, 1 no block has the payment, 2 wrong use, 3 no quorum or nobody to reach.
    """
    if len(what) == 64:
        payment = _id_of(what)
        print_json(proof_object(_ask_for(lambda client: client.payment(payment), endpoints, timeout_s, faults)))
    else:
        address = address_of_text(what)
        print_json(proof_object(_ask_for(lambda client: client.account(address), endpoints, timeout_s, faults)))


@chain.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `quorate chain proof` printed.")],
    block: Annotated[
        str, typer.Option("--block", help="The block's id, if you have it; else the nodes are asked.")
    ] = "",
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 5.0,
    faults: FaultsOption = None,
    json: JsonOption = False,
) -> None:
    """Check a proof against the id of its block, and say what that id rests on.

    With --json: {"valid", "why", "kind", "height", "block", "rests_on"}.

    Example:  quorate chain verify alice.proof

    Exit code: 0 it holds, 1 it does not, 2 wrong use, 3 no quorum or nobody to reach.
    """
    try:
        kind, shown = read_proof(file)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", Code.WRONG_USE)
    except ValueError as error:
        fail(f"{file}: {error}", Code.WRONG_USE)
    height = shown.block.payload.height
    if block:
        id, rests = _id_of(block), "the id that you gave"
    else:

        async def get(client: LedgerClient) -> tuple[bytes, str]:
            return (await client.block(height)).id, await rests_on(client)

        id, rests = _ask_for(get, endpoints, timeout_s, faults)
    why = shown.refusal(id)
    if json:
        row = {"valid": why is None, "why": why, "kind": kind, "height": height, "block": id.hex(), "rests_on": rests}
        print_json(row)
    elif why is None:
        typer.echo(f"the proof holds for block {height}, {id.hex()}, which rests on {rests}")
    if why is not None:
        fail(f"the proof does not hold for block {height}: {why}", Code.NO)


@chain.command("status")
def status(
    endpoints: EndpointsOption = DEFAULT_ENDPOINTS_TEXT,
    timeout_s: TimeoutOption = 2.0,
    json: JsonOption = False,
) -> None:
    """Where each node's chain ends. On a log the head is final: it was decided before it was made.

    With --json: {"nodes": [{"name", "height", "head", "final", "peers", "endpoint", "error"}]}. ``peers``: the other
    nodes that it knows. One that does not answer has an error, and null for the rest.

    Example:  quorate chain status

    Exit code: 0 some node answered, 2 wrong use, 3 none did.
    """
    from quorate.cli.chain_texts import chain_rows

    rows = ask(lambda client: chain_rows(client.endpoints.addresses, timeout_s), endpoints, timeout_s, kind=_client())
    if json:
        print_json({"nodes": rows})
    else:
        for row in rows:
            if row["error"]:
                typer.echo(f"{row['endpoint']}  {row['error']}")
            else:
                typer.echo("{name}  height {height}  final {final}  peers {peers}  {head}".format(**row))
    if all(row["error"] for row in rows):
        fail(f"no node answers ({len(rows)} endpoints)", Code.UNAVAILABLE)


def _ask_for(work: Any, endpoints: str, timeout_s: float, faults: int | None) -> Any:
    """As ``ask``; what is not there is an answer, and no wrong use."""
    from quorate.service.ledger.ledger_client import NotThere

    async def look(client: LedgerClient) -> Any:
        try:
            return await work(client)
        except NotThere as error:
            fail(str(error), Code.NO)

    return ask(look, endpoints, timeout_s, faults, kind=_client())


def _id_of(text: str) -> bytes:
    try:
        id = bytes.fromhex(text)
    except ValueError:
        id = b""
    if len(id) != 32:
        fail(f"{text[:70]!r} is no id: write its 64 hex digits", Code.WRONG_USE)
    return id
