# SPDX-License-Identifier: Apache-2.0
"""Validation of pod specs and of pod templates: containers, ports, environment, probes, volumes."""

from __future__ import annotations

from typing import Any

from labkit.ground.names import dns1123_label, dns1123_subdomain, is_ip, qualified_name
from meshbox.api.builtin.container import containers, init_containers
from meshbox.api.builtin.volume import volumes
from meshbox.api.builtin.well_formed import as_dict, as_list, label_selector, labels, named, non_negative, supported
from meshbox.api.problems import Cause, invalid, required
from meshbox.contracts import Obj

__all__ = ["pod_spec", "pod_template"]

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")


def pod_template(template: Any, path: str, causes: list[Cause], extra_volumes: frozenset[str] = frozenset()) -> None:
    """Check a pod template (its selector is the workload's matter).

    Args:
        template: The template.
        path: Where it is, e.g. "spec.template".
        causes: Where to add what is wrong.
        extra_volumes: Volumes that mounts may name besides the template's own (a StatefulSet's claims).
    """
    meta = as_dict(as_dict(template).get("metadata"))
    # The server leaves "metadata" out of these two paths.
    labels(meta.get("labels"), f"{path}.labels", causes)
    for key in as_dict(meta.get("annotations")):
        causes += [invalid(f"{path}.annotations", key, words) for words in qualified_name(key.lower())]
    pod_spec(as_dict(as_dict(template).get("spec")), f"{path}.spec", causes, extra_volumes)


def pod_spec(spec: Obj, path: str, causes: list[Cause], extra_volumes: frozenset[str] = frozenset()) -> None:
    """Check a pod's spec; what the server fills in may be absent."""
    known = volumes(as_list(spec.get("volumes")), f"{path}.volumes", causes) | extra_volumes
    own = as_list(spec.get("containers"))
    containers(own, known, f"{path}.containers", causes)
    init_containers(as_list(spec.get("initContainers")), own, known, f"{path}.initContainers", causes)
    supported(spec.get("restartPolicy"), f"{path}.restartPolicy", ("Always", "OnFailure", "Never"), causes)
    supported(spec.get("dnsPolicy"), f"{path}.dnsPolicy", _DNS_POLICIES, causes)
    labels(spec.get("nodeSelector"), f"{path}.nodeSelector", causes)
    for name in ("serviceAccountName", "nodeName", "priorityClassName"):
        named(spec.get(name), f"{path}.{name}", dns1123_subdomain, causes, needed=False)
    for name in ("hostname", "subdomain"):
        named(spec.get(name), f"{path}.{name}", dns1123_label, causes, needed=False)
    non_negative(spec, ("terminationGracePeriodSeconds",), path, causes)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 2**31:
        detail = "must be between 1 and 2147483647, inclusive"
        causes.append(invalid(f"{path}.activeDeadlineSeconds", deadline, detail))
    if spec.get("dnsPolicy") == "None" and not as_list(as_dict(spec.get("dnsConfig")).get("nameservers")):
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        causes.append(required(f"{path}.dnsConfig.nameservers", detail))
    for index, one in enumerate(as_list(spec.get("tolerations"))):
        _toleration(as_dict(one), f"{path}.tolerations[{index}]", causes)
    for index, one in enumerate(as_list(spec.get("hostAliases"))):
        if not is_ip(as_dict(one).get("ip")):
            causes.append(
                invalid(f"{path}.hostAliases[{index}].ip", as_dict(one).get("ip") or "", "must be a valid IP address")
            )
    _affinity(as_dict(spec.get("affinity")), f"{path}.affinity", causes)
    for index, one in enumerate(as_list(spec.get("topologySpreadConstraints"))):
        _spread(as_dict(one), f"{path}.topologySpreadConstraints[{index}]", causes)


def _toleration(one: Obj, path: str, causes: list[Cause]) -> None:
    key, operator, effect = one.get("key"), one.get("operator") or "Equal", one.get("effect")
    named(key, f"{path}.key", qualified_name, causes, needed=False)
    if not key and operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        causes.append(invalid(f"{path}.operator", one.get("operator") or "", detail))
    if one.get("tolerationSeconds") is not None and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        causes.append(invalid(f"{path}.effect", effect or "", detail))
    if operator == "Exists" and one.get("value"):
        causes.append(invalid(f"{path}.operator", one["value"], "value must be empty when `operator` is 'Exists'"))
    supported(operator, f"{path}.operator", ("Equal", "Exists", "Lt", "Gt"), causes)
    supported(effect, f"{path}.effect", _EFFECTS, causes)


def _affinity(affinity: Obj, path: str, causes: list[Cause]) -> None:
    for kind in ("podAffinity", "podAntiAffinity"):
        chosen = as_dict(affinity.get(kind))
        name = "requiredDuringSchedulingIgnoredDuringExecution"
        for index, one in enumerate(as_list(chosen.get(name))):
            _affinity_term(as_dict(one), f"{path}.{kind}.{name}[{index}]", causes)
        name = "preferredDuringSchedulingIgnoredDuringExecution"
        for index, one in enumerate(as_list(chosen.get(name))):
            where = f"{path}.{kind}.{name}[{index}]"
            weight = as_dict(one).get("weight") or 0
            if not 1 <= weight <= 100:
                causes.append(invalid(f"{where}.weight", weight, "must be in the range 1-100"))
            _affinity_term(as_dict(as_dict(one).get("podAffinityTerm")), f"{where}.podAffinityTerm", causes)
    _node_affinity(as_dict(affinity.get("nodeAffinity")), f"{path}.nodeAffinity", causes)


def _affinity_term(term: Obj, path: str, causes: list[Cause]) -> None:
    label_selector(term.get("labelSelector"), f"{path}.labelSelector", causes)
    if not term.get("topologyKey"):
        causes.append(required(f"{path}.topologyKey", "can not be empty"))
    named(term.get("topologyKey"), f"{path}.topologyKey", qualified_name, causes, needed=False)


def _node_affinity(affinity: Obj, path: str, causes: list[Cause]) -> None:
    name = "requiredDuringSchedulingIgnoredDuringExecution"
    wanted = affinity.get(name)
    if wanted is not None:
        terms = as_list(as_dict(wanted).get("nodeSelectorTerms"))
        if not terms:
            detail = "must have at least one node selector term"
            causes.append(required(f"{path}.{name}.nodeSelectorTerms", detail))
        for index, term in enumerate(terms):
            _node_terms(as_dict(term), f"{path}.{name}.nodeSelectorTerms[{index}]", causes)
    name = "preferredDuringSchedulingIgnoredDuringExecution"
    for index, one in enumerate(as_list(affinity.get(name))):
        where = f"{path}.{name}[{index}]"
        weight = as_dict(one).get("weight") or 0
        if not 1 <= weight <= 100:
            causes.append(invalid(f"{where}.weight", weight, "must be in the range 1-100"))
        _node_terms(as_dict(as_dict(one).get("preference")), f"{where}.preference", causes)


def _node_terms(term: Obj, path: str, causes: list[Cause]) -> None:
    for index, one in enumerate(as_list(term.get("matchExpressions"))):
        where, expression = f"{path}.matchExpressions[{index}]", as_dict(one)
        operator, values = expression.get("operator"), as_list(expression.get("values"))
        if operator in ("In", "NotIn"):
            if not values:
                detail = "must be specified when `operator` is 'In' or 'NotIn'"
                causes.append(required(f"{where}.values", detail))
        elif operator in ("Gt", "Lt"):
            if len(values) != 1:
                detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                causes.append(required(f"{where}.values", detail))
        elif operator not in ("Exists", "DoesNotExist"):
            causes.append(invalid(f"{where}.operator", operator or "", "not a valid selector operator"))


def _spread(one: Obj, path: str, causes: list[Cause]) -> None:
    if (one.get("maxSkew") or 0) <= 0:
        causes.append(invalid(f"{path}.maxSkew", one.get("maxSkew") or 0, "must be greater than zero"))
    if not one.get("topologyKey"):
        causes.append(required(f"{path}.topologyKey", "can not be empty"))
    choices = ("DoNotSchedule", "ScheduleAnyway")
    supported(one.get("whenUnsatisfiable"), f"{path}.whenUnsatisfiable", choices, causes)
