"""Key files: whole or not there, never replaced, unread where others may read them, and errors that name the file."""

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import NODE_ID_MAX
from quorate.runtime import key_files
from quorate.runtime.key_files import (
    FILE_BYTES_MAX,
    KeyFileError,
    generate,
    is_private,
    read_keyring,
    read_private_key,
    write_private_key,
)

SECRET = bytes(range(32))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_node_signs_with_its_file_and_all_check_with_the_keyring(tmp_path: Path) -> None:
    made = generate(tmp_path / "new" / "keys", 4)
    keyring = read_keyring(made.keyring)
    signers = {node: read_private_key(path) for node, path in made.keys.items()}
    assert keyring.nodes == tuple(signers) == (1, 2, 3, 4)
    for node, signer in signers.items():
        assert signer.node == node
        assert keyring.public(node) == signer.public == made.publics[node]
        assert keyring.verify(node, "vote", b"yes", signer.sign("vote", b"yes"))
        assert not keyring.verify(node % 4 + 1, "vote", b"yes", signer.sign("vote", b"yes"))
    assert len({*made.publics.values()}) == 4


def test_modes_and_names(tmp_path: Path) -> None:
    was = os.umask(0)
    try:
        made = generate(tmp_path / "keys", 2)
    finally:
        os.umask(was)
    assert names(tmp_path / "keys") == ["admin.key", "keyring.toml", "node-1.key", "node-2.key"]
    assert [mode(path) for path in (made.admin, *made.keys.values())] == [0o600] * 3
    assert mode(made.keyring) == 0o644
    assert mode(tmp_path / "keys") == 0o700
    assert is_private(made.keys[1])
    assert not is_private(made.keyring)


@pytest.mark.parametrize("there", ["admin.key", "keyring.toml", "node-2.key"])
def test_nothing_is_replaced_and_nothing_begun(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(KeyFileError, match=f"{there} exists"):
        generate(tmp_path, 2)
    assert names(tmp_path) == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_an_administrator_signs_as_no_node(tmp_path: Path) -> None:
    made = generate(tmp_path, 2)
    signer = read_private_key(made.admin)
    assert (signer.node, signer.public) == (None, made.admin_public)
    assert made.admin_public not in made.publics.values()


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileError, match="k exists"):
        write_private_key(path, 1, SECRET)
    assert names(tmp_path) == ["k"]


@pytest.mark.parametrize("failing", ["link", "fsync"])
def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path, monkeypatch, failing: str) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    real, calls = getattr(os, failing), []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(KeyFileError, match="cannot be written: No space left on device"):
        generate(folder, 4)
    assert names(folder) == []


def test_a_key_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch) -> None:
    events: list[str] = []
    for name in ("fsync", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (events.append(name), real(*a))[1])
    write_private_key(tmp_path / "k", 1, SECRET)
    assert events == ["fsync", "link", "fsync"]


@pytest.mark.parametrize("nodes", [0, -1, NODE_ID_MAX + 1])
def test_numbers_of_nodes_that_are_none(tmp_path: Path, nodes: int) -> None:
    with pytest.raises(KeyFileError, match=f"keys for {nodes} nodes"):
        generate(tmp_path / "keys", nodes)
    assert not (tmp_path / "keys").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="cannot be made"):
        generate(tmp_path / "file" / "keys", 1)


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610, 0o660, 0o777])
def test_a_key_that_others_can_read_or_change_is_refused(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "k"
    write_private_key(path, 1, SECRET)
    path.chmod(bits)
    with pytest.raises(KeyFileError, match=f"has mode {bits:04o}.*chmod 600 "):
        read_private_key(path)
    path.chmod(0o400)
    assert read_private_key(path).node == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_that_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k"
    write_private_key(path, 1, SECRET)
    os.chown(path, 12345, -1)
    with pytest.raises(KeyFileError, match="belongs to user 12345"):
        read_private_key(path)


def test_a_link_to_a_key_is_read_and_a_folder_or_a_pipe_is_not(tmp_path: Path) -> None:
    write_private_key(tmp_path / "k", 1, SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "k")
    assert read_private_key(tmp_path / "link").node == 1
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeyFileError, match="is no regular file"):
            read_private_key(path)
    with pytest.raises(KeyFileError, match="cannot be read: No such file"):
        read_keyring(tmp_path / "missing")


def private(**fields: object) -> str:
    """A good private key file but for these fields; None leaves one out."""
    good = {
        "scheme": '"ed25519"',
        "node": 1,
        "public": '"03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"',
        "secret": f'"{SECRET.hex()}"',
    }
    return "".join(f"{name} = {value}\n" for name, value in {**good, **fields}.items() if value is not None)


def test_the_format_of_a_private_key(tmp_path: Path) -> None:
    write_private_key(tmp_path / "k", 1, SECRET)
    lines = (tmp_path / "k").read_text().splitlines(keepends=True)
    assert "".join(line for line in lines if not line.startswith("#")) == private()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "scheme: there must be"),
        ("\x00", "no key file"),
        ("{", "no key file"),
        (private(scheme='"rsa"'), "scheme: there must be"),
        (private(scheme=1), "scheme: there must be"),
        (private(node=-1), r"\$.node"),
        (private(node=NODE_ID_MAX + 1), r"\$.node"),
        (private(node=None), "missing required field `node`"),
        (private(more=1), "unknown field `more`"),
        (private(secret='"00"'), r"\$.secret"),
        (private(secret='"' + "zz" * 32 + '"'), r"\$.secret"),
        (private(secret='"' + "00" * 32 + '\\n"'), r"\$.secret"),
        (private(secret='"' + "00" * 32 + '"'), "does not belong to the secret"),
        (private(public='"' + "00" * 32 + '"'), "does not belong to the secret"),
        ("a = " + "[" * 100_000, "no key file"),
        ("#" * (FILE_BYTES_MAX + 1), "is larger than"),
    ],
)
def test_a_damaged_private_key_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "k"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=why) as caught:
        read_private_key(path)
    assert str(path) in str(caught.value)
    assert SECRET.hex() not in str(caught.value)


PUBLIC = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ("[keys]", r"\$.keys"),
        ("", "missing required field `keys`"),
        ("keys = 1", r"\$.keys"),
        (f'[keys]\nalice = "{PUBLIC}"', r"\$.keys"),
        (f'[keys]\n-1 = "{PUBLIC}"', r"\$.keys"),
        (f'[keys]\n1024 = "{PUBLIC}"', r"\$.keys"),
        (f'[keys]\n1 = "{PUBLIC[:-1]}"', r"\$.keys"),
        (f'[keys]\n1 = "{PUBLIC}"\n2 = "{PUBLIC}"', "nodes 1 and 2 have the same key"),
        (f'[keys]\n1 = "{PUBLIC}"\n01 = "{PUBLIC.upper()}"', "keys"),
        (f'[keys]\n1 = "{"00" * 32}"', "anybody could sign"),
        (f'[keys]\n1 = "{PUBLIC}"\n1 = "{PUBLIC}"', "no key file"),
        (f'[keys]\n1 = "{PUBLIC}"\n[more]', "unknown field `more`"),
    ],
)
def test_a_keyring_that_is_none_is_refused(tmp_path: Path, keys: str, why: str) -> None:
    path = tmp_path / "keyring.toml"
    path.write_text(f'scheme = "ed25519"\n{keys}\n')
    with pytest.raises(KeyFileError, match=why) as caught:
        read_keyring(path)
    assert str(path) in str(caught.value)


@given(st.binary(max_size=300))
def test_no_bytes_make_a_reader_raise_anything_else(data):
    for read in (key_files._private_key, key_files._keyring):
        with pytest.raises(KeyFileError):
            read(Path("k"), data)
