# SPDX-License-Identifier: Apache-2.0
"""Nobody may grant what he may not do himself, unless he may escalate (roles) or bind (bindings)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence

from meshbox.contracts import ApiError, Obj
from meshbox.rbac.policy import Attributes, Authorizer
from meshbox.rbac.users import User

__all__ = ["GROUP", "check"]

_KINDS = {"roles": "escalate", "clusterroles": "escalate", "rolebindings": "bind", "clusterrolebindings": "bind"}
GROUP = "rbac.authorization.k8s.io"


def check(user: User, asked: Attributes, authorizer: Authorizer, obj: Obj) -> None:
    """Refuse a role or binding by which `user` would grant more than he has.

    Args:
        user: Who writes it.
        asked: Where to.
        authorizer: Knows what he may.
        obj: The object as it would be.

    Raises:
        ApiError: 403, in the API server's words.
    """
    verb = _KINDS.get(asked.resource)
    if verb is None or asked.group != GROUP or user.may_all:
        return
    if verb == "escalate":
        granted: Sequence[Obj] = obj.get("rules") or []
        permit = Attributes(verb, GROUP, asked.resource, "", asked.namespace, asked.name)
    else:
        reference = obj.get("roleRef") or {}
        granted = authorizer.role_rules(reference, asked.namespace)
        plural = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
        permit = Attributes(verb, GROUP, plural, "", asked.namespace, reference.get("name", ""))
    if authorizer.decide(user, permit).allowed:
        return
    own = [rule for rule, _ in authorizer.rules(user, asked.namespace)]
    missing = [one for one in _single(granted) if not any(_covers(rule, one) for rule in own)]
    if not missing:
        return
    groups = ", ".join(json.dumps(group) for group in user.groups)
    words = f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n'
    name = obj["metadata"].get("name", "")
    message = f'{asked.resource}.{GROUP} "{name}" is forbidden: {words}' + "\n".join(_compact(missing))
    raise ApiError(403, "Forbidden", message, {"name": name, "group": GROUP, "kind": asked.resource})


def _single(rules: Iterable[Obj]) -> list[Obj]:
    """Rules of one verb and one resource (or path) each."""
    found: list[Obj] = []
    for rule in rules:
        names = rule.get("resourceNames") or []
        parts = (rule.get("apiGroups") or (), rule.get("resources") or (), rule.get("verbs") or ())
        for group, resource, verb in itertools.product(*parts):
            one = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
            found += [one | {"resourceNames": [name]} for name in names] or [one]
        for path, verb in itertools.product(rule.get("nonResourceURLs") or (), rule.get("verbs") or ()):
            found.append({"verbs": [verb], "nonResourceURLs": [path]})
    return found


def _covers(rule: Obj, one: Obj) -> bool:
    for field in ("verbs", "apiGroups", "resources", "nonResourceURLs"):
        if field not in one:
            continue
        wanted, known = one[field][0], rule.get(field) or ()
        stars = {"*", f"*/{wanted.partition('/')[2]}"} if "/" in wanted and field == "resources" else {"*"}
        prefixes = field == "nonResourceURLs" and any(
            path.endswith("*") and wanted.startswith(path.rstrip("*")) for path in known
        )
        if not (wanted in known or stars & set(known) or prefixes):
            return False
    names = rule.get("resourceNames") or ()
    return not names or set(one.get("resourceNames") or ["*"]) <= set(names)


def _compact(rules: Iterable[Obj]) -> list[str]:
    """The rules in words, those that differ by their verb only as one."""
    merged: dict[str, Obj] = {}
    for rule in rules:
        key = json.dumps({field: value for field, value in rule.items() if field != "verbs"}, sort_keys=True)
        known = merged.setdefault(key, {**rule, "verbs": []})
        known["verbs"] = [*known["verbs"], *(verb for verb in rule["verbs"] if verb not in known["verbs"])]
    fields = {
        "apiGroups": "APIGroups",
        "resources": "Resources",
        "resourceNames": "ResourceNames",
        "nonResourceURLs": "NonResourceURLs",
        "verbs": "Verbs",
    }
    return sorted(
        "{" + ", ".join(f"{word}:{json.dumps(rule[field])}" for field, word in fields.items() if rule.get(field)) + "}"
        for rule in merged.values()
    )
