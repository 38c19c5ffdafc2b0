# SPDX-License-Identifier: Apache-2.0
"""Write meshbox/api/data/protobuf.json: the field numbers of the protobuf messages that clients of Kubernetes send.

The facts come from the modules that Kubernetes publishes for Go, as `go mod download` unpacks them: numbers and types
from their `generated.proto`, names in JSON and whether a zero value was set from the fields' tags. Run it again after
updating the kinds' tables:

    python -m tools.generate_protobuf_tables [FOLDER]

FOLDER is the module cache's `k8s.io` (default: Go's own place). What is missing there is downloaded if Go is installed.

The result holds three tables. `kinds` maps "apps/v1/Deployment" to a message; `messages` maps a message to its fields,
each as `number:name:type` with a space between two. A type is one of protobuf's, one of `VALUES`, or another message
(of the same package where it has no dot), with a mark before it: "[]" for a list, "{}" for a map from strings, "*"
where a zero value is one that the client has set, "+" where it stands in JSON although it is zero ("+[]" and
"+*": as null). Without a mark, zero means "not set". The name "" says that JSON shows the message's fields in their
parent, "=" that it shows the field in place of the message. `named` maps a message to those of its fields for which Go
has a type of its own that the others do not tell, as `name:type`: a decoder names it in its errors.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from meshbox.api.builtin.types import modern_kinds
from tools.generate_kind_tables import KINDS

TARGET = Path(__file__).parent.parent / "meshbox/api/data/protobuf.json"

# First the version that is played, then newest first: what it does not have, another kubectl still sends.
VERSIONS = ("v0.35.0", "v0.37.2", "v0.36.6", "v0.29.15", "v0.26.15", "v0.23.17", "v0.17.17")
MODULES = {
    **{f"api@{version}": "" for version in VERSIONS},
    **{f"apimachinery@{version}": "pkg" for version in VERSIONS},
    "apiextensions-apiserver@v0.37.2": "pkg/apis",
    "kube-aggregator@v0.37.2": "pkg/apis",
}

# Groups whose folder is not the first word of their name.
FOLDERS = {
    "": "api.core",
    "rbac.authorization.k8s.io": "api.rbac",
    "apiextensions.k8s.io": "apiextensions_apiserver.pkg.apis.apiextensions",
    "apiregistration.k8s.io": "kube_aggregator.pkg.apis.apiregistration",
}
META = "apimachinery.pkg.apis.meta.v1"

# Written by hand in Go: their JSON is not that of their fields.
VALUES = {
    f"{META}.Time": "Time",
    f"{META}.MicroTime": "MicroTime",
    f"{META}.FieldsV1": "JSON",
    "apimachinery.pkg.runtime.RawExtension": "JSON",
    "apimachinery.pkg.util.intstr.IntOrString": "IntOrString",
    "apimachinery.pkg.api.resource.Quantity": "Quantity",
}
VALUES |= {f"{FOLDERS['apiextensions.k8s.io']}.{version}.JSON": "JSON" for version in ("v1", "v1beta1")}

# Messages of which JSON shows one field alone: the last that is there.
_ONE_OF = re.compile(r"(\.ExtraValue|\.AttestationValue|\.JSONSchemaPropsOr\w+)$")

_PACKAGE = re.compile(r"^package k8s\.io\.([\w.]+);", re.MULTILINE)
_MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  (?:(optional|required|repeated) |map<string, )([\w.]+)>? (\w+) = (\d+);", re.MULTILINE)
_STRUCT = re.compile(r"^type (\w+) struct \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_TAGGED = re.compile(r"^\t(?:\w+\s+)?(\S+)\s+`([^`]*)`", re.MULTILINE)
_JSON_TAG = re.compile(r'json:"([^"]*)"')
_NUMBER_TAG = re.compile(r'protobuf:"\w+,(\d+)')

_KNOWN_ALIASES = re.compile(r"types|\w*v\d\w*")
# Types with a name, of other packages than the field's.
_NAMED_ABROAD = frozenset(
    {"UID", "StatusReason", "ConditionStatus", "ResourceName", "ResourceList", "TaintEffect", "Protocol"}
    | {"PersistentVolumeAccessMode", "PersistentVolumeReclaimPolicy", "LabelSelectorOperator", "NodeSelectorOperator"}
)

Fields = dict[int, tuple[str, str]]


class Tag(NamedTuple):
    """What Go says of a field beyond its number and type."""

    name: str
    mark: str
    go_type: str = ""


def unpacked(folder: Path | None) -> Path:
    """The folder in which the modules lie, downloaded where they are missing.

    Raises:
        FileNotFoundError: a module is not there, and `folder` was given or there is no Go to bring it.
    """
    if folder is None:
        go = ["go", "env", "GOMODCACHE"]
        cache = subprocess.run(go, capture_output=True, text=True, check=True).stdout.strip()
        folder = Path(cache) / "k8s.io"
        for module in MODULES:
            if not (folder / module).is_dir():
                subprocess.run(["go", "mod", "download", f"k8s.io/{module}"], check=True)
    for module in MODULES:
        if not (folder / module).is_dir():
            raise FileNotFoundError(folder / module)
    return folder


def tags_of(folder: Path) -> dict[str, dict[int, Tag]]:
    """The tags of the structs in a Go package."""
    found: dict[str, dict[int, Tag]] = {}
    for path in sorted(folder.glob("*.go")):
        if path.name.startswith(("generated", "zz_")) or path.name.endswith("_test.go"):
            continue
        for name, body in _STRUCT.findall(path.read_text(encoding="utf-8")):
            for go_type, tag in _TAGGED.findall(body):
                shown, number = _JSON_TAG.search(tag), _NUMBER_TAG.search(tag)
                if shown is not None and number is not None:
                    json_name, *options = shown[1].split(",")
                    pointer = "*" if go_type.startswith("*") else ""
                    mark = pointer if "omitempty" in options else f"+{pointer}"
                    mark = "0" if "omitzero" in options and not pointer else mark
                    found.setdefault(name, {})[int(number[1])] = Tag(json_name, mark, go_type)
    return found


def read(folder: Path) -> dict[str, Fields]:
    """Every message of the modules in `folder`: name → number → name and type of the field."""
    messages: dict[str, Fields] = {}
    for module, below in MODULES.items():
        for path in sorted((folder / module / below).rglob("generated.proto")):
            text = re.sub(r"^ *//.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            package = _PACKAGE.findall(text)[0]
            tags = tags_of(path.parent)
            for message, body in _MESSAGE.findall(text):
                fields = messages.setdefault(f"{package}.{message}", {})
                newer = set(fields)
                for label, kind, name, number in _FIELD.findall(body):
                    tag = tags.get(message, {}).get(int(number), Tag(name, "*"))
                    shown = "=" if _ONE_OF.search(f".{message}") else tag.name
                    kind = full_name(kind, package)
                    retired = bool(newer) and int(number) not in newer
                    fields.setdefault(int(number), (shown, mark_of(label, tag, kind, retired) + kind))
    return messages


def named_types(folder: Path) -> dict[str, dict[str, str]]:
    """Message → field → how Go prints its type, of the fields whose type has a name that is no message's."""
    found: dict[str, dict[str, str]] = {}
    for module, below in MODULES.items():
        for path in sorted((folder / module / below).rglob("generated.proto")):
            package = _PACKAGE.findall(path.read_text(encoding="utf-8"))[0]
            structs = tags_of(path.parent)
            for struct, tags in structs.items():
                for tag in tags.values():
                    bare = tag.go_type.removeprefix("*")
                    marks = bare[: len(bare) - len(bare.lstrip("[]"))]
                    alias, _, name = bare[len(marks) :].rpartition(".")
                    known = alias or name[:1].islower() or name in structs or "{" in bare or "map[" in bare
                    if known and not (alias and _KNOWN_ALIASES.fullmatch(alias) and name in _NAMED_ABROAD):
                        continue
                    version = "types" if name == "UID" else package.rpartition(".")[2] if not alias else "v1"
                    found.setdefault(f"{package}.{struct}", {}).setdefault(tag.name, f"{marks}{version}.{name}")
    return found


def mark_of(label: str, tag: Tag, kind: str, retired: bool) -> str:
    """The mark before the type of a field."""
    if label in ("repeated", ""):
        shown = "+" if tag.mark == "+" and not retired else ""
        return shown + ("[]" if label else "{}")
    if tag.mark.endswith("*"):
        return "*" if retired else tag.mark
    # Old clients send what has gone as nothing, which must not count as said.
    if retired or tag.mark == "0":
        return ""
    # Go writes a struct's zero even where empty fields are to be omitted.
    return "+" if "." in kind or kind in VALUES.values() else tag.mark


def full_name(kind: str, package: str) -> str:
    """A type as it is written in the tables."""
    if "." in kind:
        kind = kind.lstrip(".").removeprefix("k8s.io.")
    elif kind[0].isupper():
        kind = f"{package}.{kind}"
    return VALUES.get(kind, kind)


def message_of(group_version: str, kind: str) -> str:
    """The message of a kind."""
    group, _, version = group_version.rpartition("/")
    folder = FOLDERS.get(group) or "api." + group.partition(".")[0]
    return f"{folder}.{version}.{kind}"


def tables(folder: Path) -> str:
    """The text of the tables."""
    known = read(folder)
    served = [(version, entry.partition(":")[0]) for version, names in KINDS.items() for entry in names.split()]
    kinds = {
        f"{version}/{kind}": message
        for version, kind in (*served, *modern_kinds())
        if (message := message_of(version, kind)) in known
    }
    messages: dict[str, Fields] = {}
    waiting = [*kinds.values(), f"{META}.DeleteOptions"]
    while waiting:
        message = waiting.pop()
        if message not in messages and message in known:
            messages[message] = known[message]
            waiting.extend(kind.lstrip("[]{}*+") for _, kind in known[message].values())
    types = named_types(folder)
    named = {
        name: " ".join(f"{field}:{go}" for field, go in sorted(types[name].items()))
        for name in messages
        if name in types
    }
    fields = {name: written(name, messages[name]) for name in messages}
    return f'{{"kinds":{_lines(kinds)},"messages":{_lines(fields)},"named":{_lines(named)}}}\n'


def written(message: str, fields: Fields) -> str:
    """The fields of a message as they stand in the tables."""
    package = message.rpartition(".")[0] + "."
    return " ".join(f"{number}:{name}:{kind.replace(package, '')}" for number, (name, kind) in sorted(fields.items()))


def _lines(table: Mapping[str, str]) -> str:
    """JSON with one line an entry: short enough to load quickly, long enough to read a diff."""
    entries = [f"{json.dumps(name)}:{json.dumps(table[name])}" for name in sorted(table)]
    return "{\n" + ",\n".join(entries) + "\n}"


def main() -> None:
    """Write the tables."""
    TARGET.write_text(tables(unpacked(Path(sys.argv[1]) if sys.argv[1:] else None)), encoding="utf-8")
    print(f"{TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
