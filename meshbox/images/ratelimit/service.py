# SPDX-License-Identifier: Apache-2.0
"""Decides: which limits a request has, what redis has counted in this window, and what statistics say of it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from meshbox.images.ratelimit.config import Config, ConfigError, Limit
from meshbox.images.ratelimit.log import Log
from meshbox.images.ratelimit.messages import MOST_UINT32, OK, OVER_LIMIT, Answer, Asked, Descriptor, Status
from meshbox.images.ratelimit.settings import Settings
from meshbox.images.ratelimit.store import Reply, StoreError

__all__ = ["RefusedError", "Service", "Store"]

_PREFIX = "ratelimit.service."
_OF_A_LIMIT = ("total_hits", "over_limit", "near_limit", "over_limit_with_local_cache", "within_limit", "shadow_mode")
_CALL = "call.should_rate_limit."
_OF_ALL = ("config_load_success", "config_load_error", "global_shadow_mode", f"{_CALL}redis_error",
           f"{_CALL}service_error")  # fmt: skip


class RefusedError(Exception):
    """A request that is not decided; the message is the genuine program's."""


class Store(Protocol):
    """Where hits are counted."""

    def ask(self, commands: list[list[str | int]], /) -> list[Reply]:
        """The replies to some of redis' commands."""


@dataclass(frozen=True)
class _Counted:
    """A limit that applies to a descriptor, and what its hits are counted under."""

    limit: Limit
    key: str
    hits: int


class Service:
    """The service.

    Args:
        settings: Its settings.
        store: Where it counts.
        log: Where it says what it does.
        now: The time, in seconds.
    """

    def __init__(self, settings: Settings, store: Store, log: Log, now: Callable[[], float] = time.time) -> None:
        self._settings, self._store, self._log, self._now = settings, store, log, now
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter(dict.fromkeys(_OF_ALL, 0))
        self.config: Config | None = None

    def load(self, files: Iterable[tuple[str, str]]) -> None:
        """Take new limits; those of before stay where the files are refused."""
        try:
            config = Config(files, merge=self._settings.flag("MERGE_DOMAIN_CONFIG"), say=self._log.debug)
        except ConfigError as error:
            self._count("config_load_error", 1)
            self._log.error(f"Error loading new configuration: {error}")
            return
        self._count("config_load_success", 1)
        for limit in config.limits():
            for kind in _OF_A_LIMIT:
                self._count(f"rate_limit.{limit.key}.{kind}", 0)
        self.config = config
        self._log.info("Successfully loaded new configuration")

    def statistics(self) -> str:
        """All of them, a line each."""
        with self._lock:
            found = dict(self._counts)
        names = {name: _PREFIX + name.replace(":", "_").replace("|", "_") for name in found}
        return "".join(f"{names[name]}: {found[name]}\n" for name in sorted(found, key=names.__getitem__))

    def should_rate_limit(self, asked: Asked) -> Answer:
        """The answer.

        Raises:
            RefusedError: the request has no domain or no descriptors, no limits are loaded, or redis cannot be asked.
        """
        try:
            answer = self._answer(asked)
        except StoreError as error:
            self._failed("redis_error")
            raise RefusedError(str(error)) from None
        except RefusedError:
            self._failed("service_error")
            raise
        self._log.debug("returning normal response")
        return answer

    def _failed(self, kind: str) -> None:
        self._log.debug("caught error during call")
        self._count(f"{_CALL}{kind}", 1)

    def _answer(self, asked: Asked) -> Answer:
        config = self.config
        if not asked.domain:
            raise RefusedError("rate limit domain must not be empty")
        if not asked.descriptors:
            raise RefusedError("rate limit descriptor list must not be empty")
        if config is None:
            raise RefusedError("no rate limit configuration loaded")
        limits = [self._limit(config, asked.domain, one) for one in asked.descriptors]
        replaced = {name for limit in limits if limit is not None for name in limit.replaces}
        statuses = self._statuses(asked, [self._standing(limit, replaced) for limit in limits])
        code = OVER_LIMIT if any(status.code == OVER_LIMIT for status in statuses) else OK
        headers = self._headers(statuses)
        if code == OVER_LIMIT and self._settings.flag("SHADOW_MODE"):
            self._count("global_shadow_mode", 1)
            code = OK
        return Answer(code, tuple(statuses), headers)

    def _standing(self, limit: Limit | None, replaced: set[str]) -> Limit | None:
        if limit is None or limit.unlimited or not limit.name or limit.name not in replaced:
            return limit
        self._log.debug(f"replacing {limit.name}")
        return None

    def _limit(self, config: Config, domain: str, one: Descriptor) -> Limit | None:
        said = ",".join(f"({key}={value})" for key, value in one.entries)
        self._log.debug(f"got descriptor: {said}")
        limit = config.limit(domain, one)
        if limit is None:
            self._log.debug("descriptor does not match any limit, no limits applied")
        elif limit.unlimited:
            self._log.debug("descriptor is unlimited, not passing to the cache")
        else:
            shadow = str(limit.shadow).lower()
            self._log.debug(f"applying limit: {limit.requests} requests per {limit.unit_name}, shadow_mode: {shadow}")
        return limit

    def _statuses(self, asked: Asked, limits: list[Limit | None]) -> list[Status]:
        self._log.debug("starting cache lookup")
        now = int(self._now())
        counted = [self._counted(asked, one, limit, now) for one, limit in zip(asked.descriptors, limits, strict=True)]
        commands: list[list[str | int]] = []
        for one in counted:
            if one is not None and one.limit.unit is not None:
                self._log.debug(f"looking up cache key: {one.key}")
                kept = one.limit.unit.seconds + self._jitter()
                commands += [["INCRBY", one.key, one.hits], ["EXPIRE", one.key, kept]]
        replies = iter(self._store.ask(commands)[::2] if commands else ())
        made = []
        for one, limit in zip(counted, limits, strict=True):
            if one is not None:
                made.append(self._status(one, next(replies), now))
            else:
                made.append(Status(OK, remaining=MOST_UINT32 if limit is not None and limit.unlimited else 0))
        return made

    def _jitter(self) -> int:
        # So that not all keys of a window go at once.
        most = self._settings.number("EXPIRATION_JITTER_MAX_SECONDS")
        return random.randrange(most) if most > 0 else 0

    def _counted(self, asked: Asked, one: Descriptor, limit: Limit | None, now: int) -> _Counted | None:
        if limit is None or limit.unlimited:
            return None
        if limit.unit is None:
            raise RefusedError("should not get here")
        hits = one.hits if one.hits is not None else max(1, asked.hits)
        window = now // limit.unit.seconds * limit.unit.seconds
        entries = "".join(f"{key}_{value}_" for key, value in one.entries)
        self._count(f"rate_limit.{limit.key}.total_hits", max(0, hits))
        return _Counted(limit, f"{self._settings.text('CACHE_KEY_PREFIX')}{asked.domain}_{entries}{window}", hits)

    def _status(self, one: _Counted, reply: Reply, now: int) -> Status:
        if not isinstance(reply, int) or one.limit.unit is None:
            raise StoreError(f"cannot count with the reply {reply!r}")
        limit, after, before = one.limit, reply, reply - one.hits
        self._log.debug(f"cache key: {one.key} current: {after}")
        current = limit.requests, one.limit.unit, limit.name
        reset = one.limit.unit.seconds - now % one.limit.unit.seconds
        near = int(limit.requests * self._settings.ratio("NEAR_LIMIT_RATIO"))
        if after <= limit.requests:
            self._count(f"rate_limit.{limit.key}.within_limit", max(0, one.hits))
            self._count(f"rate_limit.{limit.key}.near_limit", max(0, after - max(near, before)))
            return Status(OK, current, limit.requests - max(0, after), reset)
        # Of the hits of one request some may have been within the limit, and some of these near it.
        over = after - max(limit.requests, before)
        self._count(f"rate_limit.{limit.key}.over_limit", over)
        self._count(f"rate_limit.{limit.key}.near_limit", max(0, limit.requests - max(near, before)))
        if limit.shadow:
            self._log.debug(f"Limit with key {limit.key}, is in shadow_mode")
            self._count(f"rate_limit.{limit.key}.shadow_mode", over)
        return Status(OK if limit.shadow else OVER_LIMIT, current, 0, reset)

    def _headers(self, statuses: list[Status]) -> tuple[tuple[str, str], ...]:
        """Three headers about the limit that is nearest, where the program is asked for them."""
        if not self._settings.flag("LIMIT_RESPONSE_HEADERS_ENABLED"):
            return ()
        limited = [one for one in statuses if one.limit is not None]
        over = [one for one in limited if one.code == OVER_LIMIT]
        nearest = over[-1] if over else min(limited, key=lambda one: one.remaining, default=None)
        if nearest is None or nearest.limit is None:
            return ()
        values = (("LIMIT", nearest.limit[0]), ("REMAINING", nearest.remaining), ("RESET", nearest.reset))
        return tuple((self._settings.text(f"LIMIT_{name}_HEADER"), str(value)) for name, value in values)

    def _count(self, name: str, number: int) -> None:
        with self._lock:
            self._counts[name] += number
