# SPDX-License-Identifier: Apache-2.0
"""A plugin for mypy: `.get("…")` of a TypedDict sees a misspelt field, as `["…"]` does; by itself it gives `object`."""

from __future__ import annotations

from collections.abc import Callable

from mypy.errorcodes import TYPEDDICT_ITEM
from mypy.plugin import MethodContext, Plugin
from mypy.plugins.common import try_getting_str_literals
from mypy.plugins.default import typed_dict_get_callback
from mypy.types import Type, TypedDictType, get_proper_type


def _get(call: MethodContext) -> Type:
    asked = get_proper_type(call.type)
    if isinstance(asked, TypedDictType) and call.args and call.args[0]:
        for name in try_getting_str_literals(call.args[0][0], call.arg_types[0][0]) or ():
            if name not in asked.items:
                words = f'TypedDict "{asked.fallback.type.name}" has no field "{name}"'
                call.api.fail(words, call.context, code=TYPEDDICT_ITEM)
    return typed_dict_get_callback(call)


class TypedFields(Plugin):
    """Asks for the keys of `get`."""

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        """What looks at a call of the method `fullname`."""
        return _get if fullname == "typing.Mapping.get" else None


def plugin(version: str) -> type[Plugin]:
    """What mypy asks for."""
    return TypedFields
