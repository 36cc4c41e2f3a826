"""`quorate doctor`: what is wrong with a node's folder, and which command helps. It changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorate.cli.common import Code, JsonOption, fail

if TYPE_CHECKING:
    from quorate.runtime.doctor import Examined
    from quorate.service.config import NodeConfig


def doctor(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The node's data folder.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The node's configuration.", show_default="node.toml, or that of `up`"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with a node's data folder, and what helps. Nothing in it is changed; a node may run on it.

    Example:  quorate doctor /var/lib/quorate/2

    Each file is read to its end, and checked as a start checks it. With the node's configuration the records are
    compared with the snapshots as well.

    Exit code: 0 nothing is damaged, 1 something is damaged or missing, 2 wrong use.
    """
    from quorate.runtime.doctor import examine
    from quorate.runtime.files import Identity
    from quorate.service.doctor import advice, examine_records

    if not folder.is_dir():
        fail(f"{folder} is not a folder", Code.WRONG_USE)
    chosen = _config_of(folder, config)
    try:
        found = examine(folder, None if chosen is None else Identity(chosen.cluster, chosen.node))
        if chosen is not None:
            examine_records(found, chosen)
    except OSError as error:
        fail(f"{folder} cannot be read: {error}", Code.FAILED)
    helps = advice(found, chosen)
    typer.echo(json.dumps(_as_json(found, helps), indent=2) if as_json else _as_text(found, helps))
    raise typer.Exit(Code.NO if found.is_damaged or found.is_empty else Code.OK)


def _config_of(folder: Path, config: Path | None) -> NodeConfig | None:
    """The one that is named, or lies where nodes and `up` have it; of the node that the folder says it is of."""
    from quorate.runtime.errors import StorageError
    from quorate.runtime.folder import owner_of
    from quorate.service.config import ConfigError, load

    path = config or next((one for one in (folder / "node.toml", folder / ".." / "cluster.toml") if one.exists()), None)
    if path is None:
        return None
    try:
        owner = owner_of(folder)
    except (StorageError, OSError):
        owner = None  # a finding
    try:
        return load(path, None if owner is None else owner.node)
    except (ConfigError, OSError) as error:
        if config is None:
            return None
        fail(f"{config}: {error}", Code.WRONG_USE)


def _as_json(found: Examined, helps: str) -> dict[str, Any]:
    identity = found.identity
    return {
        "folder": str(found.folder),
        "cluster": None if identity is None else identity.cluster,
        "node": None if identity is None else identity.node,
        "has_forgotten_once": found.is_repaired,
        "held_by": found.holder,
        "damaged": found.is_damaged,
        "findings": [{"file": one.file, "state": one.state, "text": one.text} for one in found.findings],
        "advice": helps,
    }


def _as_text(found: Examined, helps: str) -> str:
    identity = found.identity
    whose = "nobody says whose it is" if identity is None else f"node {identity.node} of cluster {identity.cluster!r}"
    lines = [f"{found.folder}: {whose}"]
    if found.holder:
        lines.append(f"process {found.holder} runs a node on it: what it is writing now may look unfinished")
    elif found.holder is None:
        lines.append("whether a node runs on it cannot be told")
    if found.is_repaired:
        lines.append("it has lost its memory once, and came back from the other nodes")
    lines += [f"{one.state:<8} {one.file}: {one.text}" for one in found.findings]
    return "\n".join((*lines, f"What to do: {helps}."))
