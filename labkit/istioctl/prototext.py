# SPDX-License-Identifier: Apache-2.0
"""A fault as Go's protobuf prints it as text, which is how istioctl shows it: `delay:{fixed_delay:{seconds:7} …}`.

Go puts one space or two between fields, as it was built; here it is always one.
"""

from __future__ import annotations

from typing import Any

from labkit.ground.duration import from_go

__all__ = ["fault_text"]

_FIELDS = {
    "delay": {"percent": "percent", "fixedDelay": "fixed_delay", "percentage": "percentage"},
    "abort": {
        "percent": "percent",
        "httpStatus": "http_status",
        "grpcStatus": "grpc_status",
        "http2Error": "http2_error",
        "percentage": "percentage",
    },
}
"""The fields of each part in the order of their numbers, with their names in protobuf's text."""
_SECOND = 1_000_000_000


def fault_text(fault: dict[str, Any]) -> str:
    """A VirtualService's `fault` as text."""
    parts = []
    for name, fields in _FIELDS.items():
        if name in fault:
            given = fault[name] or {}
            said = [f"{field}:{_value(key, given[key])}" for key, field in fields.items() if key in given]
            parts.append(f"{name}:{{{' '.join(said)}}}")
    return " ".join(parts)


def _value(key: str, value: Any) -> str:
    if key == "percentage":
        number = float((value or {}).get("value") or 0)
        return f"{{value:{number:g}}}" if number else "{}"
    if key == "fixedDelay":
        seconds, nanos = divmod(from_go(str(value)), _SECOND)
        return "{" + " ".join(f"{name}:{one}" for name, one in (("seconds", seconds), ("nanos", nanos)) if one) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value)
