# SPDX-License-Identifier: Apache-2.0
"""Write meshbox/api/data/sound_rules.txt: the CEL rules of the taught releases' CRDs that compile.

Run it again after taking in other manifests, or after a change of what compiles:

    python -m tools.generate_sound_rules
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from labkit import istio
from labkit.ground import config
from labkit.istio.source import OWN
from meshbox.api.cel.compiling import RULE_NAMES, compile_error
from meshbox.api.cel.sound import digest
from meshbox.api.compiled.schemas import rule_fields

TARGET = Path(__file__).parent.parent / "meshbox/api/data/sound_rules.txt"


def table() -> str:
    """The digests of all rules that compile, a line each."""
    files = [
        *(path for release in config.RELEASES for path in istio.release(release).crd_files),
        *OWN.glob("gateway-api-*/*.yaml"),
    ]
    found = {
        digest(rule["rule"], rule_fields(schema))
        for path in files
        for crd in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        for schema in _with_rules(crd)
        for rule in schema["x-kubernetes-validations"]
        if not compile_error(rule["rule"], RULE_NAMES, rule_fields(schema))
    }
    return "".join(f"{one}\n" for one in sorted(found))


def _with_rules(part: Any) -> Iterator[dict[str, Any]]:
    """The schemas in a definition that have rules."""
    if isinstance(part, dict) and "x-kubernetes-validations" in part:
        yield part
    for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _with_rules(one)


if __name__ == "__main__":
    TARGET.write_text(table(), encoding="ascii")
