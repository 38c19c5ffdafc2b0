# SPDX-License-Identifier: Apache-2.0
"""What Envoy's RBAC says of a request: enough of it to compare two configurations by their meaning."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


def judged(rbac: Json, call: Json) -> bool:
    """Whether `rules` let a call pass."""
    rules = rbac.get("rules")
    if rules is None or rules.get("action") == "LOG":
        return True
    held = _held(rules, call)
    return held if rules.get("action", "ALLOW") == "ALLOW" else not held


def shadowed(rbac: Json, call: Json) -> bool | None:
    """Whether shadow rules would let a call pass; None without any."""
    rules = rbac.get("shadow_rules")
    return None if rules is None else judged({"rules": rules}, call)


def _held(rules: Json, call: Json) -> bool:
    return any(
        any(_permits(one, call) for one in policy["permissions"])
        and any(_is(one, call) for one in policy["principals"])
        for policy in (rules.get("policies") or {}).values()
    )


def _permits(rule: Json, call: Json) -> bool:
    ((kind, value),) = rule.items()
    known: dict[str, Callable[[], Any]] = {
        "any": lambda: True,
        "and_rules": lambda: all(_permits(one, call) for one in value["rules"]),
        "or_rules": lambda: any(_permits(one, call) for one in value["rules"]),
        "not_rule": lambda: not _permits(value, call),
        "destination_port": lambda: call["port"] == value,
        "destination_ip": lambda: _within(call["to"], value),
        "requested_server_name": lambda: _text(value, call["sni"]),
        "uri_template": lambda: _template(value["typed_config"]["path_template"], _path(call)),
    }
    return bool(known[kind]()) if kind in known else _common(kind, value, call)


def _is(rule: Json, call: Json) -> bool:
    ((kind, value),) = rule.items()
    known: dict[str, Callable[[], Any]] = {
        "any": lambda: True,
        "and_ids": lambda: all(_is(one, call) for one in value["ids"]),
        "or_ids": lambda: any(_is(one, call) for one in value["ids"]),
        "not_id": lambda: not _is(value, call),
        "direct_remote_ip": lambda: _within(call["from"], value),
        "remote_ip": lambda: _within(call["first"], value),
        "authenticated": lambda: (
            bool(call["who"]) and ("principal_name" not in value or _text(value["principal_name"], call["who"]))
        ),
    }
    return bool(known[kind]()) if kind in known else _common(kind, value, call)


def _common(kind: str, value: Json, call: Json) -> bool:
    if kind == "header":
        return _header(value, call)
    if kind == "url_path":
        return _text(value["path"], _path(call))
    if kind == "metadata":
        found: Any = call["said"].get(value["filter"], {})
        for step in value.get("path") or []:
            found = found.get(step["key"]) if isinstance(found, dict) else None
        return _value(value["value"], found)
    raise ValueError(kind)


def _path(call: Json) -> str:
    return str(call["headers"].get(":path", "")).partition("?")[0]


def _header(match: Json, call: Json) -> bool:
    found = call["headers"].get(match["name"].lower())
    if "present_match" in match:
        held = (found is not None) is match["present_match"]
    elif found is None:
        return False
    else:
        held = _text(match["string_match"], found)
    return held != bool(match.get("invert_match"))


def _value(match: Json, found: Any) -> bool:
    ((kind, value),) = match.items()
    if kind == "or_match":
        return any(_value(one, found) for one in value["value_matchers"])
    if kind == "list_match":
        return isinstance(found, list) and any(_value(value["one_of"], one) for one in found)
    if kind == "string_match":
        return isinstance(found, str) and _text(value, found)
    raise ValueError(kind)


def _text(match: Json, text: str) -> bool:
    given = dict(match)
    if given.pop("ignore_case", False):
        text = text.lower()
        given = {kind: value.lower() for kind, value in given.items()}
    ((kind, value),) = given.items()
    if kind == "safe_regex":
        return re.fullmatch(value["regex"], text) is not None
    tests = {"exact": text == value, "prefix": text.startswith(str(value)), "suffix": text.endswith(str(value))}
    return bool(tests.get(kind, kind == "contains" and value in text))


def _within(address: str, block: Json) -> bool:
    network = ipaddress.ip_network(f"{block['address_prefix']}/{block.get('prefix_len', 0)}", strict=False)
    return ipaddress.ip_address(address) in network


def _template(template: str, path: str) -> bool:
    known = {"**": ".*", "*": "[^/]+"}
    parts = [known.get(part) or re.escape(part) for part in re.split(r"(\*\*|\*)", template)]
    return re.fullmatch("".join(parts), path) is not None
