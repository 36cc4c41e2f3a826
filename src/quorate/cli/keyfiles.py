"""`quorate keys generate` and `show`: the keys with which nodes sign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.common import Code, JsonOption, fail, print_json
from quorate.kernel import NODE_ID_MAX

keys = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@keys.callback()
def group() -> None:
    """Make and show the keys with which nodes sign, for protocols that bear lying nodes.

    Example:  quorate keys generate --nodes 4 --out keys
    """


@keys.command("generate")
def generate_keys(
    out: Annotated[Path, typer.Option("--out", help="The folder for the files; made if there is none.")],
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=NODE_ID_MAX, help="Keys for nodes 1 to this.")] = 4,
    json: JsonOption = False,
) -> None:
    """Make a key pair (Ed25519) for each node.

    DIR/node-1.key, node-2.key, ... hold the private keys, with mode 0600: bring each to its node and delete it here.
    DIR/keyring.toml holds all public keys; every node needs it. DIR/admin.key is for whoever may change the members:
    write its public key into admins in [pbft]. No file is ever replaced. With --json: {"keyring": "keys/keyring.toml",
    "nodes": [{"node": 1, "file": "keys/node-1.key", "public": "..."}, ...], "admin": {"file", "public"}}.

    Example:  quorate keys generate --nodes 4 --out keys

    Exit code: 0 done, 2 wrong use, a file that exists, or a folder that cannot be written.
    """
    from quorate.runtime import key_files

    try:
        made = key_files.generate(out, nodes)
    except key_files.KeyFileError as error:
        fail(str(error), Code.WRONG_USE)
    if json:
        lines = [
            {"node": node, "file": str(path), "public": made.publics[node].hex()} for node, path in made.keys.items()
        ]
        admin = {"file": str(made.admin), "public": made.admin_public.hex()}
        print_json({"keyring": str(made.keyring), "nodes": lines, "admin": admin})
        return
    for node, path in made.keys.items():
        typer.echo(f"{path}  {made.publics[node].hex()}")
    typer.echo(f"{made.admin}  {made.admin_public.hex()}")
    typer.echo(made.keyring)


@keys.command("show")
def show_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A private key or a keyring.")],
    json: JsonOption = False,
) -> None:
    """Check a key file and print its public keys, a line a node: number and key. Secrets are never printed.

    An administrator's has the word admin for the number. With --json: {"scheme": "ed25519", "private": false, "keys":
    {"1": "...", "2": "..."}}.

    Example:  quorate keys show keys/keyring.toml

    Exit code: 0 the file is good, 2 wrong use, or a file that is damaged or that others can read.
    """
    from quorate.runtime import key_files

    publics: dict[int | str, bytes]
    try:
        private = key_files.is_private(file)
        if private:
            signer = key_files.read_private_key(file)
            publics = {key_files.ADMIN if signer.node is None else signer.node: signer.public}
        else:
            keyring = key_files.read_keyring(file)
            publics = {node: keyring.public(node) for node in keyring.nodes}
    except key_files.KeyFileError as error:
        fail(str(error), Code.WRONG_USE)
    if json:
        shown = {str(node): public.hex() for node, public in publics.items()}
        print_json({"scheme": key_files.SCHEME, "private": private, "keys": shown})
        return
    for node, public in publics.items():
        typer.echo(f"{node}  {public.hex()}")
