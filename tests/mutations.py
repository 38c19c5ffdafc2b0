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

OWN = Path(__file__).resolve().parent.parent / "labkit" / "istio" / "manifests"

PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
TEXTS = [
    "", " ", "a" * 300, "x" * 100_000, "\0", "\x7f", "\u202e\u2066", "𝕏ß", "\U0001f600", "../../etc/passwd", "a/b/c", "*", "-1",
    "{{.}}", "$(VAR)", "$((((", "(a+)+$", "[" * 2000, "a" * 30 + "!", "1Ki", "1e999", "9" * 400, "0x10", "2026-13-45T99:99:99Z",
    "10.0.0.999", "::1", "true", "null", "${{<%[%'\"}}%\\", "a\nb: [c", "%s%n%d", "'; DROP TABLE pods; --", "MON", "1:1:1",
]  # fmt: skip
NUMBERS = [0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 0.5, 1e300, -0.0, 65536]
ODD_QUERIES = [
    "limit=1", "limit=-1", "limit=99999999999999999999999", "limit=x", "continue=x", "continue=bnVsbA", "continue=W10",
    "continue=" + "W1tb" * 500, "labelSelector=a%3Db", "labelSelector=((", "labelSelector=a+in+(" + "b," * 400 + "c)",
    "labelSelector=" + "(" * 3000, "labelSelector=a%3E99999999999999999999", "labelSelector=a%3E%C2%B2", "labelSelector=%00",
    "labelSelector=" + "!" * 3000, "labelSelector=a" + "+" * 4000, "fieldSelector=a", "fieldSelector=metadata.name%3D%00",
    "fieldSelector=" + "+" * 4000, "fieldSelector=spec.x%3D1", "fieldSelector=%2C%2C", "resourceVersion=x", "resourceVersion=-1",
    "resourceVersion=99999999999999999999", "resourceVersion=%C2%B2", "resourceVersionMatch=Exact",
    "resourceVersionMatch=NotOlderThan&resourceVersion=1", "pretty=true", "timeoutSeconds=x", "dryRun=All", "dryRun=Some",
    "dryRun=All&dryRun=All", "fieldManager=" + "m" * 200, "fieldManager=%00", "fieldValidation=Strict", "fieldValidation=x",
    "propagationPolicy=x", "propagationPolicy=Orphan", "gracePeriodSeconds=-1", "gracePeriodSeconds=x", "orphanDependents=true",
    "gracePeriodSeconds=99999999999999999999", "watch=true&timeoutSeconds=1&resourceVersion=x", "a=" + "b" * 4000, "=", "&&&",
    "watch=1&timeoutSeconds=-5&sendInitialEvents=true", "watch=true&timeoutSeconds=1&sendInitialEvents=maybe", "force=x",
    "watch=true&timeoutSeconds=1&allowWatchBookmarks=x&labelSelector=((", "includeObject=x", "tailLines=x", "sinceSeconds=-1",
    "watch=true&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
    "tailLines=99999999999999999999", "sinceTime=x", "limitBytes=0", "container=%00", "command=a", "ports=x", "previous=x",
]  # fmt: skip
ODD_HEADERS: list[dict[str, str]] = [
    {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"},
    {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"},
    {"Accept": "application/vnd.kubernetes.protobuf"},
    {"Accept": ";;;=,,,"},
    {"Accept": "a/b;q=x," * 200},
    {"Content-Type": ""},
    {"Content-Type": ";;="},
    {"Content-Type": "text/plain; charset=\"utf-9"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "br"},
    {"User-Agent": "\u00e9" * 300},
    {"User-Agent": ""},
    {"Impersonate-User": "nobody"},
    {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x"},
    {"Upgrade": "SPDY/3.1", "Connection": "Upgrade"},
    {"If-Match": "x", "Range": "bytes=0-", "Expect": "x"},
    {"X-Http-Method-Override": "DELETE"},
]  # fmt: skip
SUBRESOURCES = [
    "status", "scale", "eviction", "binding", "token", "log", "exec", "attach", "portforward", "proxy", "finalize", "ephemeralcontainers",
    "resize", "x", "status/status", "..", "%2e%2e", "%00", "%ff", "a" * 300, "%F0%9F%98%80",
]  # fmt: skip
ODD_PATHS = [
    "/", "//", "/api", "/api/", "/api/v1/", "/api/v2", "/apis/", "/apis/apps/v9/x", "/apis/x/y/z/w/v/u", "/api/v1/namespaces/%00/pods",
    "/api/v1/namespaces/../pods", "/api/v1/namespaces/a%2Fb/pods/c", "/openapi/v2", "/openapi/v3", "/openapi/v3/apis/x/y",
    "/metrics", "/healthz/x", "/livez/..", "/version/", "/api/v1/nodes/x/proxy/metrics", "/api/v1/nodes//proxy", "/logs", "/debug/pprof",
    "/api/v1/watch/pods", "/api/v1/proxy/x", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "/api/v1/componentstatuses",
    "/apis/authentication.k8s.io/v1/tokenreviews", "/apis/metrics.k8s.io/v1beta1/pods", "/api/v1/" + "a/" * 500, "/%" , "/api/v1/pods/%",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "get"]


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
        options = self.mutated({"apiVersion": "v1", "kind": "DeleteOptions", "metadata": {}, "preconditions": {"uid": "x"},
                                "propagationPolicy": "Background", "gracePeriodSeconds": 0, "dryRun": []})  # fmt: skip
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
        line = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
        bodies = [
            "[" * many, "{" * many, '{"a":' * many, "- " * many, "? " * many, "[" * 190 + "]" * 190, '{"a":' * 190 + "1" + "}" * 190,
            "a0: &a0 [" + "x, " * 9 + "x]\n" + line, "a: &a [*a]", "".join(f"%TAG !{n}! tag:x\n" for n in range(many)) + "--- a",
            "[" + "{}," * many + "{}]", "{" + ",".join(f'"{n // 2}": 1' for n in range(many)) + "}", "9" * many, "- 0x" + "f" * many,
            '"' + '\\"' * many, "a: |\n" + " x\n" * many, "!!python/object/apply:os.system [x]", "---\n" * many, "a: " + "1:" * many + "1",
            "<<: " * 3000, "- &a b\n" + "- *a\n" * many, "é" * many, "a: !!binary " + "A" * many, "a: !!timestamp x", "a: !!int ''",
        ]  # fmt: skip
        body = self.random.choice(bodies)
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
                ]  # fmt: skip
            )
            obj["metadata"]["annotations"] = {key: body}
            patch = self.random.random() < 0.5
            return Case("PATCH" if patch else "POST", self.path(obj, named=patch) + ("?fieldManager=y" if patch else ""), self.written(obj),
                        {"Content-Type": PATCHES[3] if patch else "application/json"})  # fmt: skip
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
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}
        field_set = {"f:a": {}, "k:{": {}, "v:": {}, "k:[[[": {"f:b": 5}, "": None, "i:x": {}, ".": {}}
        fields = {
            "manager": "x",
            "operation": "Apply",
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": field_set,
        }
        found = self.random.choice([
            {"managedFields": [fields]}, {"managedFields": [None]}, {"managedFields": [{**fields, "fieldsV1": 5}]}, {"finalizers": ["x"]},
            {"finalizers": [5]}, {"ownerReferences": [owner, owner]}, {"ownerReferences": [{**owner, "controller": True}] * 2},
            {"resourceVersion": "x"}, {"resourceVersion": "1"}, {"uid": "x"}, {"generateName": "y" * 300, "name": ""}, {"name": "..%"},
            {"creationTimestamp": "x"}, {"deletionTimestamp": "2020-01-01T00:00:00Z"}, {"generation": -1}, {"labels": {"/": "x", "a": None}},
            {"annotations": {"x": "y" * 300_000}}, {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{"}},
            {"labels": {f"l{n}": "v" for n in range(3000)}}, {"namespace": "other"}, {"selfLink": 5}, {"deletionGracePeriodSeconds": 10**20},
        ])  # fmt: skip
        return copy.deepcopy(found)


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
