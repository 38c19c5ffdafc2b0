# SPDX-License-Identifier: Apache-2.0
"""Write labkit/ground/typed/: Istio's objects as TypedDicts, so that mypy sees a misspelt field.

What a field is comes from the schemas of the CustomResourceDefinitions in labkit/istio/manifests; the names of
messages, the fields of Istio 1.2, whose CRDs had no schema, and the kinds that are gone from the mesh's own tables:

    python tools/generate_typed_istio.py
"""

from __future__ import annotations

import functools
import keyword
from typing import Any

import yaml

from meshbox.mesh.istio_validation.fields import messages
from tools.generate_typed_kinds import ROOT, SHARED, module_text, write

CRDS = ROOT / "labkit/istio/manifests/1.30.3/manifests/base.yaml"

# Each module's kinds; a type stands in the first module that reaches it.
MODULES = {
    "virtual_services": ("Where requests go.", "VirtualService"),
    "destination_rules": ("How a host is called.", "DestinationRule"),
    "hosts": ("Which hosts there are, and who sees them.", "Gateway ServiceEntry Sidecar"),
    "security": (
        "Who may call whom, today and in Istio 1.2.",
        "PeerAuthentication RequestAuthentication AuthorizationPolicy Policy MeshPolicy",
    ),
    "telemetry": ("What is reported.", "Telemetry"),
}
SCALARS = {
    "string": "str",
    "duration": "str",
    "bool": "bool",
    "boolean": "bool",
    "int": "int",
    "uint": "int",
    "integer": "int",
    "double": "float",
    "number": "float",
    "any": "object",
    "": "object",
}
NAMES = {
    "TargetRef": "PolicyTargetReference",
    "TargetRefs": "PolicyTargetReference",
    "Provider": "ExtensionProvider",
    "Providers": "ProviderRef",
    "LocalityLbSetting": "LocalityLoadBalancerSetting",
    "LocalityLoadBalancerSettingDistribute": "Distribute",
    "LocalityLoadBalancerSettingFailover": "Failover",
    "Maglev": "MagLev",
    "RingHash": "RingHash",
    "OutputClaimToHeaders": "ClaimToHeader",
    "TagOverrides": "TagOverride",
    "CustomTags": "CustomTag",
    "MetricsOverrides": "MetricsOverrides",
    "Tracing": "Tracing",
    "AccessLogging": "AccessLogging",
}
"""Istio's names of messages that no table names, by the end of the path to them."""

Json = dict[str, Any]


def named(path: str) -> str:
    """The name of a message at a path of fields, each with a capital."""
    return next((NAMES[end] for end in sorted(NAMES, key=len, reverse=True) if path.endswith(end)), path)


class Types:
    """The types found so far: name → its fields, and the module that each stands in."""

    def __init__(self) -> None:
        self.fields: dict[str, dict[str, str]] = {}
        self.module: dict[str, str] = {}
        self.used: dict[str, set[str]] = {}
        self.now = ""

    def add(self, name: str, fields: dict[str, str], used: set[str]) -> str:
        """Know a type, or meet it again."""
        known = self.fields.setdefault(name, fields)
        if known != fields:
            raise ValueError(f"two types called {name}: {known} and {fields}")
        self.module.setdefault(name, self.now)
        self.used.setdefault(name, used)
        return name

    def message(self, name: str, schema: Json, table: str) -> str:
        """The type of an object.

        Args:
            name: What it is called where no table names it.
            schema: Its schema in the CRD; empty where there is none.
            table: Its table.
        """
        known = messages().get(table, {})
        fields: dict[str, str] = {}
        used: set[str] = set()
        for key in sorted({*known, *schema.get("properties", {})}):
            hint = f"{name.removesuffix('Spec')}{key[0].upper()}{key[1:]}"
            fields[key] = self.value(hint, schema.get("properties", {}).get(key, {}), known.get(key, ""), used)
        return self.add(name, fields, used)

    def value(self, hint: str, schema: Json, kind: str, used: set[str]) -> str:
        """The type of a field."""
        if kind.startswith("*") or schema.get("type") == "array":
            return f"list[{self.value(hint, schema.get('items', {}), kind[1:], used)}]"
        inner = schema.get("additionalProperties")
        if kind.startswith("%") or inner:
            return f"dict[str, {self.value(hint, inner or {}, kind[1:], used)}]"
        if kind in messages() or schema.get("properties"):
            found = self.message(kind if kind in messages() else named(hint), schema, kind)
            used.add(found)
            return found
        found = "str" if kind.startswith("(") else SCALARS[schema.get("type") or kind] if kind or schema else "object"
        if schema.get("type") == "object":
            found = "dict[str, object]"
        return f"{found} | None" if schema.get("nullable") else found


def class_text(name: str, fields: dict[str, str]) -> str:
    """A type, as a class if its fields can be written so."""
    if any(keyword.iskeyword(key) for key in fields):
        inside = "".join(f'        "{key}": {kind},\n' for key, kind in fields.items())
        return f'{name} = TypedDict(\n    "{name}",\n    {{\n{inside}    }},\n    total=False,\n)'
    return "\n".join(
        [f"class {name}(TypedDict, total=False):", *(f"    {key}: {kind}" for key, kind in fields.items())]
    )


@functools.cache
def schemas() -> dict[str, Json]:
    """The schema of each kind's spec, as the CRDs have it; read once: tests ask for each kind."""
    found = {}
    # What is written in C reads them in a tenth of the time.
    for crd in yaml.load_all(CRDS.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if crd["kind"] == "CustomResourceDefinition":
            schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            found[crd["spec"]["names"]["kind"]] = schema["properties"]["spec"]
    return found


def modules() -> dict[str, str]:
    """The text of each module, by its name."""
    types, known, texts = Types(), schemas(), {}
    for module, (title, kinds) in MODULES.items():
        types.now = f"{SHARED}.{module}"
        for kind in kinds.split():
            table = "Policy" if kind == "MeshPolicy" else kind
            spec = types.message(f"{table}Spec", known.get(kind, {}), table)
            types.add(kind, {"apiVersion": "str", "kind": "str", "metadata": "ObjectMeta", "spec": spec}, {spec})
        own = [name for name, where in types.module.items() if where == types.now]
        imports: dict[str, set[str]] = {f"{SHARED}.metadata": {"ObjectMeta"}}
        for name in own:
            for used in types.used[name]:
                if types.module[used] != types.now:
                    imports.setdefault(types.module[used], set()).add(used)
        classes = [class_text(name, types.fields[name]) for name in own]
        texts[types.now] = module_text(title, "tools/generate_typed_istio.py", classes, imports)
    return texts


if __name__ == "__main__":
    write(modules())
