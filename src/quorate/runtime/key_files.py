"""Key files: a private key for each node and one for an administrator, and one keyring with the nodes' public keys. All
are TOML.

How it works. A private key is written with mode 0600 under another name, synced, and then given its name only if that
is free: no key is ever replaced or half there. It is read only from a regular file that belongs to us (or to root) and
that nobody else may read. The public key in it must fit the secret, so that a damaged file is noticed before it signs.
"""

from __future__ import annotations

import os
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX, NodeId
from quorate.parts.crypto.keys import Keyring
from quorate.runtime.files import ASIDE, fsync_directory, make_directory, write_all
from quorate.runtime.keys import Ed25519Signer, generate_secret, keyring_of

SCHEME: Final = "ed25519"
FILE_BYTES_MAX: Final = 1 << 18
KEYRING_NAME: Final = "keyring.toml"
ADMIN: Final = "admin"
ADMIN_NAME: Final = "admin.key"

Hex32: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$", max_length=64)]  # $ would let a newline through
Content = TypeVar("Content", bound=msgspec.Struct)


def private_key_name(node: int) -> str:
    """What the private key's file of a node is called."""
    return f"node-{node}.key"


class KeyFileError(Exception):
    """A key file that cannot be used or written. The text names the file, what is wrong, and what to do."""


class Generated(NamedTuple):
    """What ``generate`` wrote."""

    keyring: Path
    keys: dict[int, Path]
    publics: dict[int, bytes]
    admin: Path
    admin_public: bytes


class _PrivateKey(msgspec.Struct, forbid_unknown_fields=True):
    scheme: str
    node: NodeId | Literal["admin"]
    public: Hex32
    secret: Hex32


class _PublicKeys(msgspec.Struct, forbid_unknown_fields=True):
    scheme: str
    keys: Annotated[dict[NodeId, Hex32], Meta(min_length=1)]


def generate(folder: Path, nodes: int) -> Generated:
    """Make fresh keys for nodes 1 to ``nodes`` and for an administrator: a private key file each, at last the keyring.

    Raises KeyFileError, and leaves no key behind, where one of the files exists or cannot be written.
    """
    if not 1 <= nodes <= NODE_ID_MAX:
        raise KeyFileError(f"keys for {nodes} nodes: choose from 1 to {NODE_ID_MAX}")
    paths = {node: folder / private_key_name(node) for node in range(1, nodes + 1)}
    keyring, admin = folder / KEYRING_NAME, folder / ADMIN_NAME
    written: list[Path] = []
    publics: dict[int, bytes] = {}
    try:
        make_directory(folder.absolute())
    except OSError as error:
        raise KeyFileError(f"{folder} cannot be made: {error.strerror}. Choose another folder") from None
    for path in (keyring, admin, *paths.values()):
        if os.path.lexists(path):
            raise _exists(path)
    try:
        for node, path in paths.items():
            publics[node] = write_private_key(path, node, generate_secret())
            written.append(path)
        admin_public = write_private_key(admin, None, generate_secret())
        written.append(admin)
        write_keyring(keyring, publics)
    except KeyFileError:
        for path in written:  # without its keyring a key is of no use to anybody
            path.unlink(missing_ok=True)
        raise
    return Generated(keyring, paths, publics, admin, admin_public)


def write_private_key(path: Path, node: int | None, secret: bytes) -> bytes:
    """Write a new file and return the public key; without a node, an administrator's.

    Raises KeyFileError, also where there is a file of that name.
    """
    public = Ed25519Signer(node, secret).public
    if node is None:
        owner, whose = "an administrator", f'"{ADMIN}"'
        rule = "change which nodes vote,\n# where admins in their configuration has it. No node needs it: keep it away"
    else:
        owner, whose = f"node {node}", f"{node}"
        rule = f"sign as that node: keep it on its machine alone,\n# with mode 0600. The others need {KEYRING_NAME}"
    head = f"# The private key of {owner}. Who reads this file can {rule}.\n"
    text = f'{head}scheme = "{SCHEME}"\nnode = {whose}\npublic = "{public.hex()}"\nsecret = "{secret.hex()}"\n'
    write_new(path, text, 0o600)
    return public


def write_keyring(path: Path, publics: Mapping[int, bytes]) -> None:
    """Write a new file with everybody's public keys. Raises KeyFileError, also where there is a file of that name."""
    lines = [f'{node} = "{public.hex()}"\n' for node, public in sorted(publics.items())]
    head = "# The public keys of all nodes. Nothing in it is secret, but every node must have the same.\n"
    write_new(path, f'{head}scheme = "{SCHEME}"\n\n[keys]\n{"".join(lines)}', 0o644)


def read_private_key(path: Path) -> Ed25519Signer:
    """The signer of the node that the file names; of no node: an administrator's. Raises KeyFileError."""
    return _private_key(path, read_key_file(path, private=True))


def read_keyring(path: Path) -> Keyring:
    """The public keys of all nodes. Raises KeyFileError."""
    return _keyring(path, read_key_file(path, private=False))


def is_private(path: Path) -> bool:
    """Whether a file holds a secret, or a keyring. Reads no more than the names of the fields. Raises KeyFileError."""
    return "secret" in _toml(path, read_key_file(path, private=False))


_AGAIN: Final = "Copy it from a backup, or make new keys with `quorate keys generate`"


def _exists(path: Path) -> KeyFileError:
    return KeyFileError(f"{path} exists, and no key file is ever replaced. Choose another folder")


def write_new(path: Path, text: str, mode: int) -> None:
    """The file appears whole, durable and with its mode, or not at all. Raises KeyFileError."""
    aside = None
    try:
        fd, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=ASIDE)  # mode 0600
        try:
            os.fchmod(fd, mode)
            write_all(fd, [text.encode()], 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.link(aside, path)  # a rename would replace
        fsync_directory(path.parent)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        if aside is not None:
            Path(aside).unlink(missing_ok=True)


def read_key_file(path: Path, private: bool) -> bytes:
    """The bytes of a file of sane size; of a private one only if nobody else can read it. Raises KeyFileError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would keep us waiting
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(f"{path} is no regular file")
            if private:
                _check_access(path, status)
            with os.fdopen(fd, "rb", closefd=False) as file:
                data = file.read(FILE_BYTES_MAX + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise KeyFileError(f"{path} is larger than {FILE_BYTES_MAX} bytes: this is no key file")
    return data


def _check_access(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyFileError(
            f"{path} has mode {mode:04o}, so others may read or change the secret. If they may have, make new keys; "
            f"if not: chmod 600 {path}"
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(f"{path} belongs to user {status.st_uid}, who can read the secret: chown it to this user")


def _toml(path: Path, data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: no key file: {error}. {_AGAIN}") from None
    except RecursionError:
        raise KeyFileError(f"{path}: nested too deeply; this is no key file") from None


def _private_key(path: Path, data: bytes) -> Ed25519Signer:
    content = _content(path, data, _PrivateKey)
    node = None if content.node == ADMIN else content.node
    signer = Ed25519Signer(node, bytes.fromhex(content.secret))
    if signer.public != bytes.fromhex(content.public):
        raise KeyFileError(f"{path}: the public key does not belong to the secret, so the file is damaged. {_AGAIN}")
    return signer


def _keyring(path: Path, data: bytes) -> Keyring:
    content = _content(path, data, _PublicKeys)
    try:
        return keyring_of({node: bytes.fromhex(public) for node, public in content.keys.items()})
    except ValueError as error:
        raise KeyFileError(f"{path}: {error}") from None


def _content(path: Path, data: bytes, kind: type[Content]) -> Content:
    raw = _toml(path, data)
    scheme = raw.get("scheme")
    if scheme != SCHEME:
        raise KeyFileError(f'{path}: scheme: there must be scheme = "{SCHEME}", the only one that this release knows')
    try:
        return msgspec.convert(raw, kind, strict=False)  # the keys of a table are text
    except msgspec.ValidationError as error:
        raise KeyFileError(f"{path}: {error}. {_AGAIN}") from None
