# SPDX-License-Identifier: Apache-2.0
"""What no table tells of roles, certificates, nodes, events, scaling and the rest of a cluster's own objects."""

from __future__ import annotations

import base64
import re
from typing import Any

from labkit.ground import quantity as quantities
from labkit.ground.names import dns1035_label, dns1123_subdomain, label_value, path_segment, qualified_name
from meshbox.api.builtin.internal import internal
from meshbox.api.builtin.resources import resource_name
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.vocabulary import CIDR
from meshbox.api.builtin.well_formed import NON_NEGATIVE, as_dict, as_list, label_selector
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, required
from meshbox.contracts import Obj
from meshbox.ip_texts import read_network

__all__: list[str] = []

_PEM = b"-----BEGIN CERTIFICATE REQUEST-----"
_LEVELS = ("privileged", "baseline", "restricted")
_SIGNER = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+/[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@call("resource_rule")
def _resource_rule(rule: Obj, path: str, causes: list[Cause], context: Context) -> None:
    urls = as_list(rule.get("nonResourceURLs"))
    if urls:
        if context.whole.get("kind") == "Role":
            detail = "namespaced rules cannot apply to non-resource URLs"
            causes.append(invalid(f"{path}.nonResourceURLs", urls, detail))
        if as_list(rule.get("apiGroups")) or as_list(rule.get("resources")) or as_list(rule.get("resourceNames")):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            causes.append(invalid(f"{path}.nonResourceURLs", urls, detail))
        return
    for field, word in (("apiGroups", "api group"), ("resources", "resource")):
        if not as_list(rule.get(field)):
            causes.append(required(f"{path}.{field}", f"resource rules must supply at least one {word}"))


@call("aggregated")
def _aggregated(selector: Any, path: str, causes: list[Cause], _context: Context) -> None:
    before = len(causes)
    label_selector(selector, path, causes)
    if len(causes) > before:
        causes.append(invalid(path, None, "invalid label selector."))


@call("anywhere")
def _anywhere(subject: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
        causes.append(required(f"{path}.namespace"))


@call("finalizer")
def _finalizer(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    said = qualified_name(text)
    if "/" not in text and text not in ("kubernetes", "orphan"):
        said.append("name is neither a standard finalizer name nor is it fully qualified")
    causes += [invalid(path, text, words) for words in said]


@call("pod_security")
def _pod_security(obj: Obj, _path: str, causes: list[Cause], _context: Context) -> None:
    labels, path = as_dict(as_dict(obj.get("metadata")).get("labels")), "metadata.labels"
    if any(label_value(text) for text in labels.values()):
        # The server asks this of labels that are sound.
        return
    for mode in ("enforce", "audit", "warn"):
        name = f"pod-security.kubernetes.io/{mode}"
        level, version = labels.get(name), labels.get(f"{name}-version")
        if level is not None and level not in _LEVELS:
            causes.append(invalid(f"{path}[{name}]", level, f"must be one of {', '.join(_LEVELS)}"))
        if version is not None and not re.fullmatch(r"latest|v1\.(0|[1-9][0-9]*)", version):
            causes.append(invalid(f"{path}[{name}-version]", version, 'must be "latest" or "v1.x"'))


@call("taints")
def _taints(taints: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    seen: list[tuple[Any, Any]] = []
    for index, one in enumerate(taints):
        check("V1Taint", one, f"{path}[{index}]", causes, context)
        pair = one.get("key"), one.get("effect")
        if pair in seen:
            cause = duplicate(f"{path}[{index}]", internal("api.core.v1.Taint", one))
            causes.append({**cause, "message": f"{cause['message']}: taints must be unique by key and effect pair"})
        seen.append(pair)


_SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


@call("priority")
def _priority(obj: Obj, _path: str, causes: list[Cause], _context: Context) -> None:
    name = as_dict(obj.get("metadata")).get("name") or ""
    value, error = _SYSTEM_PRIORITIES.get(name), ""
    if value is None:
        error = f"{name} is not a known system priority class"
    elif value != (obj.get("value") or 0):
        error = f"value of {name} PriorityClass must be {value}"
    elif obj.get("globalDefault"):
        error = f"globalDefault of {name} PriorityClass must be false"
    if name.startswith("system-") and error:
        detail = "priority class names with 'system-' prefix are reserved for system use only. "
        causes.append(forbidden("metadata.name", f"{detail}error: {error}"))
    if not name.startswith("system-") and (obj.get("value") or 0) > 10**9:
        detail = "maximum allowed value of a user defined priority is 1000000000"
        causes.append(forbidden("value", detail))


@call("certificate_request")
def _certificate_request(text: Any, path: str, causes: list[Cause], _context: Context) -> None:
    if _PEM not in base64.b64decode(text or ""):
        causes.append(invalid(path, text, "PEM block type must be CERTIFICATE REQUEST"))


@call("signer")
def _signer(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    if not _SIGNER.fullmatch(text):
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        causes.append(invalid(path, text, detail))


@call("lifetime")
def _lifetime(seconds: int, path: str, causes: list[Cause], _context: Context) -> None:
    if seconds < 600:
        causes.append(invalid(path, seconds, "may not specify a duration less than 600 seconds (10 minutes)"))


@call("api_service")
def _api_service(obj: Obj, _path: str, causes: list[Cause], _context: Context) -> None:
    spec, name = as_dict(obj.get("spec")), as_dict(obj.get("metadata")).get("name") or ""
    group, version = spec.get("group") or "", spec.get("version") or ""
    if name and not path_segment(name) and name != f"{version}.{group}":
        detail = f'must be `spec.version+"."+spec.group`: "{version}.{group}"'
        causes.append(invalid("metadata.name", name, detail))
    if group:
        causes += [invalid("spec.group", group, words) for words in dns1123_subdomain(group)]
    elif version != "v1":
        causes.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    causes += [invalid("spec.version", version, words) for words in dns1035_label(version)]
    for field, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = spec.get(field) or 0
        if not 0 < value <= most:
            causes.append(invalid(f"spec.{field}", value, f"must be positive and less than {most}"))
    service, where = spec.get("service"), "spec.service"
    if service is None:
        if spec.get("insecureSkipTLSVerify"):
            detail = "local APIServices may not have insecureSkipTLSVerify"
            causes.append(invalid("spec.insecureSkipTLSVerify", True, detail))
        if spec.get("caBundle"):
            size = f"{len(base64.b64decode(spec['caBundle']))} bytes"
            causes.append(invalid("spec.caBundle", size, "local APIServices may not have a caBundle"))
        return
    causes += [required(f"{where}.{field}") for field in ("namespace", "name") if not service.get(field)]
    port = service.get("port") or 0
    if not 1 <= port <= 65535:
        causes.append(invalid(f"{where}.port", port, "port is not valid: must be between 1 and 65535, inclusive"))
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        causes.append(invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))


@call("budget")
def _budget(spec: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        given = internal("api.policy.v1.PodDisruptionBudgetSpec", spec)
        causes.append(invalid(path, given, "minAvailable and maxUnavailable cannot be both set"))


@call("replicas")
def _replicas(spec: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if least is not None and least < 1:
        causes.append(invalid(f"{path}.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        causes.append(invalid(f"{path}.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        causes.append(invalid(f"{path}.maxReplicas", most, "must be greater than or equal to `minReplicas`"))


@call("scaling_to_zero")
def _scaling_to_zero(spec: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    kinds = {as_dict(one).get("type") for one in as_list(spec.get("metrics"))}
    if spec.get("minReplicas") == 0 and not kinds & {"Object", "External"}:
        detail = "must specify at least one Object or External metric to support scaling to zero replicas"
        causes.append(forbidden(f"{path}.metrics", detail))


@call("api_group")
def _api_group(text: Any, path: str, causes: list[Cause], context: Context) -> None:
    text = text or ""
    # Only what is scaled has to have a group, and an old controller has none.
    scaled = as_dict(as_dict(context.whole.get("spec")).get("scaleTargetRef")).get("kind")
    old = "beta" in context.version or scaled == "ReplicationController" or "scaleTargetRef" not in path
    if text.count("/") > 1:
        causes.append(invalid(path, text, f"unexpected GroupVersion string: {text}"))
    elif not text.partition("/")[2] and not old:
        causes.append(invalid(path, text, "apiVersion must specify API group"))


@call("metric")
def _metric(metric: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    kind = metric.get("type") or ""
    field = kind[:1].lower() + kind[1:]
    fields = ("containerResource", "external", "object", "pods", "resource")
    if field in fields and metric.get(field) is None:
        causes.append(required(f"{path}.{field}", "must populate information for the given metric source"))
    others = [name for name in fields if metric.get(name) is not None and name != field]
    if field in fields:
        causes += [forbidden(f"{path}.{name}", "must populate the given metric source only") for name in others]


@call("resource_target")
def _resource_target(metric: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    target, where = as_dict(metric.get("target")), f"{path}.target"
    share, amount = target.get("averageUtilization"), target.get("averageValue")
    if share is None and amount is None:
        detail = "must set either a target raw value or a target utilization"
        causes.append(required(f"{where}.averageUtilization", detail))
    elif share is not None and amount is not None:
        detail = "may not set both a target raw value and a target utilization"
        causes.append(forbidden(f"{where}.averageValue", detail))


@call("resource_name")
def _resource_name(name: str, path: str, causes: list[Cause], _context: Context) -> None:
    resource_name(name, path, causes)


@call("not_negative")
def _not_negative(value: Any, path: str, causes: list[Cause], _context: Context) -> None:
    if quantities.parse(value) < 0:
        causes.append(invalid(path, str(value), NON_NEGATIVE))


@call("amounts")
def _amounts(amounts: Obj, path: str, causes: list[Cause], context: Context) -> None:
    for name, value in amounts.items():
        _not_negative(value or 0, f"{path}.{name}", causes, context)


@call("overhead")
def _overhead(amounts: Obj, path: str, causes: list[Cause], context: Context) -> None:
    for name, value in amounts.items():
        _not_negative(value or 0, f"{path}[{name}]", causes, context)


@call("ranges")
def _ranges(given: list[Any], path: str, causes: list[Cause], _context: Context) -> None:
    for index, one in enumerate(given):
        causes += [] if read_network(one) else [invalid(f"{path}[{index}]", one or "", CIDR)]
    if len(given) > 1 and all(map(read_network, given)) and len({":" in one for one in given}) < len(given):
        causes.append(invalid(path, given, "may specify no more than one CIDR for each IP family"))


@call("runtime_tolerations")
def _runtime_tolerations(tolerations: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    for index, one in enumerate(tolerations):
        check("V1Toleration", one, f"{path}[{index}]", causes, context)
        if one in tolerations[:index]:
            causes.append(duplicate(f"{path}[{index}]", internal("api.core.v1.Toleration", one)))


@call("positive_amount")
def _positive_amount(value: Any, path: str, causes: list[Cause], _context: Context) -> None:
    if quantities.parse(value) <= 0:
        causes.append(invalid(path, value, "must be positive"))
