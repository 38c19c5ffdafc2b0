# SPDX-License-Identifier: Apache-2.0
"""One bounded reader for text that comes from outside: requests, manifests, settings in ConfigMaps, annotations.

A parser that trusts its input can be killed by it: 40 kB of `[` overflow the stack of a recursive one, aliases of
aliases unfold to gigabytes. What is read here has bounds that are checked before anything is built: bytes, nesting,
and values, those that aliases stand for included. Time follows from these, as both parsers are linear in them.

Values are JSON's, whatever the text is: YAML is understood as Kubernetes does, where a date is a string, a time such as
22:30 is no number, and keys are strings.
"""

from __future__ import annotations

from labkit.ground.reading.bounds import MOST_BYTES, MOST_DEPTH, MOST_VALUES, ReadingError
from labkit.ground.reading.json_text import json_value
from labkit.ground.reading.yaml_text import check_yaml, yaml_documents, yaml_value

__all__ = [
    "MOST_BYTES",
    "MOST_DEPTH",
    "MOST_VALUES",
    "ReadingError",
    "check_yaml",
    "json_value",
    "yaml_documents",
    "yaml_value",
]
