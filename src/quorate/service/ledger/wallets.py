"""Wallet files: one Ed25519 key each, under a password.

A file is JSON: {"format": "quorate wallet 1", "address", "public", "scrypt": {"n", "r", "p", "salt"}, "nonce",
"secret"}. ``secret`` is the 32-byte seed of the key, encrypted by AES-256-GCM under the key that scrypt (RFC 7914)
makes of the password; format and public key are its associated data. Bytes are in hex. A file appears whole, with mode
0600, and is never replaced; it is read only if nobody else may read it.
"""

from __future__ import annotations

import os
from hashlib import scrypt
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta

from quorate.ledger.accounts import address_of_key, address_text
from quorate.ledger.transaction import message_of, signed_part
from quorate.runtime.files import make_directory
from quorate.runtime.key_files import KeyFileError, read_key_file, write_new

FORMAT: Final = "quorate wallet 1"
SCRYPT_N: Final = 1 << 15
SCRYPT_R: Final = 8
SCRYPT_BYTES_MAX: Final = 256 << 20
"""Of memory that a file may ask for."""
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12

_Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]


class WalletError(Exception):
    """A wallet that cannot be used or written. The text names the file, what is wrong, and what to do."""


class WrongPassword(WalletError):
    """The file is whole, and the password is another."""


class _Scrypt(msgspec.Struct, forbid_unknown_fields=True):
    n: Annotated[int, Meta(ge=2, le=1 << 20)]
    r: Annotated[int, Meta(ge=1, le=32)]
    p: Annotated[int, Meta(ge=1, le=16)]
    salt: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    address: str
    public: _Hex32
    scrypt: _Scrypt
    nonce: Annotated[str, Meta(pattern="^[0-9a-f]{24}$", max_length=24)]
    secret: Annotated[str, Meta(pattern="^[0-9a-f]{96}$", max_length=96)]


class Wallet:
    """A key that signs payments."""

    def __init__(self, secret: bytes) -> None:
        """Raises ValueError unless the secret has 32 bytes."""
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._key.public_key().public_bytes_raw()
        self.address = address_of_key(self.public)

    def pay(self, chain: bytes, nonce: int, to: bytes, amount: int, fee: int) -> bytes:
        """A signed payment. Raises ValueError for numbers out of range."""
        signed = signed_part(chain, self.public, nonce, to, amount, fee)
        return signed + self._key.sign(message_of(signed))


def new_wallet(path: Path, password: str) -> Wallet:
    """Make a key and write its file. Raises WalletError, also where there is a file of that name."""
    secret = Ed25519PrivateKey.generate().private_bytes_raw()
    wallet = Wallet(secret)
    how = _Scrypt(SCRYPT_N, SCRYPT_R, 1, os.urandom(SALT_BYTES).hex())
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(_key_of(password, how)).encrypt(nonce, secret, _associated(wallet.public))
    file = _File(FORMAT, address_text(wallet.address), wallet.public.hex(), how, nonce.hex(), sealed.hex())
    try:
        make_directory(path.absolute().parent)
        write_new(path, msgspec.json.format(msgspec.json.encode(file)).decode() + "\n", 0o600)
    except KeyFileError as error:
        raise WalletError(str(error)) from None
    except OSError as error:
        raise WalletError(f"{path} cannot be written: {error.strerror}") from None
    return wallet


def wallet_address(path: Path) -> bytes:
    """The address, for which it takes no password. Raises WalletError."""
    return address_of_key(bytes.fromhex(_read(path).public))


def open_wallet(path: Path, password: str) -> Wallet:
    """Raises WalletError; WrongPassword if it is that."""
    file = _read(path)
    public = bytes.fromhex(file.public)
    try:
        key = _key_of(password, file.scrypt)
    except ValueError as error:
        raise WalletError(f"{path}: scrypt: {error}. Copy the file from a backup") from None
    try:
        secret = AESGCM(key).decrypt(bytes.fromhex(file.nonce), bytes.fromhex(file.secret), _associated(public))
    except InvalidTag:
        raise WrongPassword(f"{path}: the password is wrong, or the file is damaged") from None
    wallet = Wallet(secret)
    if wallet.public != public:
        raise WalletError(f"{path}: the public key does not belong to the secret. Copy the file from a backup")
    return wallet


def _key_of(password: str, how: _Scrypt) -> bytes:
    if how.n & (how.n - 1) or 128 * how.n * how.r > SCRYPT_BYTES_MAX:
        raise ValueError(f"n is a power of two, and n and r ask for {SCRYPT_BYTES_MAX >> 20} MiB at most")
    salt = bytes.fromhex(how.salt)
    most = SCRYPT_BYTES_MAX + (1 << 20)
    return scrypt(password.encode(), salt=salt, n=how.n, r=how.r, p=how.p, maxmem=most, dklen=32)


def _associated(public: bytes) -> bytes:
    return FORMAT.encode() + public


def _read(path: Path) -> _File:
    try:
        file = msgspec.json.decode(read_key_file(path, private=True), type=_File)
    except KeyFileError as error:
        raise WalletError(str(error)) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WalletError(f"{path}: no wallet: {error}. `quorate chain wallet new` makes one") from None
    if file.format != FORMAT:
        raise WalletError(f"{path}: format {file.format!r} is not known to this release, {FORMAT!r} is")
    if file.address != address_text(address_of_key(bytes.fromhex(file.public))):
        raise WalletError(f"{path}: the address is not that of the public key. Copy the file from a backup")
    return file
