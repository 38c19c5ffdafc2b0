# SPDX-License-Identifier: Apache-2.0
"""A service of rate limits over a redis that is none, at a time that stands still."""

from __future__ import annotations

from collections import Counter
from typing import Any

from meshbox.images.ratelimit.config import Config
from meshbox.images.ratelimit.log import Log
from meshbox.images.ratelimit.messages import Asked, Descriptor, Status
from meshbox.images.ratelimit.service import Service
from meshbox.images.ratelimit.settings import Settings
from meshbox.images.ratelimit.store import Reply, StoreError

NOW = 1_700_000_000
"""20 seconds into a minute, and 800 into an hour."""

SHOP = """
domain: shop
descriptors:
- key: PATH
  value: /page
  rate_limit: {unit: minute, requests_per_unit: 1}
- key: PATH
  value: /api/*
  rate_limit: {unit: hour, requests_per_unit: 10, name: api}
- key: PATH
  rate_limit: {unit: day, requests_per_unit: 100}
- key: user
  value: free
  descriptors:
  - key: PATH
    value: /big*
    rate_limit: {unit: Year, requests_per_unit: 2}
  - key: PATH
    detailed_metric: true
    rate_limit: {unit: second, requests_per_unit: 7}
- key: user
  value: paying
  rate_limit: {unlimited: true}
- key: user
  value: tried
  shadow_mode: true
  rate_limit: {unit: minute, requests_per_unit: 1}
- key: burst
  rate_limit: {unit: minute, requests_per_unit: 3, replaces: [{name: api}]}
"""


class Counts:
    """A redis that knows two commands."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: dict[str, int] = {}
        self.down = ""

    def ask(self, commands: list[list[str | int]]) -> list[Reply]:
        if self.down:
            raise StoreError(self.down)
        return [self._one(*command) for command in commands]

    def _one(self, name: str | int, key: str | int, number: str | int) -> int:
        if name == "EXPIRE":
            self.kept[str(key)] = int(number)
            return 1
        assert name == "INCRBY"
        self.counts[str(key)] += int(number)
        return self.counts[str(key)]


class Played:
    """The service over such a redis."""

    def __init__(self, text: str = SHOP, **env: str) -> None:
        self.store, self.now = Counts(), NOW
        self.settings = Settings(env)
        self.service = Service(self.settings, self.store, Log("panic"), lambda: self.now)
        self.service.load([("config.yaml", text)])

    def ask(self, *descriptors: dict[str, str], domain: str = "shop", hits: int = 0) -> Any:
        made = tuple(Descriptor(tuple(one.items())) for one in descriptors)
        return self.service.should_rate_limit(Asked(domain, made, hits))

    def status(self, **entries: str) -> Status:
        (found,) = self.ask(entries).statuses
        return found  # type: ignore[no-any-return]

    def counted(self) -> dict[str, int]:
        lines = (line.rpartition(": ") for line in self.service.statistics().splitlines())
        return {name.removeprefix("ratelimit.service."): int(number) for name, _, number in lines if number != "0"}


def limit_of(config: Config, *entries: tuple[str, str], domain: str = "shop") -> str | None:
    found = config.limit(domain, Descriptor(entries))
    return found and f"{found.key} {found.requests}/{found.unit_name}"
