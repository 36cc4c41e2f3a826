"""Hypothesis strategies for any Struct, from its types and the limits in them."""

from typing import Any

import msgspec
from hypothesis import reject
from hypothesis import strategies as st
from msgspec import inspect

INT64 = 2**63
ITEMS_MAX = 6


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values that a decoder of this type accepts."""
    return _strategy(inspect.type_info(kind))


def _strategy(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.Metadata():
            return _strategy(info.type)
        case inspect.IntType():
            low = info.ge if info.ge is not None else -INT64 if info.gt is None else info.gt + 1
            high = info.le if info.le is not None else INT64 - 1 if info.lt is None else info.lt - 1
            return st.integers(low, high)
        case inspect.FloatType():
            return st.floats(allow_nan=False)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.StrType():
            return st.text(min_size=info.min_length or 0, max_size=_most(info))
        case inspect.BytesType():
            return st.binary(min_size=info.min_length or 0, max_size=_most(info))
        case inspect.VarTupleType() | inspect.ListType():
            items = st.lists(_strategy(info.item_type), min_size=info.min_length or 0, max_size=_most(info))
            return items.map(tuple) if isinstance(info, inspect.VarTupleType) else items
        case inspect.TupleType():
            return st.tuples(*map(_strategy, info.item_types))
        case inspect.DictType():
            return st.dictionaries(_strategy(info.key_type), _strategy(info.value_type), max_size=ITEMS_MAX)
        case inspect.UnionType():
            return st.one_of(*map(_strategy, info.types))
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.EnumType():
            return st.sampled_from(list(info.cls))
        case inspect.StructType():
            fields = st.fixed_dictionaries({field.name: _strategy(field.type) for field in info.fields})
            return fields.map(lambda values: _made(info.cls, values))
    raise TypeError(f"no strategy for {info}: teach it to this file, or give the field a type")


def _most(info: Any) -> int:
    limit = ITEMS_MAX if info.max_length is None else min(info.max_length, ITEMS_MAX)
    return max(limit, info.min_length or 0)


def _made(kind: type, values: dict[str, Any]) -> Any:
    """One of this type; values that the type itself refuses are not what a decoder accepts."""
    try:
        return kind(**values)
    except ValueError:
        reject()


def msgpack_values() -> st.SearchStrategy[bytes]:
    """Well-formed msgpack of anything: gets further into a decoder than random bytes do."""
    leaves = st.none() | st.booleans() | st.integers(-INT64, 2 * INT64 - 1) | st.floats() | st.text() | st.binary()
    tags = st.sampled_from(["Note", "Kept", "Whisper", "Stepped", "Received"])
    trees = st.recursive(leaves | tags, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
    return trees.map(msgspec.msgpack.encode)
