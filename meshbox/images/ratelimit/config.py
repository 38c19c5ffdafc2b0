# SPDX-License-Identifier: Apache-2.0
"""Limits by domain and descriptor: loaded from files, and looked up as requests ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from meshbox.images.ratelimit.documents import ConfigError, Document, read
from meshbox.images.ratelimit.messages import UNITS, Descriptor, Unit

__all__ = ["Config", "ConfigError", "Limit"]

_DESCRIPTOR, _LIMIT, _REPLACES = "config.YamlDescriptor", "config.YamlRateLimit", "config.yamlReplaces"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Limit:
    """A limit.

    Args:
        key: Its full name, under which statistics are kept.
        requests: How many there may be in a unit.
        unit: Of time; None where it is unlimited, or Envoy gave one that is none.
        unlimited: Whether nothing is counted.
        shadow: Whether what is over the limit is let through all the same.
        name: What another's `replaces` may name.
        replaces: The names of limits that do not count where this one does.
        detailed: Whether statistics tell the values of a request apart.
    """

    key: str
    requests: int = 0
    unit: Unit | None = None
    unlimited: bool = False
    shadow: bool = False
    name: str = ""
    replaces: tuple[str, ...] = ()
    detailed: bool = False

    @property
    def unit_name(self) -> str:
        """The unit's name."""
        return self.unit.name if self.unit is not None else "UNKNOWN"


@dataclass
class _Level:
    """What stands below a descriptor, or at the top of a domain."""

    limit: Limit | None = None
    below: dict[str, _Level] = field(default_factory=dict)

    def find(self, key: str, value: str, say: Say) -> tuple[str, _Level | None]:
        """The most specific of those below that mean this pair: itself, the first whose "*" fits, its key alone."""
        whole = f"{key}_{value}"
        say(f"looking up key: {whole}")
        if whole in self.below:
            return whole, self.below[whole]
        for pattern, level in self.below.items():
            if pattern.endswith("*") and whole.startswith(pattern[:-1]):
                return whole, level
        say(f"looking up key: {key}")
        return key, self.below.get(key)

    def limits(self) -> Iterator[Limit]:
        """All limits, from this level down."""
        if self.limit is not None:
            yield self.limit
        for level in self.below.values():
            yield from level.limits()


class Config:
    """The limits of some files.

    Args:
        files: Names and contents.
        merge: Whether several files may have the same domain.
        say: Told what is loaded.

    Raises:
        ConfigError: they are refused.
    """

    def __init__(self, files: Iterable[tuple[str, str]], *, merge: bool = False, say: Say = lambda _: None) -> None:
        self._say = say
        self._domains: dict[str, _Level] = {}
        roots = []
        for name, text in files:
            document = read(name, text)
            roots.append((document, document.member("domain").text(), _described(document)))
            document.finish()
        for document, domain, descriptors in roots:
            if not domain:
                raise document.error("config file cannot have empty domain")
            if domain in self._domains and not merge:
                raise document.error(f"duplicate domain '{domain}' in config file")
            say(f"{'patching' if domain in self._domains else 'loading'} domain: {domain}")
            self._load(document, self._domains.setdefault(domain, _Level()), f"{domain}.", descriptors)

    def _load(self, document: Document, into: _Level, parent: str, descriptors: list[_Described]) -> None:
        for one in descriptors:
            if not one.key:
                raise document.error("descriptor has empty key")
            final = f"{one.key}_{one.value}" if one.value else one.key
            if final in into.below:
                raise document.error(f"duplicate descriptor composite key '{parent}{final}'")
            limit = one.limit(document, parent + final)
            about = ""
            if limit is not None:
                flags = f"unlimited={_go(limit.unlimited)}, shadow_mode={_go(limit.shadow)}"
                about = f" ratelimit={{requests_per_unit={limit.requests}, unit={limit.unit_name}, {flags}}}"
            self._say(f"loading descriptor: key={parent}{final}{about}")
            into.below[final] = _Level(limit)
            self._load(document, into.below[final], f"{parent}{final}.", one.below)

    @property
    def empty(self) -> bool:
        """Whether there is no domain."""
        return not self._domains

    def limits(self) -> Iterator[Limit]:
        """All limits."""
        for domain in self._domains.values():
            yield from domain.limits()

    def dump(self) -> str:
        """All limits, a line each."""
        return "".join(
            f"{one.key}: unit={one.unit_name} requests_per_unit={one.requests}, shadow_mode: {_go(one.shadow)}\n"
            for one in self.limits()
        )

    def limit(self, domain: str, asked: Descriptor) -> Limit | None:
        """The limit of a descriptor; None where it has none.

        It has to be as deep as the configuration: what has more entries, or fewer, than the levels of a limit is not
        limited by it.
        """
        self._say("starting get limit lookup")
        level = self._domains.get(domain)
        if level is None:
            self._say(f"unknown domain '{domain}'")
            return None
        if asked.limit is not None:
            requests, unit = asked.limit
            key = ".".join(f"{key}_{value}" if value else key for key, value in asked.entries)
            return Limit(f"{domain}.{key}", requests, UNITS.get(unit))
        found: Limit | None = None
        for index, (key, value) in enumerate(asked.entries):
            final, following = level.find(key, value, self._say)
            if following is None:
                break
            if following.limit is not None:
                self._say(f"found rate limit: {final}")
                if index == len(asked.entries) - 1:
                    found = following.limit
                else:
                    more = "there are more entries in the request's descriptor"
                    self._say(f"request depth does not match config depth, {more}")
            if not following.below:
                break
            self._say("iterating to next level")
            level = following
        if found is not None and found.detailed:
            key = ".".join(f"{key}_{value}" for key, value in asked.entries)
            return replace(found, key=f"{domain}.{key}")
        return found


def _go(value: bool) -> str:
    return "true" if value else "false"


@dataclass(frozen=True)
class _Described:
    """A descriptor of a file, as it is written."""

    key: str
    value: str
    limited: bool
    limit_name: str
    unit: str
    requests: int
    unlimited: bool
    shadow: bool
    detailed: bool
    replaces: tuple[str, ...]
    below: list[_Described]

    def limit(self, document: Document, key: str) -> Limit | None:
        """Its limit; None where it has no block of that name."""
        if not self.limited:
            return None
        unit = UNITS.get(self.unit.upper())
        if self.unlimited and unit is not None:
            raise document.error("should not specify rate limit unit when unlimited")
        if not self.unlimited and unit is None:
            raise document.error(f"invalid rate limit unit '{self.unit}'")
        for name in self.replaces:
            if not name:
                raise document.error("should not have an empty replaces entry")
            if name == self.limit_name:
                raise document.error("replaces should not contain name of same descriptor")
        return Limit(
            key, self.requests, unit, self.unlimited, self.shadow, self.limit_name, self.replaces, self.detailed
        )


def _described(parent: Document) -> list[_Described]:
    made = []
    for one in parent.member("descriptors").items(_DESCRIPTOR):
        block = one.member("rate_limit").block(_LIMIT)
        made.append(
            _Described(
                key=one.member("key").text(),
                value=one.member("value").text(),
                limited=block.given,
                limit_name=block.member("name").text(),
                unit=block.member("unit").text(),
                requests=block.member("requests_per_unit").number(),
                unlimited=block.member("unlimited").flag(),
                shadow=one.member("shadow_mode").flag(),
                detailed=one.member("detailed_metric").flag(),
                replaces=tuple(item.member("name").text() for item in block.member("replaces").items(_REPLACES)),
                below=_described(one),
            )
        )
    return made
