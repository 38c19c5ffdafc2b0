# SPDX-License-Identifier: Apache-2.0
"""A module that is in use already takes on the behaviour of another text of it."""

from __future__ import annotations

import contextlib
import sys
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

__all__ = ["graft"]


def graft(module: ModuleType, source: str) -> None:
    """Make `module`, which others have imported already, behave as `source` says."""
    fresh: dict[str, Any] = {key: module.__dict__[key] for key in ("__name__", "__file__", "__package__", "__spec__")}
    exec(compile(source, str(module.__file__), "exec"), fresh)  # noqa: S102 - our own source, but for one word
    for name, new in fresh.items():
        old = module.__dict__.get(name)
        if getattr(new, "__module__", "") == module.__name__ and isinstance(new, type) and _fields(old) == _fields(new):
            for attribute, value in vars(new).items():
                if not _graft_function(vars(old).get(attribute), value) and attribute not in (
                    "__dict__",
                    "__weakref__",
                ):
                    _set(old, attribute, value)
        elif not _graft_function(old, new) and not name.startswith("__"):
            for other in list(sys.modules.values()):
                if vars(other).get(name) is old:
                    vars(other)[name] = new


def _fields(one: object) -> object:
    """What of a msgspec Struct can only come with a class of its own."""
    defaults = [getattr(default, "factory", default) for default in getattr(one, "__struct_defaults__", ())]
    config = getattr(one, "__struct_config__", None)
    return defaults, [getattr(config, name) for name in dir(config) if not name.startswith("_")]


def _set(owner: object, name: str, value: object) -> None:
    if name not in ("__dict__", "__weakref__") and not isinstance(value, (MemberDescriptorType, GetSetDescriptorType)):
        with contextlib.suppress(AttributeError, TypeError):
            setattr(owner, name, value)


def _graft_function(old: Any, new: Any) -> bool:
    for name in ("fget", "func", "__func__", "__wrapped__"):
        if hasattr(old, name) and hasattr(new, name):
            old, new = getattr(old, name), getattr(new, name)
    if not isinstance(old, FunctionType) or not isinstance(new, FunctionType):
        return False
    if len(old.__closure__ or ()) != len(new.__closure__ or ()) or (old.__name__ == "__init__" and old.__closure__):
        return False
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    return True
