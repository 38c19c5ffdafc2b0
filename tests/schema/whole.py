# SPDX-License-Identifier: Apache-2.0
"""What the API server says of an object from its decoding to its rules, without a server."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

from meshbox.addresses import AddressPlan
from meshbox.api.builtin import decode_builtin, prune_builtin, validate_builtin
from meshbox.api.builtin.typed import typed
from meshbox.api.compiled import definition, expressions
from meshbox.api.conversion import to_hub
from meshbox.api.defaults import apply_defaults
from meshbox.api.problems import Problems
from meshbox.api.resources import Registry, Served
from meshbox.settings import SandboxSettings
from tests.conftest import TOKEN

_CALLED = (definition, expressions)
"""They say what some of the rules' calls mean."""


@functools.cache
def _registry(legacy: bool) -> Registry:
    return Registry(legacy=legacy)


@functools.cache
def _settings(legacy: bool) -> SandboxSettings:
    release = "1.2.2" if legacy else "1.30.3"
    return SandboxSettings("whole", Path("/nowhere"), release, AddressPlan(231), token=TOKEN)


def _served(api_version: str, kind: str) -> tuple[Served | None, bool]:
    group, _, version = api_version.rpartition("/")
    for legacy in (False, True):
        for served in _registry(legacy).all_served():
            if (served.group, served.version, served.resource.kind) == (group, version, kind):
                return served, legacy
    return None, False


def problems_of(api_version: str, kind: str, obj: Any) -> Problems:
    """As the server finds them: decoding, defaults, then the rules; `obj` is not changed."""
    problems = decode_builtin(api_version, kind, obj)
    served, legacy = _served(api_version, kind)
    if problems.decode or served is None:
        return problems
    obj = copy.deepcopy(obj)
    prune_builtin(api_version, kind, obj)
    typed(obj, api_version, kind, stored=False)
    obj.setdefault("kind", kind)
    obj = to_hub(served, obj)
    apply_defaults(served.resource.name, obj, _settings(legacy))
    problems.errors += validate_builtin(served.resource.api_version, kind, obj, api_version).errors
    return problems
