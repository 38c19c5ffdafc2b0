# SPDX-License-Identifier: Apache-2.0
"""What no table tells of pod specs and of pod templates."""

from __future__ import annotations

import re
from typing import Any

from labkit.ground.names import at_most, label_value, qualified_name, regex_words
from meshbox.api.builtin.container import containers, ephemeral_containers, init_containers
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.volume import volumes
from meshbox.api.builtin.well_formed import as_dict, as_list, label_selector, labels
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, not_supported, required
from meshbox.contracts import Obj

__all__ = ["pod_template"]

_SEARCH = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*"
_SEARCH_WORDS = regex_words(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
    "start and end with an alphanumeric character",
    _SEARCH,
    "example.com",
)
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"


@call("template")
def pod_template(template: Any, path: str, causes: list[Cause], context: Context) -> None:
    """Check a pod template (its selector is the workload's matter)."""
    meta = as_dict(as_dict(template).get("metadata"))
    # The server leaves "metadata" out of these two paths.
    labels(meta.get("labels"), f"{path}.labels", causes)
    for key in as_dict(meta.get("annotations")):
        causes += [invalid(f"{path}.annotations", key, words) for words in qualified_name(key.lower())]
    spec = as_dict(as_dict(template).get("spec"))
    check("V1PodSpec", spec, f"{path}.spec", causes, context)
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        causes.append(forbidden(f"{path}.spec.ephemeralContainers", detail))


@call("containers")
def _containers(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    known = volumes(as_list(spec.get("volumes")), f"{path}.volumes", causes, context)
    own = as_list(spec.get("containers"))
    containers(own, known, f"{path}.containers", causes, context)
    inits, added = as_list(spec.get("initContainers")), as_list(spec.get("ephemeralContainers"))
    init_containers(inits, own, known, f"{path}.initContainers", causes, context)
    ephemeral_containers(added, [*own, *inits], known, f"{path}.ephemeralContainers", causes, context)


@call("toleration")
def _toleration(one: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    key, given, effect, value = (
        one.get("key"),
        one.get("operator") or "",
        one.get("effect") or "",
        one.get("value") or "",
    )
    where = f"{path}.operator"
    if not key and given != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        causes.append(invalid(where, given, detail))
    if one.get("tolerationSeconds") is not None and effect != "NoExecute":
        causes.append(invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
    if given in ("", "Equal"):
        if said := label_value(value):
            causes.append(invalid(where, value, ";".join(said)))
    elif given == "Exists":
        if value:
            causes.append(invalid(where, value, "value must be empty when `operator` is 'Exists'"))
    else:
        causes.append(not_supported(where, given, ("Equal", "Exists")))


@call("spread")
def _spread(constraints: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    pairs = [(as_dict(one).get("topologyKey"), as_dict(one).get("whenUnsatisfiable")) for one in constraints]
    for index, one in enumerate(constraints):
        where = f"{path}[{index}]"
        check("V1TopologySpreadConstraint", one, where, causes, context)
        if pairs[index] in pairs[index + 1 :]:
            shown = f"{{{pairs[index][0]}, {pairs[index][1]}}}"
            causes.append(duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", shown))
        label_selector(one.get("labelSelector"), f"{where}.labelSelector", causes)


@call("single")
def _single(values: Any, path: str, causes: list[Cause], _context: Context) -> None:
    if len(as_list(values)) != 1:
        causes.append(required(path, "must be specified single value when `operator` is 'Lt' or 'Gt'"))


@call("topology_key")
def _topology_key(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    if not text:
        causes.append(required(path, "can not be empty"))
    causes += [invalid(path, text, words) for words in qualified_name(text)]


@call("sysctl")
def _sysctl(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    if len(text) > 253 or not re.fullmatch(_SYSCTL, text):
        causes.append(invalid(path, text, f"must have at most 253 characters and match regex ^{_SYSCTL}$"))


def _searched(text: str) -> list[str]:
    said = at_most(text, 253)
    return said if re.fullmatch(_SEARCH, text) else [*said, _SEARCH_WORDS]


@call("search")
def _search(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    if text != ".":
        causes += [invalid(path, text, words) for words in _searched(text.removesuffix("."))]


@call("dns_option")
def _dns_option(option: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if not option.get("name"):
        causes.append(required(path, "must not be empty"))
