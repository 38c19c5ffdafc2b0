# SPDX-License-Identifier: Apache-2.0
"""The filters by which an Envoy takes connections from this user's own processes only.

A stock Envoy cannot be told whose connection it takes. But it can hand both ends of one to a matcher in Lua, and that
asks the kernel, once for each connection (`doors.lua`). Chains that ask for a workload's certificate need none of this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["CAPTURE_SOCKET", "LUA", "peer_check"]

Json = dict[str, Any]

CAPTURE_SOCKET = "capture.sock"
"""Where a sidecar takes its application's calls: below its container's root, where nobody else can go."""

LUA = Path(__file__).with_name("doors.lua")
"""Says of "PEER:PORT OWN:PORT" whether the peer is this user's."""

_TYPE = "type.googleapis.com/envoy.extensions.{}"
_KEY = "labkit.ends"


def peer_check() -> list[Json]:
    """The first filters of a chain: they end a connection that another user of this machine has opened.

    Envoy looks when the first bytes have come. A server behind a TCP proxy that speaks first is heard until then.
    """
    ends = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_LOCAL_ADDRESS%"
    note = {
        "object_key": _KEY,
        "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": ends}},
    }
    matcher = {
        "name": "envoy.string_matcher.lua",
        "typed_config": {"@type": _TYPE.format("string_matcher.lua.v3.Lua"), "source_code": {"filename": str(LUA)}},
    }
    own = {
        "permissions": [{"any": True}],
        "principals": [{"filter_state": {"key": _KEY, "string_match": {"custom": matcher}}}],
    }
    return [
        {
            "name": "labkit.ends",
            "typed_config": {
                "@type": _TYPE.format("filters.network.set_filter_state.v3.Config"),
                "on_new_connection": [note],
            },
        },
        {
            "name": "labkit.own_user",
            "typed_config": {
                "@type": _TYPE.format("filters.network.rbac.v3.RBAC"),
                "stat_prefix": "own_user.",
                "rules": {"action": "ALLOW", "policies": {"own-user": own}},
            },
        },
    ]
