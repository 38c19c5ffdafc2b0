# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI v3 documents that kubectl reads before it applies or explains, and the one of v2 made of them.

Built-in kinds are described by their field tables, with a few words of our own; custom ones by their own schemas. Their
PATCH operations name `fieldValidation`, which kubectl looks for, but no body types: with those kubectl would compute
its strategic merge patches from these documents instead of from its own, better, tables.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from meshbox.api.builtin.types import OBJECT_META, all_kinds, enum_of, fields_of, go_name, kind_type, known_kinds
from meshbox.api.resource_table import BUILTIN
from meshbox.contracts import Obj
from meshbox.values import dumps

if TYPE_CHECKING:
    from meshbox.api.codec.fields import Field

__all__ = ["V2_CONTENT_TYPE", "document", "encoded", "index", "names", "swagger"]

V2_CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Type of the (empty) reply to /openapi/v2 for who reads no JSON: kubectl has better tables of its own."""

_GVK = "x-kubernetes-group-version-kind"

_LEAVES: dict[str, Obj] = {
    "any": {"x-kubernetes-preserve-unknown-fields": True},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "float64": {"type": "number", "format": "double"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "string": {"type": "string"},
    "IntOrString": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    "MicroTime": {"type": "string", "format": "date-time"},
    "Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "Time": {"type": "string", "format": "date-time"},
    "schemaOrArray": {"x-kubernetes-preserve-unknown-fields": True},
    "schemaOrBool": {"x-kubernetes-preserve-unknown-fields": True},
}
_PACKAGES = {
    "IntOrString": "util.intstr",
    "MicroTime": "apis.meta.v1",
    "Quantity": "api.resource",
    "Time": "apis.meta.v1",
}
_NAMED = {leaf: f"io.k8s.apimachinery.pkg.{package}.{leaf}" for leaf, package in _PACKAGES.items()}
"""Values that have a schema of their own: `kubectl explain` shows its name."""


def index(group_versions: Iterable[str], crds: Iterable[Obj] = ()) -> Obj:
    """The reply to /openapi/v3.

    Args:
        group_versions: Every group and version served, e.g. "v1", "apps/v1", "networking.istio.io/v1".
        crds: The CustomResourceDefinitions (v1) of now; the hash of a document changes with them.
    """
    known = list(crds)
    return {
        "paths": {
            name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={_hash(gv, _state(gv, known))}"}
            for name in sorted(names(group_versions, known))
            for gv in (name.partition("/")[2] or name,)
        }
    }


def names(group_versions: Iterable[str], crds: Iterable[Obj] = ()) -> set[str]:
    """The documents that `index` names, such as "apis/apps/v1"."""
    own = {crd["spec"]["group"] for crd in crds}
    found = set(_OTHERS)
    for gv in group_versions:
        found.add(f"{'apis' if '/' in gv else 'api'}/{gv}")
        if "/" in gv and gv.partition("/")[0] not in own:
            found.add(f"apis/{gv.partition('/')[0]}")
    return found


_OTHERS = (".well-known/openid-configuration", "api", "apis", "openid/v1/jwks", "version")
"""Paths that have documents of their own, though they serve no objects."""


def document(gv: str, crds: Iterable[Obj] = ()) -> Obj:
    """The reply to /openapi/v3/apis/<gv> (or /openapi/v3/api/v1); shared: never change it."""
    found: Obj = json.loads(encoded(gv, crds)[0])
    return found


def encoded(gv: str, crds: Iterable[Obj] = ()) -> tuple[bytes, str]:
    """As `document`, as JSON (cached), and the hash that `index` gives its address.

    The reply to a request with that hash may be kept for ever.
    """
    known = list(crds)
    state = _state(gv, known)
    name = _hash(gv, state)
    body = _bodies.get(gv)
    if body is None or body[0] != name:
        body = _bodies[gv] = (name, dumps(_document(gv, [crd for crd in known if _of(gv, crd)])))
    return body[1], name


_bodies: dict[str, tuple[str, bytes]] = {}


def swagger(group_versions: Iterable[str], crds: Iterable[Obj] = ()) -> bytes:
    """The reply to /openapi/v2, as JSON (the last one is kept): it takes a second, so ask for it in a thread.

    Args:
        group_versions: As for `index`.
        crds: As for `index`.
    """
    known, versions = list(crds), sorted(group_versions)
    state = hashlib.sha256("".join(_hash(gv, _state(gv, known)) for gv in versions).encode()).hexdigest()
    if "v2" not in _bodies or _bodies["v2"][0] != state:
        paths: Obj = {}
        definitions: Obj = {}
        for gv in versions:
            found = document(gv, known)
            paths |= {path: _older(item) for path, item in found["paths"].items()}
            definitions |= {name: _older(one) for name, one in found["components"]["schemas"].items()}
        info = {"title": "Kubernetes", "version": "labkit"}
        whole = {"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions}
        _bodies["v2"] = (state, dumps(whole))
    return _bodies["v2"][1]


def _older(part: Any) -> Any:
    """A part of a document in the words of OpenAPI v2, which has no media types and no references with defaults."""
    if isinstance(part, list):
        return [_older(one) for one in part]
    if not isinstance(part, dict):
        return part
    if isinstance(part.get("allOf"), list) and part.get("default", {}) == {} and "type" not in part:
        return {**{name: text for name, text in part.items() if name == "description"}, **_older(part["allOf"][0])}
    if part in (_LEAVES["IntOrString"], _LEAVES["Quantity"]):
        return {"type": "string", **({"format": part["format"]} if "format" in part else {})}
    if isinstance(part.get("$ref"), str):
        return {"$ref": part["$ref"].replace("#/components/schemas/", "#/definitions/")}
    if isinstance(part.get("content"), dict) and "application/json" in part["content"]:
        return {"description": part["description"], "schema": _older(part["content"]["application/json"]["schema"])}
    if part.get("in") == "query":
        return {"name": part["name"], "in": "query", **part["schema"]}
    return {name: _older(one) for name, one in part.items()}


def _of(gv: str, crd: Obj) -> bool:
    spec = crd["spec"]
    return any(f"{spec['group']}/{one['name']}" == gv and one.get("served") for one in spec["versions"])


def _state(gv: str, crds: list[Obj]) -> str:
    metas = [crd["metadata"] for crd in crds if _of(gv, crd)]
    return ",".join(
        sorted(f"{meta.get('name')}:{meta.get('uid', '')}:{meta.get('resourceVersion', '')}" for meta in metas)
    )


@functools.lru_cache(maxsize=256)
def _hash(gv: str, state: str) -> str:
    return hashlib.sha256(f"{_made_of()}/{gv}/{state}".encode()).hexdigest().upper()


@functools.cache
def _made_of() -> str:
    """Another one where documents may be others: clients keep them by it, also from an older labkit to a newer."""
    package = resources.files("meshbox.api")
    files = ("openapi.py", "builtin/types.py", "data/descriptions.json", "data/enums.json", "data/kinds.json")
    whole = hashlib.sha256()
    for name in (*files, "data/legacy.txt", "data/protobuf.json", "data/resources.txt", "resource_table.py"):
        whole.update(package.joinpath(name).read_bytes())
    return whole.hexdigest()


def _document(gv: str, crds: list[Obj]) -> Obj:
    group, _, version = gv.rpartition("/")
    schemas: Obj = {}
    paths: Obj = {}
    for kind in known_kinds(gv):
        name = _add(kind_type(gv, kind), schemas)
        schemas[name] = {**schemas[name], _GVK: [_gvk(group, version, kind)]}
        row = next((row for row in BUILTIN if row.kind == kind), None)
        if row is not None:
            paths.update(_paths(gv, row.plural, row.namespaced, _gvk(group, version, kind), name))
    for crd in crds:
        spec = crd["spec"]
        kind = spec["names"]["kind"]
        definition = next(one for one in spec["versions"] if one["name"] == version)
        name = ".".join([*reversed(group.split(".")), version, kind])
        schemas[name] = _custom(definition, _gvk(group, version, kind), schemas)
        namespaced = spec.get("scope") != "Cluster"
        paths.update(_paths(gv, spec["names"]["plural"], namespaced, _gvk(group, version, kind), name))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "labkit"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _gvk(group: str, version: str, kind: str) -> Obj:
    return {"group": group, "version": version, "kind": kind}


def _custom(definition: Obj, gvk: Obj, schemas: Obj) -> Obj:
    schema = (definition.get("schema") or {}).get("openAPIV3Schema") or {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    own = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": _reference(_add(OBJECT_META, schemas)),
    }
    return {**schema, "properties": {**(schema.get("properties") or {}), **own}, _GVK: [gvk]}


def _reference(name: str) -> Obj:
    return {"allOf": [{"$ref": f"#/components/schemas/{name}"}], "default": {}}


def _add(type_name: str, schemas: Obj) -> str:
    """Describe a type and all it refers to; returns its name among the schemas."""
    name = _schema_names().get(type_name) or f"io.k8s.api.{go_name(type_name)}"
    if name not in schemas:
        fields = fields_of(type_name) or {}
        described: Obj = {"type": "object", "properties": {}}
        schemas[name] = described
        told = _descriptions()
        if type_name in told:
            described["description"] = told[type_name]
        for field, written in sorted(fields.items()):
            shown = described["properties"][field] = _described(written, schemas)
            if words := enum_of(type_name, field):
                shown["enum"] = words
            if text := told.get(f"{type_name}.{field}") or ("metadata" in fields and told.get(field)):
                shown["description"] = text
        required = sorted(field for field, written in fields.items() if written.endswith("!"))
        if required:
            described["required"] = required
    return name


@functools.cache
def _descriptions() -> Mapping[str, str]:
    """What `kubectl explain` says of types and fields: of what a learner of the mesh meets, in our own words."""
    text = resources.files("meshbox.api").joinpath("data/descriptions.json").read_text(encoding="utf-8")
    found: dict[str, str] = json.loads(text)
    return found


@functools.cache
def _schema_names() -> Mapping[str, str]:
    """How Kubernetes names the schemas of types: "V1PodSpec" is "io.k8s.api.core.v1.PodSpec"."""
    from meshbox.api.codec.fields import is_message, message_of

    found: dict[str, str] = {}
    waiting = [(kind_type(version, kind), message_of(version, kind)) for version, kind in all_kinds()]
    while waiting:
        model, message = waiting.pop()
        if not message or model in found:
            continue
        found[model] = f"io.k8s.{message.replace('_', '-')}"
        fields = fields_of(model) or {}
        for one in _shown(message):
            bare = fields.get(one.name, "").rstrip("!").lstrip("[]{}")
            if is_message(one.type) and fields_of(bare) is not None:
                waiting.append((bare, one.type))
    return found


def _shown(message: str) -> Iterator[Field]:
    """The fields of a message, and those of others that JSON shows in it."""
    from meshbox.api.codec.fields import fields_of as fields_of_message

    for one in fields_of_message(message).values():
        if one.name:
            yield one
        else:
            yield from _shown(one.type)


def _described(written: str, schemas: Obj, *, inner: bool = False) -> Obj:
    bare = written.rstrip("!")
    if bare.startswith("[]"):
        return {"type": "array", "items": _described(bare[2:], schemas, inner=True)}
    if bare.startswith("{}"):
        return {"type": "object", "additionalProperties": _described(bare[2:], schemas, inner=True)}
    if fields_of(bare) is not None:
        return _reference(_add(bare, schemas))
    if bare in _NAMED:
        schemas[_NAMED[bare]] = _LEAVES[bare]
        reference = {"$ref": f"#/components/schemas/{_NAMED[bare]}"}
        return reference if inner else {"allOf": [reference]}
    return dict(_LEAVES[bare.partition(":")[0]])


def _paths(gv: str, plural: str, namespaced: bool, gvk: Obj, name: str) -> Obj:
    base = f"/{'apis' if '/' in gv else 'api'}/{gv}"
    root = f"{base}/namespaces/{{namespace}}/{plural}" if namespaced else f"{base}/{plural}"
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    def operation(action: str, **more: Any) -> Obj:
        responses = {"200": {"description": "OK", "content": content}}
        return {"responses": responses, "x-kubernetes-action": action, _GVK: gvk, **more}

    validation = {"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    writes = [validation]
    return {
        root: {"get": operation("list"), "post": operation("post", parameters=writes)},
        f"{root}/{{name}}": {
            "get": operation("get"),
            "put": operation("put", parameters=writes),
            "patch": operation("patch", parameters=writes),
            "delete": operation("delete"),
        },
    }
