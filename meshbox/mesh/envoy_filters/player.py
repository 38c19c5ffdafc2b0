# SPDX-License-Identifier: Apache-2.0
"""Plays EnvoyFilters: what each selected proxy is told is patched, once Envoy has said that it takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from meshbox import failures
from meshbox.contracts import Objects, View
from meshbox.mesh.envoy import Json, encode, typed
from meshbox.mesh.envoy_filters.listeners import added_listeners, patched_listener
from meshbox.mesh.envoy_filters.patches import Patch, chosen, fits_proxy, patches
from meshbox.mesh.envoy_filters.routes import added_clusters, patched_cluster, patched_table
from meshbox.mesh.envoy_filters.site import Site
from meshbox.mesh.envoy_filters.trials import Candidate, Trials
from meshbox.mesh.kinds import ENVOY_FILTERS
from meshbox.mesh.memo import Identity
from meshbox.mesh.model import Workload
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import Config

__all__ = ["EnvoyFilters", "Made", "patched"]

_Name = tuple[str, str]
_IN_LISTENERS = {"LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"}
_IN_TABLES = {"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"}


class Made(NamedTuple):
    """What patches make of a proxy's configuration.

    Args:
        config: All the proxy is told.
        candidate: What of it was patched.
        hits: The patches that found what they ask for: namespace and name of their object, and their place in it.
    """

    config: Config
    candidate: Candidate
    hits: frozenset[tuple[_Name, int]]


def _owner(obj: View) -> _Name:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def patched(snapshot: Snapshot, workload: Workload, site: Site, config: Config, filters: list[View]) -> Made:
    """What `filters`, in this order, make of a proxy's configuration."""
    owners: list[_Name] = []
    given: list[Patch] = []
    for obj in filters:
        for patch in patches(obj, legacy=snapshot.legacy):
            if fits_proxy(patch, snapshot, workload):
                given.append(patch)
                owners.append(_owner(obj))
    by_patch = {id(patch): owner for patch, owner in zip(given, owners, strict=True)}
    hits: set[tuple[_Name, int]] = set()

    def hit(patch: Patch) -> None:
        hits.add((by_patch[id(patch)], patch.index))

    def meant(places: set[str]) -> list[Patch]:
        return [patch for patch in given if patch.place in places]

    listeners, tables, clusters = dict(config.listeners), dict(config.routes), dict(config.clusters)
    tried: dict[str, list[Json]] = {"listeners": [], "tables": [], "clusters": []}
    extensions = {
        str(one.value.get("name")): one.value.get("typed_config") or {} for one in meant({"EXTENSION_CONFIG"})
    }
    for one in meant({"EXTENSION_CONFIG"}):
        hit(one)

    def put(kind: str, found: dict[str, bytes], name: str, before: Json, after: Json | None) -> None:
        if after is before:
            return
        if after is None:
            found.pop(name)
            return
        found[name] = encode(after)
        tried[kind].append(after)

    inside = meant(_IN_LISTENERS)
    for name, body in config.listeners.items() if inside else ():
        read: Json = msgspec.json.decode(body)
        after = patched_listener(read, inside, site, extensions, hit)
        put("listeners", listeners, name, read, None if after is None else read if after == read else after)
    for name, made in added_listeners(inside, site, hit).items():
        put("listeners", listeners, name, {}, typed("envoy.config.listener.v3.Listener", **made))
    routing = meant(_IN_TABLES)
    for name, body in config.routes.items() if routing else ():
        read = msgspec.json.decode(body)
        table = patched_table(read, routing, site, hit)
        put("tables", tables, name, read, read if table == read else table)
    of_clusters = meant({"CLUSTER"})
    for name, body in config.clusters.items() if of_clusters else ():
        read = msgspec.json.decode(body)
        put("clusters", clusters, name, read, patched_cluster(name, read, of_clusters, site, hit))
    for name, made in added_clusters(of_clusters, site, hit).items():
        put("clusters", clusters, name, {}, typed("envoy.config.cluster.v3.Cluster", **made))
    candidate = Candidate(
        tuple(tried["listeners"]),
        tuple(tried["clusters"]),
        tuple(tried["tables"]),
        tuple(clusters),
    )
    told = replace(config, clusters=clusters, listeners=listeners, routes=tables)
    return Made(told, candidate, frozenset(hits))


class _Played(Struct):
    """What was last made for one proxy, and of what."""

    config: Config
    filters: Identity
    site: Site
    made: Made


class _Told(Struct):
    """What has been said of one version of an EnvoyFilter."""

    obj: View
    words: set[str] = field(default_factory=set)


class EnvoyFilters:
    """Plays EnvoyFilters for all proxies.

    Args:
        objects: The cluster's objects, on which events are recorded.
        component: Who records them.
        again: Called when a proxy that had to wait can be told.
        failed: Told of what nobody foresaw.
    """

    def __init__(
        self,
        objects: Objects,
        component: str,
        again: Callable[[], None],
        failed: failures.Tell,
        trials: Trials | None = None,
    ) -> None:
        self._objects = objects
        self._component = component
        self._trials = trials or Trials(again, failed)
        self._played: dict[_Name, _Played] = {}
        self._refused: dict[_Name, list[View]] = {}
        self._accepted: dict[_Name, dict[_Name, View]] = {}
        self._told: dict[_Name, _Told] = {}
        self._waiting = False

    def stop(self) -> None:
        """End."""
        self._trials.stop()

    def play(self, snapshot: Snapshot, key: _Name, config: Config) -> Config | None:
        """What the proxy of pod `key` is told; None while it is not known what Envoy says of it.

        Args:
            snapshot: All objects.
            key: Namespace and name of its pod.
            config: What it would be told without EnvoyFilters.
        """
        workload = snapshot.workloads[key]
        refused = self._refused.get(key, [])
        filters = [one for one in chosen(snapshot, workload) if not any(one is other for other in refused)]
        if not filters:
            self._played.pop(key, None)
            self._accepted.pop(key, None)
            return config
        site, same = Site.of(snapshot, workload, filters), Identity(filters)
        before = self._played.get(key)
        if before is not None and before.config is config and before.filters == same and before.site == site:
            return before.made.config

        def make(some: list[View]) -> tuple[Made, str | None]:
            try:
                made = patched(snapshot, workload, site, config, some)
            except (AttributeError, KeyError, TypeError, ValueError):
                return Made(
                    config, Candidate(), frozenset()
                ), "its patches are not of the form that Envoy's fields have"
            return made, self._trials.verdict(made.candidate)

        made, verdict = make(filters)
        kept = filters
        found: list[tuple[View, str, bool]] = []
        if verdict:
            made, verdict, kept = Made(config, Candidate(), frozenset()), "", []
            for newest in filters:
                used = newest
                attempt, verdict = make([*kept, newest])
                if verdict:
                    reason, older = verdict, self._accepted.get(key, {}).get(_owner(newest))
                    if older is not None and older is not newest:
                        # As a proxy does that refuses something: it keeps what it took before.
                        used = older
                        attempt, verdict = make([*kept, older])
                    found.append((newest, reason, verdict == ""))
                if verdict is None:
                    break
                if not verdict:
                    kept.append(used)
                    made = attempt
        if verdict is None:
            self._waiting = True
            return None
        self._accepted[key] = {_owner(one): one for one in kept}
        for one, reason, instead in found:
            goes_on = "with the version before" if instead else "without it"
            words = f"Envoy refuses what it makes of {key[0]}/{key[1]}'s proxy, which goes on {goes_on}"
            self._tell(one, f"{words} until it is changed: {reason}", reason)
        if before is not None and before.made.config == made.config:
            # The very same, so that nothing is told anew.
            made = made._replace(config=before.made.config)
        self._played[key] = _Played(config, same, site, made)
        return made.config

    def refused(self, snapshot: Snapshot, key: _Name, kind: str) -> bool:
        """A proxy refuses a kind of resource all the same. Whether it is to be told something else now.

        It goes on with the listeners and routes that it had. But whoever has not the clusters that it should have gets
        no routes to them either: so it is told of clusters without the filters that changed some.

        Args:
            snapshot: All objects.
            key: Namespace and name of its pod.
            kind: What it refused: "listeners", "clusters", "routes".
        """
        played, workload = self._played.get(key), snapshot.workloads.get(key)
        if played is None or workload is None:
            return False
        tried = played.made.candidate
        if not {"listeners": tried.listeners, "clusters": tried.clusters, "routes": tried.tables}.get(kind):
            return False
        at_fault = [one for one in chosen(snapshot, workload) if any(o == _owner(one) for o, _ in played.made.hits)]
        without = kind == "clusters"
        if without:
            self._refused.setdefault(key, []).extend(at_fault)
        for one in at_fault:
            words = f"the proxy of {key[0]}/{key[1]} refuses {kind}, some of which this changes, and goes on "
            words += "without it until it is changed" if without else "with what it had"
            self._tell(one, f"{words}; its log (-c istio-proxy) says why", f"{kind} {key}")
        return without and bool(at_fault)

    def finish(self, snapshot: Snapshot) -> None:
        """All proxies were played: say of each EnvoyFilter what of it is nowhere."""
        for key in {*self._played, *self._refused, *self._accepted} - set(snapshot.workloads):
            for table in (self._played, self._refused, self._accepted):
                table.pop(key, None)
        waiting, self._waiting = self._waiting, False
        objects = snapshot.all(ENVOY_FILTERS)
        known = {_owner(obj) for obj in objects}
        self._told = {owner: told for owner, told in self._told.items() if owner in known}
        if waiting or not objects:
            return
        hits = frozenset[tuple[_Name, int]]().union(*(played.made.hits for played in self._played.values()))
        selected: set[int] = set()
        starting: set[int] = set()
        for key, workload in snapshot.workloads.items():
            if workload.proxy:
                mine = {id(obj) for obj in chosen(snapshot, workload)}
                selected |= mine
                starting |= mine if key not in self._played else set()
        for obj in objects:
            if id(obj) not in starting:
                self._say_where_nothing(obj, hits, legacy=snapshot.legacy, selected=id(obj) in selected)

    def _say_where_nothing(
        self, obj: View, hits: frozenset[tuple[_Name, int]], *, legacy: bool, selected: bool
    ) -> None:
        told = self._told.get(_owner(obj))
        if told is not None and told.obj is obj and any(word.startswith("refused ") for word in told.words):
            return
        given = patches(obj, legacy=legacy)
        if not selected:
            if given:
                self._tell(obj, "it selects no proxy that runs now, so it has no effect", "nobody", bad=False)
            return
        for patch in given:
            if (_owner(obj), patch.index) not in hits:
                where = f"{'filters' if legacy else 'configPatches'}[{patch.index}]"
                words = f"{where} ({patch.operation} {patch.place}) finds nothing in the proxies that it selects"
                self._tell(obj, f"{words}, so it has no effect{patch.hint}", where, bad=False)

    def _tell(self, obj: View, message: str, about: str, *, bad: bool = True) -> None:
        """Record a Warning, once for each version of the object and each reason."""
        told = self._told.get(_owner(obj))
        if told is None or told.obj is not obj:
            told = self._told[_owner(obj)] = _Told(obj)
        word = f"refused {about}" if bad else about
        if word not in told.words:
            told.words.add(word)
            self._objects.event(obj, "Warning", "ConfigRejected" if bad else "NoEffect", message, self._component)
