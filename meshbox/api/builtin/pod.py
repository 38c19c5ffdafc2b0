# SPDX-License-Identifier: Apache-2.0
"""What no table tells of pod specs and of pod templates."""

from __future__ import annotations

import re
from typing import Any

from msgspec import structs

from labkit.ground.names import at_most, dns1123_label, dns1123_subdomain, label_value, qualified_name, regex_words
from meshbox.api.builtin.container import containers, ephemeral_containers, init_containers
from meshbox.api.builtin.internal import internal
from meshbox.api.builtin.profiles import agreeing, noted
from meshbox.api.builtin.resources import resources
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.volume import volumes
from meshbox.api.builtin.well_formed import as_dict, as_list, labels, named
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
_OF_NETWORK, _OF_IPC = ("net.", "net/"), ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"


@call("template")
def pod_template(template: Any, path: str, causes: list[Cause], context: Context) -> None:
    """Check a pod template (its selector is the workload's matter)."""
    meta = as_dict(as_dict(template).get("metadata"))
    # The server leaves "metadata" out of these two paths.
    labels(meta.get("labels"), f"{path}.labels", causes)
    for key in as_dict(meta.get("annotations")):
        causes += [invalid(f"{path}.annotations", key, words) for words in qualified_name(key.lower())]
    annotations, spec = as_dict(meta.get("annotations")), as_dict(as_dict(template).get("spec"))
    noted(annotations, spec, f"{path}.annotations", causes)
    _pod_spec(spec, f"{path}.spec", causes, structs.replace(context, template=True))
    agreeing(annotations, spec, f"{path}.spec", causes)
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        causes.append(forbidden(f"{path}.spec.ephemeralContainers", detail))


@call("pod")
def _pod(pod: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    annotations = as_dict(as_dict(pod.get("metadata")).get("annotations"))
    spec = as_dict(pod.get("spec"))
    noted(annotations, spec, "metadata.annotations", causes)
    _pod_spec(spec, "spec", causes, context)
    if context.new:
        agreeing(annotations, spec, "spec", causes)


def _pod_spec(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    check("V1PodSpec", spec, path, causes, structs.replace(context, pod=spec))


@call("containers")
def _containers(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    known = volumes(as_list(spec.get("volumes")), f"{path}.volumes", causes, context)
    _claims(as_list(spec.get("resourceClaims")), f"{path}.resourceClaims", causes)
    own = as_list(spec.get("containers"))
    containers(own, known, f"{path}.containers", causes, context)
    inits, added = as_list(spec.get("initContainers")), as_list(spec.get("ephemeralContainers"))
    init_containers(inits, own, known, f"{path}.initContainers", causes, context)
    ephemeral_containers(added, [*own, *inits], known, f"{path}.ephemeralContainers", causes, context)
    resources(as_dict(spec.get("resources")), f"{path}.resources", causes)


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


def _claims(given: list[Any], path: str, causes: list[Cause]) -> None:
    names: list[str] = []
    for index, one in enumerate(given):
        where, claim = f"{path}[{index}]", as_dict(one)
        name = claim.get("name") or ""
        if name in names:
            causes.append(duplicate(f"{where}.name", name))
        else:
            named(name, f"{where}.name", dns1123_label, causes)
        names += [name] if name else []
        fields = ("resourceClaimName", "resourceClaimTemplateName")
        set_ = [field for field in fields if claim.get(field) is not None]
        shown = internal("api.core.v1.PodResourceClaim", claim)
        if len(set_) > 1:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            causes.append(invalid(where, shown, detail))
        if not set_:
            detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            causes.append(invalid(where, shown, detail))
        for field in set_:
            causes += [invalid(f"{where}.{field}", claim[field], words) for words in dns1123_subdomain(claim[field])]


@call("gates")
def _gates(gates: list[Any], path: str, causes: list[Cause], _context: Context) -> None:
    names = [as_dict(one).get("name") or "" for one in gates]
    for index, name in enumerate(names):
        causes += [invalid(f"{path}[{index}]", name, words) for words in qualified_name(name)]
        if name in names[:index]:
            causes.append(duplicate(f"{path}[{index}]", name))


@call("spread")
def _spread(constraints: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    for index, one in enumerate(constraints):
        later = [_pair(as_dict(other)) for other in constraints[index + 1 :]]
        context = structs.replace(context, pod={"later": later})
        check("V1TopologySpreadConstraint", one, f"{path}[{index}]", causes, context)


def _pair(constraint: Obj) -> str:
    return f"{{{constraint.get('topologyKey') or ''}, {constraint.get('whenUnsatisfiable') or ''}}}"


@call("spread_twice")
def _spread_twice(constraint: Obj, path: str, causes: list[Cause], context: Context) -> None:
    if _pair(constraint) in context.pod["later"]:
        causes.append(duplicate(f"{path}.{{topologyKey, whenUnsatisfiable}}", _pair(constraint)))


@call("spread_softly")
def _spread_softly(constraint: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    given = constraint.get("whenUnsatisfiable") or ""
    detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {given}"
    causes.append(invalid(f"{path}.minDomains", constraint["minDomains"], detail))


@call("label_keys")
def _label_keys(term: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    kinds = ("matchLabelKeys", "mismatchLabelKeys")
    for field in kinds:
        keys, where = as_list(term.get(field)), f"{path}.{field}"
        if keys and term.get("labelSelector") is None:
            causes.append(forbidden(where, "must not be specified when labelSelector is not set"))
            continue
        for index, key in enumerate(keys):
            causes += [invalid(f"{where}[{index}]", key or "", words) for words in qualified_name(key or "")]
    match, mismatch = (as_list(term.get(field)) for field in kinds)
    for index, key in enumerate(match):
        if key in mismatch:
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            causes.append(invalid(f"{path}.matchLabelKeys[{index}]", key, detail))


@call("label_values")
def _label_values(values: list[Any], path: str, causes: list[Cause], _context: Context) -> None:
    # What is only preferred may also name values that no label has.
    if ".preference." not in path:
        for index, value in enumerate(values):
            causes += [invalid(f"{path}[{index}]", value, words) for words in label_value(value or "")]


@call("just_one")
def _just_one(values: Any, path: str, causes: list[Cause], _context: Context) -> None:
    if len(as_list(values)) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        causes.append(required(path, detail))


@call("host_ports")
def _host_ports(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    ports = [
        (f"{path}.containers[{index}].ports[{position}].hostPort", as_dict(port))
        for index, container in enumerate(as_list(spec.get("containers")))
        for position, port in enumerate(as_list(as_dict(container).get("ports")))
    ]
    for where, port in ports if spec.get("hostNetwork") else ():
        given = port.get("hostPort") or 0
        # A template's is filled in when a pod is made of it.
        if (given or not context.template) and given != (port.get("containerPort") or 0):
            causes.append(invalid(where, given, "must match `containerPort` when `hostNetwork` is true"))


@call("host_users")
def _host_users(spec: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if spec.get("hostUsers") is False:
        for field, told in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
            if spec.get(field):
                causes.append(forbidden(f"{path}.{told}", "when `hostUsers` is false"))


@call("shared_processes")
def _shared_processes(_security: Obj, path: str, causes: list[Cause], context: Context) -> None:
    spec = context.pod
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        causes.append(invalid(f"{path}.shareProcessNamespace", True, detail))


@call("not_local")
def _not_local(profile: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    shown = internal("api.core.v1.SeccompProfile", profile)
    causes.append(invalid(f"{path}.localhostProfile", shown, "can only be set when seccomp type is Localhost"))


@call("unmasked")
def _unmasked(value: str, path: str, causes: list[Cause], context: Context) -> None:
    if context.pod.get("hostUsers") is not False:
        causes.append(invalid(path, value, "`hostUsers` must be false to use `Unmasked`"))


@call("escalation")
def _escalation(security: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if security.get("allowPrivilegeEscalation") is False and security.get("privileged"):
        shown = internal("api.core.v1.SecurityContext", security)
        detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        causes.append(invalid(path, shown, detail))


@call("sysctls")
def _sysctls(given: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    names = [as_dict(one).get("name") for one in given]
    for index, one in enumerate(given):
        before = len(causes)
        check("V1Sysctl", one, f"{path}[{index}]", causes, context)
        if len(causes) == before and names[index] in names[:index]:
            causes.append(duplicate(f"{path}[{index}].name", names[index]))


@call("host_sysctl")
def _host_sysctl(name: str, path: str, causes: list[Cause], context: Context) -> None:
    for field, starts in (("hostNetwork", _OF_NETWORK), ("hostIPC", _OF_IPC)):
        if context.pod.get(field) and name.startswith(starts):
            causes.append(invalid(path, name, f"may not be specified when '{field}' is true"))


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
