"""`quorate chain wallet new` and `show`, and how the other commands open a wallet."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorate.cli.common import Code, JsonOption, fail, print_json
from quorate.cli.folder import WALLET_PASSWORD

if TYPE_CHECKING:
    from quorate.service.ledger.wallets import Wallet

PASSWORD_BYTES_MAX = 1024

wallet = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
PasswordOption = Annotated[
    Path | None,
    typer.Option("--password-file", help=f"Its first line is the password; else {WALLET_PASSWORD}, or you are asked."),
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The wallet's file.")]


@wallet.callback()
def wallet_group() -> None:
    """Make and show wallets: files with a key, under a password.

    Example:  quorate chain wallet new alice.wallet
    """


@wallet.command("new")
def new(file: FileArgument, password_file: PasswordOption = None, json: JsonOption = False) -> None:
    """Make a key, and print its address. The file is new, with mode 0600; none is ever replaced.

    If the file or its password is lost, so is the money. With --json: {"file", "address"}.

    Example:  quorate chain wallet new alice.wallet

    Exit code: 0 done, 2 wrong use, a file that exists, or one that cannot be written.
    """
    from quorate.ledger.accounts import address_text
    from quorate.service.ledger.wallets import WalletError, new_wallet

    if os.path.lexists(file):
        fail(f"{file} exists, and no wallet is ever replaced. Choose another name", Code.WRONG_USE)
    try:
        made = new_wallet(file, _password(file, password_file, is_new=True))
    except WalletError as error:
        fail(str(error), Code.WRONG_USE)
    if json:
        print_json({"file": str(file), "address": address_text(made.address)})
    else:
        typer.echo(address_text(made.address))


@wallet.command("show")
def show(file: FileArgument, json: JsonOption = False) -> None:
    """Print the address of a wallet, for which it takes no password. With --json: {"file", "address"}.

    Example:  quorate chain wallet show alice.wallet

    Exit code: 0 done, 2 wrong use, or a file that is damaged or that others can read.
    """
    text = _address_of_file(file)
    if json:
        print_json({"file": str(file), "address": text})
    else:
        typer.echo(text)


def _address_of_file(file: Path) -> str:
    from quorate.ledger.accounts import address_text
    from quorate.service.ledger.wallets import WalletError, wallet_address

    try:
        return address_text(wallet_address(file))
    except WalletError as error:
        fail(str(error), Code.WRONG_USE)


def address_of_text(text: str) -> bytes:
    """Of an address, or of a wallet file of that name."""
    from quorate.ledger.accounts import parse_account_address

    try:
        return parse_account_address(_address_of_file(Path(text)) if os.path.lexists(text) else text)
    except ValueError as error:
        fail(f"{error}; nor is there a wallet file of that name", Code.WRONG_USE)


def unlocked(file: Path, password_file: Path | None) -> Wallet:
    """The wallet in a file."""
    from quorate.service.ledger.wallets import WalletError, open_wallet, wallet_address

    try:
        wallet_address(file)  # who has no wallet is not asked for its password
        return open_wallet(file, _password(file, password_file, is_new=False))
    except WalletError as error:
        fail(str(error), Code.WRONG_USE)


def _password(file: Path, password_file: Path | None, is_new: bool) -> str:
    if password_file is not None:
        try:
            with password_file.open("rb") as opened:
                line = opened.readline(PASSWORD_BYTES_MAX + 2)
            password = line.rstrip(b"\r\n").decode()
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{password_file} cannot be read as a password: {error}", Code.WRONG_USE)
        if len(line) > PASSWORD_BYTES_MAX:
            fail(f"{password_file}: a password has at most {PASSWORD_BYTES_MAX} bytes", Code.WRONG_USE)
        return password
    if (given := os.environ.get(WALLET_PASSWORD)) is not None:
        return given
    if not sys.stdin.isatty():
        fail(
            f"there is nobody to ask for the password of {file}: set {WALLET_PASSWORD} or --password-file",
            Code.WRONG_USE,
        )
    return str(typer.prompt(f"password of {file}", hide_input=True, confirmation_prompt=is_new, default="", err=True))
