# SPDX-License-Identifier: Apache-2.0
"""The objects that the sandbox reads most, as types: what mypy knows of their fields; nothing imports them to run.

An object is a dict still, and each field may be missing. Written by `tools/generate_typed_kinds.py`.
"""

from __future__ import annotations
