"""`quorate keys`: what it writes and prints, and that no secret is printed."""

import re
from pathlib import Path

import pytest

from quorate.runtime.key_files import read_keyring, read_private_key

from tests.cli.command import quorate


def secret_of(path: Path) -> str:
    found = re.search('secret = "([0-9a-f]{64})"', path.read_text())
    assert found is not None
    return found[1]


def test_generate_and_show(tmp_path: Path) -> None:
    out = tmp_path / "keys"
    made = quorate("keys", "generate", "--nodes", "3", "--out", str(out))
    assert (made.code, made.stderr) == (0, "")
    keyring = read_keyring(out / "keyring.toml")
    shown = [f"{node}  {keyring.public(node).hex()}" for node in (1, 2, 3)]
    written = [f"{out}/node-{node}.key  {keyring.public(node).hex()}" for node in (1, 2, 3)]
    admin = read_private_key(out / "admin.key").public.hex()
    assert made.stdout.decode().splitlines() == [*written, f"{out}/admin.key  {admin}", f"{out}/keyring.toml"]
    assert quorate("keys", "show", str(out / "admin.key")).stdout.decode() == f"admin  {admin}\n"
    assert quorate("keys", "show", str(out / "keyring.toml")).stdout.decode().splitlines() == shown
    one = quorate("keys", "show", str(out / "node-2.key"))
    assert (one.code, one.stdout.decode().splitlines()) == (0, [shown[1]])
    assert read_private_key(out / "node-2.key").public == keyring.public(2)
    assert secret_of(out / "node-2.key") not in one.stdout.decode() + made.stdout.decode()


def test_json(tmp_path: Path) -> None:
    out = tmp_path / "keys"
    made = quorate("keys", "generate", "--out", str(out), "--json").json
    assert made["keyring"] == str(out / "keyring.toml")
    assert [(line["node"], line["file"]) for line in made["nodes"]] == [
        (n, f"{out}/node-{n}.key") for n in (1, 2, 3, 4)
    ]
    publics = {str(line["node"]): line["public"] for line in made["nodes"]}
    admin = {"file": f"{out}/admin.key", "public": read_private_key(out / "admin.key").public.hex()}
    assert made["admin"] == admin
    shown = quorate("keys", "show", "--json", made["keyring"])
    assert shown.json == {"scheme": "ed25519", "private": False, "keys": publics}
    one = quorate("keys", "show", "--json", made["nodes"][0]["file"])
    assert one.json == {"scheme": "ed25519", "private": True, "keys": {"1": publics["1"]}}
    assert secret_of(out / "node-1.key") not in one.stdout.decode()


def test_keys_are_not_replaced(tmp_path: Path) -> None:
    assert quorate("keys", "generate", "--out", str(tmp_path)).code == 0
    before = (tmp_path / "node-1.key").read_bytes()
    again = quorate("keys", "generate", "--out", str(tmp_path))
    assert again.code == 2
    assert "exists, and no key file is ever replaced" in again.stderr
    assert (tmp_path / "node-1.key").read_bytes() == before


def test_a_key_that_others_can_read_is_not_shown(tmp_path: Path) -> None:
    quorate("keys", "generate", "--out", str(tmp_path))
    (tmp_path / "node-1.key").chmod(0o644)
    shown = quorate("keys", "show", str(tmp_path / "node-1.key"))
    assert (shown.code, shown.stdout) == (2, b"")
    assert f"chmod 600 {tmp_path}/node-1.key" in shown.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate"],
        ["generate", "--out", "keys", "--nodes", "0"],
        ["generate", "--out", "/dev/null/keys"],
        ["show"],
        ["show", "/dev/null"],
        ["show", "/nowhere/node-1.key"],
        ["nonsense"],
    ],
)
def test_wrong_use_is_exit_2(arguments: list[str]) -> None:
    assert quorate("keys", *arguments).code == 2


@pytest.mark.parametrize("command", ["generate", "show"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example:  quorate keys {command}" in quorate("keys", command, "--help").stdout.decode()
