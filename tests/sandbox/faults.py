# SPDX-License-Identifier: Apache-2.0
"""A whole sandbox in the test's own process, and functions of it that fail for one object."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshbox.daemon import Sandbox

__all__ = [
    "BALANCED",
    "HEADLESS",
    "JOB",
    "LABELS",
    "POD",
    "SERVICE",
    "TEMPLATE",
    "WORKLOAD",
    "Obj",
    "World",
    "fault",
    "ready",
]

Obj = dict[str, Any]


def mentions(value: Any, name: str) -> bool:
    """Whether an argument is the object `name`, its key, or something that holds it."""
    if isinstance(value, dict):
        return bool((value.get("metadata") or {}).get("name") == name)
    if isinstance(value, tuple):
        return name in value
    held = [getattr(value, one, None) for one in ("object", "pod")]
    return value == name or any(isinstance(one, dict) and mentions(one, name) for one in held)


@contextlib.contextmanager
def fault(place: str, name: str) -> Iterator[list[int]]:
    """The function at `place` ("module:name" or "module:Class.name") fails for the object `name`; how often it did."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *holders, last = path.split(".")
    for holder in holders:
        owner = getattr(owner, holder)
    real, kept, failed = getattr(owner, last), vars(owner)[last], [0]

    def broken(*arguments: Any, **options: Any) -> Any:
        if any(mentions(one, name) for one in (*arguments, *options.values())):
            failed[0] += 1
            raise KeyError("unforeseen")
        return real(*arguments, **options)

    setattr(owner, last, staticmethod(broken) if isinstance(kept, staticmethod) else broken)
    try:
        yield failed
    finally:
        setattr(owner, last, kept)


@dataclass
class World:
    """A sandbox in this process."""

    sandbox: Sandbox

    @property
    def objects(self) -> Any:
        return self.sandbox.objects

    @property
    def home(self) -> Path:
        return self.sandbox.settings.home

    def events(self, name: str, reason: str) -> list[Obj]:
        return [
            one
            for one in self.objects.list("events")
            if one["involvedObject"]["name"] == name and one["reason"] == reason and one["type"] == "Warning"
        ]

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        async with asyncio.timeout(120):
            while not (value := condition()):
                await asyncio.sleep(0.01)
        return value


POD = {"containers": [{"name": "c", "image": "busybox:1.28", "command": ["sleep", "1000"]}]}
LABELS = {"matchLabels": {"app": "x"}}
TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": POD}
JOB = {"metadata": {}, "spec": {**POD, "restartPolicy": "Never"}}


SERVICE = {"spec": {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 80}]}}
HEADLESS = {"spec": {**SERVICE["spec"], "clusterIP": "None"}}
BALANCED = {"spec": {**SERVICE["spec"], "type": "LoadBalancer"}}
WORKLOAD = {"spec": {"replicas": 0, "selector": LABELS, "template": TEMPLATE}}


def ready(_: World, obj: Obj) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
