# SPDX-License-Identifier: Apache-2.0
"""Rules of CustomResourceDefinitions that are known to compile: those of the releases that are taught here.

To read CEL for the first time takes cel-python's import and the tables of its grammar, a third of a second of all that
a start takes until the first page. Whether a rule compiles depends on its words and on the fields that it may name;
so what has been compiled once, when `tools.generate_sound_rules` wrote the table, need not be read again. A rule that
is evaluated is compiled then, as any other.
"""

from __future__ import annotations

import functools
import hashlib
import json
from importlib import resources

__all__ = ["digest", "known"]


def digest(rule: str, fields: frozenset[str] | None) -> str:
    """What stands for a rule in the table.

    Args:
        rule: The expression.
        fields: The fields of `self`; None where it may have any.
    """
    text = json.dumps([rule, None if fields is None else sorted(fields)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def known(rule: str, fields: frozenset[str] | None) -> bool:
    """Whether a rule is one that was found to compile."""
    return digest(rule, fields) in _table()


@functools.cache
def _table() -> frozenset[str]:
    text = resources.files("meshbox.api").joinpath("data/sound_rules.txt").read_text(encoding="ascii")
    return frozenset(text.split())
