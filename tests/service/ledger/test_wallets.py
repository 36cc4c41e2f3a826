"""Wallet files: what is wrong with one is said, and none gives its key to somebody who should not have it."""

import json
import os
from pathlib import Path

import pytest

from quorate.ledger.accounts import address_text
from quorate.ledger.transaction import Payment, Signatures
from quorate.service.ledger import wallets
from quorate.service.ledger.wallets import WalletError, WrongPassword, new_wallet, open_wallet, wallet_address

from tests.ledger.payers import CHAIN


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """scrypt as it is, but with less to do."""
    monkeypatch.setattr(wallets, "SCRYPT_N", 16)


def test_a_wallet_signs_payments_after_it_was_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.wallet"
    made = new_wallet(path, "sesame")
    assert path.stat().st_mode & 0o777 == 0o600
    again = open_wallet(path, "sesame")
    assert again.address == made.address == wallet_address(path)
    payment = Signatures(CHAIN).decode(again.pay(CHAIN, 3, bytes(20), 10, 1))
    assert isinstance(payment, Payment)
    assert (payment.sender, payment.nonce, payment.amount, payment.fee) == (made.address, 3, 10, 1)
    assert made.public.hex() in path.read_text()
    with pytest.raises(ValueError, match="amount 0"):
        again.pay(CHAIN, 3, bytes(20), 0, 1)


def test_a_wrong_password_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.wallet"
    new_wallet(path, "sesame")
    for wrong in ("", "Sesame", "sesame "):
        with pytest.raises(WrongPassword, match="the password is wrong"):
            open_wallet(path, wrong)


def test_no_file_is_replaced_and_none_is_read_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wallet"
    new_wallet(path, "")
    before = path.read_bytes()
    with pytest.raises(WalletError, match="exists"):
        new_wallet(path, "")
    assert path.read_bytes() == before
    path.chmod(0o640)
    for read in (lambda: open_wallet(path, ""), lambda: wallet_address(path)):
        with pytest.raises(WalletError, match="chmod 600"):
            read()


@pytest.mark.parametrize("field", ["public", "secret", "nonce", "address", "format", "scrypt"])
def test_a_changed_file_is_refused(field: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wallet"
    new_wallet(path, "")
    content = json.loads(path.read_text())
    if field == "scrypt":
        content["scrypt"]["salt"] = "00" * 16
    elif field == "address":
        content["address"] = address_text(bytes(20))
    else:
        content[field] = ("1" if content[field][0] != "1" else "2") + content[field][1:]
    path.write_text(json.dumps(content))
    with pytest.raises(WalletError):
        open_wallet(path, "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"n": 1 << 20, "r": 32}, "256 MiB at most"),
        ({"n": 17}, "power of two"),
        ({"n": 1 << 40}, "no wallet"),
        ({"p": 1000}, "no wallet"),
    ],
)
def test_a_file_cannot_ask_for_all_memory(changes: dict[str, int], why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wallet"
    new_wallet(path, "")
    content = json.loads(path.read_text())
    content["scrypt"] |= changes
    path.write_text(json.dumps(content))
    with pytest.raises(WalletError, match=why):
        open_wallet(path, "")


def test_what_is_no_wallet_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.wallet"
    for data in (b"", b"[]", b"{" * 5000, os.urandom(300), b'{"format": 1}'):
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(WalletError, match="no wallet"):
            wallet_address(path)
    with pytest.raises(WalletError, match="cannot be read"):
        wallet_address(tmp_path / "none")
