# SPDX-License-Identifier: Apache-2.0
"""Requests that nobody should send: genuine manifests and requests with something wrong in them, from a seed."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.mutations_data import (
    METADATA,
    METHODS,
    NUMBERS,
    ODD_HEADERS,
    ODD_PATHS,
    ODD_QUERIES,
    PATCHES,
    SUBRESOURCES,
    TEXTS,
    bombs,
)

OWN = Path(__file__).resolve().parent.parent / "labkit" / "istio" / "manifests"


@dataclass
class Case:
    """One request."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path[:200]} {self.headers} {(self.body or b'')[:300]!r}"


def manifests(*folders: Path) -> list[dict[str, Any]]:
    """Every object in the YAML files below `folders`."""
    found = []
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            documents = yaml.load_all(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            found += [one for one in documents if isinstance(one, dict) and "kind" in one and "metadata" in one]
    return found


class Mutator:
    """Makes cases.

    Args:
        seed: The same seed makes the same cases.
        objects: What is mutated.
        plurals: apiVersion and kind → plural, and whether it is namespaced.
        namespace: Where everything is sent.
    """

    def __init__(
        self,
        seed: int,
        objects: list[dict[str, Any]],
        plurals: dict[tuple[str, str], tuple[str, bool]],
        namespace: str = "fuzz",
    ) -> None:
        self.random = random.Random(seed)
        self.namespace = namespace
        self.plurals = plurals
        self.objects = [one for one in objects if (one.get("apiVersion"), one["kind"]) in plurals]
        # Small ones are as many as large ones: what is long is seldom new.
        self.kinds = sorted({(one["apiVersion"], one["kind"]) for one in self.objects})
        assert self.objects

    def cases(self, count: int) -> Iterator[Case]:
        """So many."""
        makers = [
            self.created,
            self.created,
            self.created,
            self.patched,
            self.patched,
            self.replaced,
            self.encoded,
            self.asked,
        ]
        makers += [self.deleted, self.bomb]
        for _ in range(count):
            case = self.random.choice(makers)()
            if self.random.random() < 0.1:
                case.headers |= self.random.choice(ODD_HEADERS)
            if self.random.random() < 0.1:
                case.path += ("&" if "?" in case.path else "?") + self.random.choice(ODD_QUERIES)
            if self.random.random() < 0.03:
                case.method = self.random.choice(METHODS)
            yield case

    # --- what is sent

    def original(self) -> dict[str, Any]:
        kind = self.random.choice(self.kinds)
        chosen = self.random.choice([one for one in self.objects if (one["apiVersion"], one["kind"]) == kind])
        obj = copy.deepcopy(chosen)
        obj["metadata"]["namespace"] = self.namespace
        if not self.plurals[kind][1]:
            obj["metadata"].pop("namespace")
        return obj

    def path(self, obj: dict[str, Any], *, named: bool = False) -> str:
        version, (plural, namespaced) = obj["apiVersion"], self.plurals[obj["apiVersion"], obj["kind"]]
        start = f"/apis/{version}" if "/" in version else f"/api/{version}"
        scope = f"/namespaces/{self.namespace}" if namespaced else ""
        name = str(obj["metadata"].get("name") or "x").replace("/", "%2F") if isinstance(obj["metadata"], dict) else "x"
        return f"{start}{scope}/{plural}" + (f"/{name}" if named else "")

    def created(self) -> Case:
        obj = self.original()
        path = self.path(obj)
        return Case("POST", path, self.written(self.mutated(obj)), {"Content-Type": "application/json"})

    def replaced(self) -> Case:
        obj = self.original()
        path = self.path(obj, named=True)
        if self.random.random() < 0.3:
            path += "/" + self.random.choice(SUBRESOURCES)
        return Case("PUT", path, self.written(self.mutated(obj)), {"Content-Type": "application/json"})

    def patched(self) -> Case:
        obj = self.original()
        path, kind = self.path(obj, named=True), self.random.choice(PATCHES)
        if self.random.random() < 0.2:
            path += "/" + self.random.choice(SUBRESOURCES)
        patch: Any = self.mutated(obj)
        if kind.startswith("application/json-patch"):
            patch = self.operations(obj)
        elif self.random.random() < 0.4:
            self.directive(patch)
        if kind.endswith("yaml"):
            path += f"?fieldManager=x&force={self.random.choice(['true', 'false'])}"
        return Case("PATCH", path, self.written(patch), {"Content-Type": kind})

    def operations(self, obj: dict[str, Any]) -> Any:
        operations = []
        for _ in range(self.random.randint(1, 3)):
            where = self.random.choice(list(places(obj)) or [()])
            pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in where)
            pointer += self.random.choice(["", "", "/-", "/0", "/x", "~", "//", "/99999999999999999999", "/²", "/-1"])
            verb = self.random.choice(["add", "remove", "replace", "move", "copy", "test", "x", None, 5])
            one = {
                "op": verb,
                "path": pointer,
                "from": self.random.choice([pointer, "", "/metadata", 7]),
                "value": self.value(),
            }
            for name in list(one):
                if self.random.random() < 0.1:
                    one.pop(name)
            operations.append(one)
        return self.random.choice(
            [operations, operations, operations * 4000, [*operations, 5], {}, None, operations[0]]
        )

    def directive(self, patch: Any) -> None:
        maps = [patch, *(inner for inner in walk(patch) if isinstance(inner, dict))]
        chosen = self.random.choice([one for one in maps if isinstance(one, dict)] or [{}])
        name = self.random.choice(
            [
                "$patch",
                "$retainKeys",
                "$setElementOrder/containers",
                "$deleteFromPrimitiveList/finalizers",
                "$setElementOrder/ports",
                "$x",
            ]
        )
        chosen[name] = self.random.choice(
            ["replace", "delete", "merge", "x", None, [], ["a"], [{"name": "a"}], [None], {}, 5, self.value()]
        )

    def deleted(self) -> Case:
        path = self.path(self.original(), named=self.random.random() < 0.8)
        options = self.mutated(
            {
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "metadata": {},
                "preconditions": {"uid": "x"},
                "propagationPolicy": "Background",
                "gracePeriodSeconds": 0,
                "dryRun": [],
            }
        )
        return Case("DELETE", path, self.written(options), {"Content-Type": "application/json"})

    def asked(self) -> Case:
        chance = self.random.random()
        if chance < 0.3:
            return Case(self.random.choice(METHODS), self.random.choice(ODD_PATHS))
        path = self.path(self.original(), named=chance < 0.6)
        if self.random.random() < 0.3:
            path += "/" + self.random.choice(SUBRESOURCES)
        return Case("GET", path + "?" + self.random.choice(ODD_QUERIES))

    def encoded(self) -> Case:
        """Sound or not, written so that it cannot be read, or only just."""
        obj = self.original()
        path, text = self.path(obj), json.dumps(obj).encode()
        at = self.random.randrange(len(text))
        odd = bytes(self.random.randrange(256) for _ in range(self.random.randint(1, 8)))
        forms: list[tuple[bytes, str]] = [
            (text[:at], "application/json"),
            (text[:at] + odd + text[at:], "application/json"),
            (text[:at] + odd + text[at + len(odd) :], "application/yaml"),
            (gzip.compress(text), "application/json"),
            (text.decode().encode("utf-16"), "application/json"),
            (b"\xef\xbb\xbf" + text, "application/json"),
            (
                yaml.safe_dump(self.mutated(copy.deepcopy(obj)), allow_unicode=True).encode(errors="replace"),
                "application/yaml",
            ),
            (b"k8s\0" + odd * 50, "application/vnd.kubernetes.protobuf"),
            (b"k8s\0" + self.protobuf(obj), "application/vnd.kubernetes.protobuf"),
            (
                text,
                self.random.choice(
                    ["text/plain", "application/cbor", "application/x-www-form-urlencoded", "x", *PATCHES]
                ),
            ),
            (b"", "application/json"),
            (text * 2, "application/json"),
        ]
        body, kind = self.random.choice(forms)
        return Case("POST", path, body, {"Content-Type": kind})

    def protobuf(self, obj: dict[str, Any]) -> bytes:
        """An envelope that is right, around fields that need not be."""

        def item(number: int, content: bytes) -> bytes:
            return varint(number << 3 | 2) + varint(len(content)) + content

        kind = item(1, obj["apiVersion"].encode()) + item(2, obj["kind"].encode())
        inner = item(1, item(1, b"x") + item(3, self.namespace.encode()))
        for _ in range(self.random.randint(0, 6)):
            number, wire = self.random.randint(0, 20), self.random.randint(0, 7)
            content = bytes(self.random.randrange(256) for _ in range(self.random.randint(0, 20)))
            inner += (
                varint(number << 3 | wire)
                + (varint(len(content)) if self.random.random() < 0.8 else b"\xff" * 9)
                + content
            )
        if self.random.random() < 0.2:
            deep = b""
            for _ in range(self.random.choice([50, 3000])):
                deep = item(2, deep)
            inner += deep
        return item(1, kind) + item(2, inner)

    def bomb(self) -> Case:
        """What unfolds, nests or repeats."""
        obj = self.original()
        kind = "application/yaml" if self.random.random() < 0.5 else "application/json"
        many = self.random.choice([1000, 40_000, 200_000])
        body = self.random.choice(bombs(many))
        if self.random.random() < 0.3:
            # In a place where text is read later on.
            name = self.random.choice(["istio", "istio-sidecar-injector", "grafana", "kiali", "x"])
            data = dict.fromkeys(("mesh", "config", "values", "meshNetworks", "config.yaml", "x.json"), body)
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
            return Case(
                "POST",
                "/api/v1/namespaces/" + self.namespace + "/configmaps",
                self.written(made),
                {"Content-Type": "application/json"},
            )
        if self.random.random() < 0.3:
            key = self.random.choice(
                [
                    "kubectl.kubernetes.io/last-applied-configuration",
                    "proxy.istio.io/config",
                    "autoscaling.alpha.kubernetes.io/metrics",
                    "sidecar.istio.io/userVolume",
                    "sidecar.istio.io/status",
                ]
            )
            obj["metadata"]["annotations"] = {key: body}
            patch = self.random.random() < 0.5
            return Case(
                "PATCH" if patch else "POST",
                self.path(obj, named=patch) + ("?fieldManager=y" if patch else ""),
                self.written(obj),
                {"Content-Type": PATCHES[3] if patch else "application/json"},
            )
        return Case("POST", self.path(obj), body.encode(), {"Content-Type": kind})

    # --- how it is damaged

    def written(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def mutated(self, obj: Any) -> Any:
        for _ in range(self.random.choice([0, 1, 1, 2, 3, 5])):
            obj = self.once(obj)
        return obj

    def once(self, obj: Any) -> Any:
        everywhere = [place for place in places(obj) if place]
        if not everywhere:
            return self.value()
        path = self.random.choice(everywhere)
        holder, key = inside(obj, path[:-1]), path[-1]
        move = self.random.randrange(9)
        if move <= 3:
            holder[key] = self.value()
        elif move == 4:
            del holder[key]
        elif move == 5 and isinstance(holder, dict):
            holder[self.random.choice(TEXTS)[:1000]] = holder.pop(key)
        elif move == 6 and isinstance(holder, list):
            holder.extend(copy.deepcopy(holder[key]) for _ in range(self.random.choice([1, 2, 300])))
        elif move == 7:
            holder[key] = copy.deepcopy(inside(obj, self.random.choice(everywhere)))
        elif isinstance(obj.get("metadata") if isinstance(obj, dict) else None, dict):
            obj["metadata"] |= self.metadata()
        else:
            holder[key] = [holder[key]]
        return obj

    def value(self) -> Any:
        nested: Any = self.random.choice([None, "x", {}])
        for _ in range(self.random.choice([1, 2, 150])):
            nested = [nested] if self.random.random() < 0.5 else {"a": nested}
        simple = [None, True, False, [], {}, [None], [[]], {"": None}, {"a": {"b": []}}, ["a"] * 500]
        choices = (TEXTS, NUMBERS, simple, [nested])
        return copy.deepcopy(self.random.choice(self.random.choice(choices)))

    def metadata(self) -> dict[str, Any]:
        return copy.deepcopy(self.random.choice(METADATA))


def varint(number: int) -> bytes:
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if len(path) < 60:
            yield from places(inner, (*path, key))


def walk(value: Any) -> Iterator[Any]:
    for path in places(value):
        if path:
            yield inside(value, path)


def inside(value: Any, path: tuple[Any, ...]) -> Any:
    """What is at `path`."""
    for step in path:
        value = value[step]
    return value
