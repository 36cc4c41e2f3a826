"""Which classes a replicated object may keep, pass and return, by name, and how their instances are taken apart.

An instance travels as the name of its class and its fields. A name is looked up in the `Kinds` of the replicated class
and nowhere else: bytes never import a class or find one by its path. Classes become known in three ways:

- `register_type`, for the whole process, with functions that encode and decode where the class has no fields to list;
- annotations of the replicated class, of its marked methods, and of the fields of classes found there;
- enumerations, dataclasses, Structs, NamedTuples and pydantic models in the module of the replicated class.

Two classes of one name are a mistake that is told when one of them is used; until then nobody minds. An instance is
built from its fields alone: neither ``__init__`` nor ``__post_init__`` runs, a missing field gets its default, an
unknown one is refused. Durable is nothing here; the names and field names stand in logs and snapshots.
"""

from __future__ import annotations

import builtins
import dataclasses
import enum
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

MISSING = object()
ANNOTATION_DEPTH_MAX = 64


class Shape:
    """How instances of one class are taken apart and put together."""

    is_frozen = False
    """Whether the fields cannot be assigned: such a value is a leaf if what it holds are leaves."""

    def __init__(self, name: str, cls: type) -> None:
        self.name = name
        self.cls = cls

    def take(self, value: Any) -> Any:
        """What stands for the value: plain, or a dict of fields. Raises TypeError if something would be lost."""
        raise NotImplementedError

    def make(self, content: Any) -> Any:
        """The value again. Raises ValueError or TypeError for content that is not of this class."""
        raise NotImplementedError


class EnumShape(Shape):
    """A member by its name; a combination of flags by its value."""

    is_frozen = True

    def take(self, value: Any) -> Any:
        return value.value if isinstance(value, enum.Flag) else value.name

    def make(self, content: Any) -> Any:
        if issubclass(self.cls, enum.Flag):
            return self.cls(content)
        members: Mapping[str, Any] = vars(self.cls)["_member_map_"]
        if not isinstance(content, str) or content not in members:
            raise ValueError(f"{self.name} has no member {content!r}")
        return members[content]


class FieldsShape(Shape):
    """A class with fields that are listed. ``defaults`` has a function for each field that may be missing."""

    def __init__(self, name: str, cls: type, fields: Iterable[str], defaults: Mapping[str, Callable[[], Any]]) -> None:
        super().__init__(name, cls)
        self.fields = tuple(fields)
        self.defaults = defaults

    def take(self, value: Any) -> Any:
        """The fields that are set. Raises TypeError for attributes beside them."""
        kept = {name: getattr(value, name) for name in self.fields if hasattr(value, name)}
        extra = sorted(self.extra(value))
        if extra:
            raise TypeError(f"{self.name} has the attribute {extra[0]!r} beside its fields, which would be lost")
        return kept

    def make(self, content: Any) -> Any:
        """The value, with defaults for fields that are missing."""
        if not isinstance(content, dict):
            raise ValueError(f"{self.name} is stored as its fields, not as {type(content).__name__}")
        values = {}
        for name in self.fields:
            value = content.pop(name, MISSING)
            if value is MISSING:
                if name not in self.defaults:
                    raise ValueError(f"{self.name} lacks its field {name!r}, which has no default")
                value = self.defaults[name]()
            values[name] = value
        if content:
            raise ValueError(f"{self.name} has no field {next(iter(content))!r}")
        return self.build(values)

    def extra(self, value: Any) -> Iterable[str]:
        """Names of attributes that are not fields."""
        return ()

    def build(self, values: dict[str, Any]) -> Any:
        """An instance with these fields."""
        raise NotImplementedError


class DataclassShape(FieldsShape):
    def __init__(self, name: str, cls: type) -> None:
        fields = dataclasses.fields(cls)
        super().__init__(name, cls, [field.name for field in fields], _defaults(fields, dataclasses.MISSING))
        self.is_frozen = bool(vars(cls)["__dataclass_params__"].frozen)
        self._has_attributes = "__dict__" in dir(cls)

    def extra(self, value: Any) -> Iterable[str]:
        return vars(value).keys() - set(self.fields) if self._has_attributes else ()

    def build(self, values: dict[str, Any]) -> Any:
        made: Any = object.__new__(self.cls)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made


class StructShape(FieldsShape):
    def __init__(self, name: str, cls: type[msgspec.Struct]) -> None:
        fields = msgspec.structs.fields(cls)
        super().__init__(name, cls, [field.name for field in fields], _defaults(fields, msgspec.NODEFAULT))
        self.is_frozen = cls.__struct_config__.frozen
        self._runs_code = "__post_init__" in dir(cls)

    def take(self, value: Any) -> Any:
        if self._runs_code:
            # Such a Struct cannot be made without running it, and what it does may depend on where it runs.
            raise TypeError(f"{self.name} has a __post_init__: register_type({self.name}, encode=..., decode=...)")
        return super().take(value)

    def build(self, values: dict[str, Any]) -> Any:
        if self._runs_code:
            raise ValueError(f"{self.name} has a __post_init__")
        return self.cls(**values)


class NamedTupleShape(FieldsShape):
    is_frozen = True

    def __init__(self, name: str, cls: Any) -> None:
        super().__init__(name, cls, cls._fields, {key: _constant(value) for key, value in cls._field_defaults.items()})

    def extra(self, value: Any) -> Iterable[str]:
        return vars(value) if "__dict__" in dir(value) else ()

    def build(self, values: dict[str, Any]) -> Any:
        return tuple.__new__(self.cls, values.values())


class ModelShape(FieldsShape):
    """A pydantic model, of version 2. It is never validated again; which fields were set is kept."""

    FIELDS_SET = "__pydantic_fields_set__"

    def __init__(self, name: str, cls: Any) -> None:
        defaults = {key: field.get_default for key, field in cls.model_fields.items() if not field.is_required()}
        super().__init__(name, cls, cls.model_fields, {key: _called(get) for key, get in defaults.items()})
        self.is_frozen = bool(cls.model_config.get("frozen"))
        self._has_private = bool(cls.__private_attributes__)

    def take(self, value: Any) -> Any:
        return {**super().take(value), self.FIELDS_SET: sorted(value.model_fields_set)}

    def make(self, content: Any) -> Any:
        fields_set = content.pop(self.FIELDS_SET, []) if isinstance(content, dict) else []
        if not isinstance(fields_set, list) or not set(self.fields).issuperset(fields_set):
            raise ValueError(f"{self.name} names fields that it does not have")
        made = super().make(content)
        object.__setattr__(made, self.FIELDS_SET, set(fields_set))
        return made

    def extra(self, value: Any) -> Iterable[str]:
        private = ["its private attributes"] if self._has_private else []
        return [*(vars(value).keys() - set(self.fields)), *(value.model_extra or ()), *private]

    def build(self, values: dict[str, Any]) -> Any:
        made: Any = object.__new__(self.cls)
        object.__setattr__(made, "__dict__", values)
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made


class CustomShape(Shape):
    """A class that its owner registered with two functions."""

    def __init__(self, name: str, cls: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
        super().__init__(name, cls)
        self._encode = encode
        self._decode = decode

    def take(self, value: Any) -> Any:
        return self._encode(value)

    def make(self, content: Any) -> Any:
        made = self._decode(content)
        if type(made) is not self.cls:
            raise ValueError(f"the decode function of {self.name} gave {type(made).__name__}")
        return made


class Kinds:
    """The classes that one replicated class knows by name, those that the process registered among them."""

    def __init__(self, classes: Iterable[type] = ()) -> None:
        self._shapes: dict[type, Shape] = {}
        self._named: dict[str, Shape | None] = {}
        for cls in classes:
            if cls not in _REGISTERED and (shape := shape_of(cls, cls.__qualname__)) is not None:
                self._shapes[cls] = shape
                self._named[shape.name] = None if shape.name in self._named else shape

    def of(self, cls: type) -> Shape | None:
        """How instances of exactly this class travel; None if the class is not known. Raises TypeError: ambiguous."""
        shape = _REGISTERED.get(cls) or self._shapes.get(cls)
        if shape is None:
            return None
        if self.named(shape.name) is not shape:
            name = cls.__name__
            raise TypeError(f"two classes are called {shape.name}: register_type({name}, name=...) tells them apart")
        return shape

    def named(self, name: str) -> Shape | None:
        """The class of that name; None if there is none, or more than one."""
        registered = _REGISTERED_NAMES.get(name)
        return registered if registered is not None else self._named.get(name)


_REGISTERED: dict[type, Shape] = {}
_REGISTERED_NAMES: dict[str, Shape] = {}
_EXCEPTIONS: dict[str, type[Exception]] = {}
_EXCEPTION_NAMES: dict[type[Exception], str] = {}
_NOT_RAISED = (StopIteration, StopAsyncIteration)
"""Raised in a coroutine or a generator these would become RuntimeErrors."""


def register_type(
    cls: type,
    *,
    name: str | None = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
) -> None:
    """Let instances of ``cls`` be state, arguments and results of replicated objects in this process.

    ``name`` stands in logs and snapshots: it must be the same in every process, and must stay (default: the class's
    qualified name). ``encode`` gives a value of other types that travel, ``decode`` the instance again; without them
    the class must be an Enum, a dataclass, a Struct, a NamedTuple or a pydantic model. An exception class needs
    neither: it is raised again at the caller as itself. Raises TypeError, and ValueError for a name that is taken.
    """
    name = cls.__qualname__ if name is None else name
    if issubclass(cls, Exception):
        if _EXCEPTIONS.get(name, cls) is not cls or name in dir(builtins):
            raise ValueError(f"the name {name!r} is taken: register_type({cls.__name__}, name=...) with another")
        _EXCEPTIONS[name] = cls
        _EXCEPTION_NAMES[cls] = name
        return
    if (encode is None) != (decode is None):
        raise TypeError(f"register_type({cls.__name__}): give both encode and decode, or neither")
    shape = shape_of(cls, name) if encode is None or decode is None else CustomShape(name, cls, encode, decode)
    if shape is None:
        raise TypeError(
            f"register_type({cls.__name__}): an instance has no fields that could be listed: make it a dataclass, "
            "or give encode and decode"
        )
    known = _REGISTERED_NAMES.get(name)
    if known is not None and known.cls is not cls:
        raise ValueError(f"the name {name!r} is taken: register_type({cls.__name__}, name=...) with another")
    if (before := _REGISTERED.pop(cls, None)) is not None:
        del _REGISTERED_NAMES[before.name]
    _REGISTERED[cls] = _REGISTERED_NAMES[name] = shape


def name_of_exception(cls: type[BaseException]) -> str:
    """The name under which it is raised again, for a builtin or registered class; otherwise one that is neither's."""
    if cls.__module__ == "builtins" or not issubclass(cls, Exception):
        return cls.__name__
    name = _EXCEPTION_NAMES.get(cls)
    if name is not None:
        return name
    return cls.__name__ if exception_named(cls.__name__) is None else f"{cls.__module__}.{cls.__name__}"


def exception_named(name: str) -> type[Exception] | None:
    """A registered or builtin exception that a caller may be given as itself."""
    found = _EXCEPTIONS.get(name)
    if found is not None:
        return found
    builtin = vars(builtins).get(name)
    if isinstance(builtin, type) and issubclass(builtin, Exception) and not issubclass(builtin, _NOT_RAISED):
        return builtin
    return None


def shape_of(cls: type, name: str) -> Shape | None:
    """How instances of a class travel that lists its fields or members itself; None for other classes."""
    if issubclass(cls, enum.Enum):
        return EnumShape(name, cls)
    if issubclass(cls, msgspec.Struct):
        return StructShape(name, cls)
    if issubclass(cls, tuple):
        return NamedTupleShape(name, cls) if "_field_defaults" in dir(cls) else None
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return ModelShape(name, cls)
    if dataclasses.is_dataclass(cls) and "__dataclass_params__" in vars(cls):  # itself, not only a base
        return DataclassShape(name, cls)
    return None


def classes_of(kind: type, methods: Iterable[Any]) -> list[type]:
    """The classes with fields or members that belong to a replicated class: its module's, and those it names."""
    module = sys.modules.get(kind.__module__)
    found: dict[type, None] = {}
    for value in list(vars(module).values()) if module is not None else []:
        if isinstance(value, type) and value is not kind:
            _collect(value, found, 0)
    for owner in (kind, *methods):
        for hint in _hints(owner):
            _collect(hint, found, 0)
    return list(found)


def _collect(hint: Any, found: dict[type, None], depth: int) -> None:
    if depth > ANNOTATION_DEPTH_MAX:
        return
    for argument in typing.get_args(hint):
        _collect(argument, found, depth + 1)
    if isinstance(hint, type) and typing.get_origin(hint) is None and hint not in found:
        if _has_fields(hint):
            found[hint] = None
            for inner in _hints(hint):
                _collect(inner, found, depth + 1)


def _has_fields(cls: type) -> bool:
    try:
        return shape_of(cls, "") is not None and bool(_names_of(cls))
    except (TypeError, NameError, AttributeError, KeyError):  # its annotations name what is not there
        return False


def _names_of(cls: type) -> bool:
    """Whether it is more than one of the bases that all others derive from."""
    pydantic = sys.modules.get("pydantic")
    bases = {enum.Enum, enum.IntEnum, enum.StrEnum, enum.Flag, enum.IntFlag, msgspec.Struct}
    return cls not in bases and (pydantic is None or cls is not pydantic.BaseModel)


def _hints(owner: Any) -> Iterator[Any]:
    """The annotations; those that cannot be evaluated here are left out, one by one."""
    try:
        yield from typing.get_type_hints(owner).values()
        return
    except Exception:  # a name that only a type checker knows
        pass
    for hint in vars(owner).get("__annotations__", {}).values():
        if not isinstance(hint, str):
            yield hint


def _defaults(fields: Iterable[Any], missing: object) -> dict[str, Callable[[], Any]]:
    """What makes the default of each field that has one; ``missing`` stands for none."""
    found: dict[str, Callable[[], Any]] = {}
    for field in fields:
        if field.default is not missing:
            found[field.name] = _constant(field.default)
        elif field.default_factory is not missing:
            found[field.name] = field.default_factory
    return found


def _constant(value: Any) -> Callable[[], Any]:
    def default() -> Any:
        return value

    return default


def _called(get_default: Callable[..., Any]) -> Callable[[], Any]:
    def default() -> Any:
        return get_default(call_default_factory=True)

    return default
