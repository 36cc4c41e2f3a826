"""A node's configuration as the text of its file: what ``config.load`` reads is what was written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from quorate.service.config import NodeConfig


def toml_of(config: NodeConfig, head: str, data: Path, keys: Path | None) -> str:
    """The file. ``data`` and ``keys`` stand in it as they are given here; ``head``: a comment, a line or more."""
    lines = [f"# {line}" for line in head.splitlines()]
    lines += [f"cluster = {_value(config.cluster)}", f"node = {config.node}", f"data = {_value(str(data))}"]
    lines.append(f"protocol = {_value(config.protocol)}")
    if keys is not None:
        lines.append(f"keys = {_value(str(keys))}")
    if config.app:
        lines.append(f"app = {_value(config.app)}")
    if config.witness:
        lines.append("witness = true")
    if config.memory_bytes_max is not None:
        lines.append(f"memory_bytes_max = {config.memory_bytes_max}")
    for node, member in sorted(config.nodes.items()):
        lines += ["", f"[nodes.{node}]", *_fields(msgspec.structs.asdict(member))]
    if config.options is not None:
        lines += ["", f"[{config.entry.name}]", *_fields(_options(config.options, config.entry.config()))]
    return "\n".join(lines) + "\n"


def _options(options: Any, defaults: Any) -> Mapping[str, Any]:
    """Those that are not the defaults, which another release may have otherwise, on all nodes. Keys are in hex."""
    usual = msgspec.to_builtins(defaults, builtin_types=(bytes,))
    found: dict[str, Any] = msgspec.to_builtins(options, builtin_types=(bytes,))
    return {name: value for name, value in found.items() if value != usual[name]}


def _fields(fields: Mapping[str, Any]) -> Iterator[str]:
    """TOML has no word for nothing: what is not set is left out, and its default is that."""
    for name, value in fields.items():
        if value is not None:
            yield f"{name} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        return f'"{value.hex()}"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(_fields(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    # A string of JSON is one of TOML, and so are its numbers and truth values. TOML has no bare DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
