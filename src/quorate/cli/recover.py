"""`quorate recover`: a new cluster of one node, made of what one node has, once the majority is lost for good."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorate.cli.common import Code, fail

if TYPE_CHECKING:
    from quorate.service.config import NodeConfig
    from quorate.service.recovery import Survey


def recover_cluster(
    data: Annotated[Path, typer.Option("--data", help="The data folder of the node that survived.")],
    to_one_node: Annotated[
        bool, typer.Option("--to-one-node", help="Say that the new cluster is this one node alone.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The node's configuration.", show_default="node.toml, or that of `up`"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The new folder.", show_default="the old name and -recovered")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it, knowing what may be lost.")] = False,
) -> None:
    """Begin a new cluster with what one node has, if the majority of its cluster is lost for good. Without --yes it
    says what may be lost, and changes nothing.

    Example:  quorate recover --data /var/lib/quorate/2 --to-one-node

    The old folder stays as it is. The new one has a configuration, node.toml, with the node's addresses and a new name
    of the cluster; add nodes to it as to any other (`quorate members add`).

    Exit code: 0 done, 1 the folder cannot be read or written, 2 wrong use, or --yes is missing.
    """
    from quorate.runtime.errors import StorageError
    from quorate.service.recovery import CannotRecover, begin_with_one

    if not to_one_node:
        fail("say --to-one-node: the new cluster has this node alone, and what it has", Code.WRONG_USE)
    chosen = _config_of(data, config)
    new = out or data.absolute().with_name(data.absolute().name + "-recovered")

    def may(found: Survey, name: str) -> bool:
        typer.echo(_warning(found, name), err=True)
        return yes

    try:
        made = begin_with_one(chosen, new, may)
    except CannotRecover as error:
        fail(str(error), Code.WRONG_USE)
    except (StorageError, OSError) as error:
        fail(f"{data}: {error}", Code.FAILED)
    if made is None:
        fail("nothing was changed. To do it, say --yes", Code.WRONG_USE)
    again = shlex.join(["quorate", "node", "--config", str(new / "node.toml")])
    typer.echo(f"cluster {made.cluster!r} of one node is in {new}. Start it, and let others join it:\n  {again}")


def _config_of(data: Path, config: Path | None) -> NodeConfig:
    """Of the node to which the folder belongs."""
    import msgspec

    from quorate.runtime.errors import StorageError
    from quorate.runtime.folder import owner_of
    from quorate.service.config import ConfigError, load

    path = config or next((one for one in (data / "node.toml", data / ".." / "cluster.toml") if one.exists()), None)
    if path is None:
        fail(f"there is no node.toml in {data}: say which configuration the node has, with --config", Code.WRONG_USE)
    try:
        owner = owner_of(data)
        return msgspec.structs.replace(load(path, None if owner is None else owner.node), data=data)
    except ConfigError as error:
        fail(str(error), Code.WRONG_USE)
    except (StorageError, OSError) as error:
        fail(str(error), Code.FAILED)


def _warning(found: Survey, name: str) -> str:
    config, last = found.config, found.last_index
    others = ", ".join(f"n{node}" for node in found.others) or "the others"
    unsure = f"{found.known_index + 1} to {last}" if last > found.known_index else "none"
    return (
        f"n{config.node} of cluster {config.cluster!r} has a log of {last} entries.\n"
        "- What may be lost: all that the other nodes decided and this one never had. Clients may have been told that\n"
        "  it was done.\n"
        f"- What may come back: entries of which this node does not know whether they were decided ({unsure}).\n"
        "  From now on they count.\n"
        f"- The new cluster is another one, {name!r}, with this node alone. Never start the others\n"
        f"  again ({others}): they would go on with another history.\n"
        "If enough of them for a quorum can be brought back, do that instead."
    )
