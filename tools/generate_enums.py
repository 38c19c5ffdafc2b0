# SPDX-License-Identifier: Apache-2.0
"""Write meshbox/api/data/enums.json: which words a field of a built-in kind may hold.

The facts come from the Go modules that Kubernetes publishes, as `go mod download` unpacks them: types marked `+enum`,
their constants, and the fields of those types. Run it again after updating the kinds' tables:

    python -m tools.generate_enums [FOLDER]

FOLDER is as in `tools.generate_protobuf_tables`. The result maps "V1Container.imagePullPolicy" to the words.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from meshbox.api.builtin.types import fields_of, known_types
from tools.generate_protobuf_tables import unpacked

TARGET = Path(__file__).parent.parent / "meshbox/api/data/enums.json"
MODULE = "api@v0.35.0"

_ENUM = re.compile(r"^// \+enum\n(?://.*\n)*type (\w+) string", re.MULTILINE)
_WORD = re.compile(r"^\s*\w+\s+(\w+)\s*=\s*\"([^\"]*)\"", re.MULTILINE)
_STRUCT = re.compile(r"^type (\w+) struct \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\t\w+\s+\*?(?:\w+\.)?(\w+)\s+`[^`]*json:\"(\w+)", re.MULTILINE)


def enums(folder: Path) -> dict[str, list[str]]:
    """Field → its words, in alphabetical order."""
    found: dict[str, list[str]] = {}
    words: dict[str, set[str]] = {}
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in sorted((folder / MODULE).rglob("types.go"))
        if path.parent.name in ("v1", "v2")
    }
    for text in texts.values():
        known = set(_ENUM.findall(text))
        for kind, word in _WORD.findall(text):
            if kind in known:
                words.setdefault(kind, set()).add(word)
    for path, text in texts.items():
        for struct, body in _STRUCT.findall(text):
            for name in (f"{path.parent.name.upper()}{struct}", f"{path.parent.parent.name.capitalize()}V1{struct}"):
                own = fields_of(name) if name in known_types() else None
                for kind, field in _FIELD.findall(body):
                    if own is not None and kind in words and field in own:
                        found[f"{name}.{field}"] = sorted(words[kind])
    return found


def main() -> None:
    """Write the table."""
    folder = unpacked(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    lines = ",\n".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in sorted(enums(folder).items()))
    TARGET.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print(f"{TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
