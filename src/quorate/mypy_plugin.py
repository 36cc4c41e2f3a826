"""A plugin of mypy: ``await handle.method(...)`` at an Async handle has the method's own arguments and result.

Without it mypy takes any arguments there and checks ``await handle(Kind.method, ...)`` alone. To have it, write
``plugins = ["quorate.mypy_plugin"]`` under ``[tool.mypy]`` in pyproject.toml. Only mypy imports this module.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.expandtype import expand_type_by_instance
from mypy.maptype import map_instance_to_supertype
from mypy.nodes import MemberExpr
from mypy.plugin import AttributeContext, Plugin
from mypy.typeops import bind_self
from mypy.types import AnyType, CallableType, Instance, Type, TypeOfAny, get_proper_type

ASYNC = "quorate.service.objects.handles.Async."


class QuoratePlugin(Plugin):
    """Looks at attributes of Async handles."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        """As mypy's base says."""
        return _attribute if fullname.startswith(ASYNC) else None


def plugin(version: str) -> type[Plugin]:
    """Where mypy begins."""
    return QuoratePlugin


def _attribute(context: AttributeContext) -> Type:
    """What the attribute of a handle is, by that of its class."""
    handle = get_proper_type(context.type)
    expression = context.context
    if not isinstance(handle, Instance) or not handle.args or not isinstance(expression, MemberExpr):
        return context.default_attr_type
    kind = get_proper_type(handle.args[0])
    name = expression.name
    if not isinstance(kind, Instance) or name.startswith("__"):
        return context.default_attr_type
    for base in kind.type.mro:
        if (symbol := base.names.get(name)) is not None:
            method = get_proper_type(symbol.type)
            if not isinstance(method, CallableType):
                break
            found = get_proper_type(expand_type_by_instance(method, map_instance_to_supertype(kind, base)))
            assert isinstance(found, CallableType)
            bound = bind_self(found, kind)
            unknown = AnyType(TypeOfAny.special_form)
            result = context.api.named_generic_type("typing.Coroutine", [unknown, unknown, bound.ret_type])
            return bound.copy_modified(ret_type=result)
    context.api.fail(f'"{kind.type.name}" has no method "{name}" to await through its handle', expression)
    return AnyType(TypeOfAny.from_error)
