# SPDX-License-Identifier: Apache-2.0
"""Validation of roles, webhook configurations, CustomResourceDefinitions, Ingresses and the like."""

from __future__ import annotations

from typing import Any

from labkit.ground.names import dns1035_label, dns1123_label, dns1123_subdomain, path_segment
from meshbox.api.builtin.well_formed import as_dict, as_list, label_selector, named, supported
from meshbox.api.problems import Cause, forbidden, invalid, not_supported, required
from meshbox.contracts import Obj

__all__ = ["CLUSTER"]

_RBAC = "rbac.authorization.k8s.io"
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")


def _role(obj: Obj, _version: str, causes: list[Cause]) -> None:
    for index, one in enumerate(as_list(obj.get("rules"))):
        where, rule = f"rules[{index}]", as_dict(one)
        if not as_list(rule.get("verbs")):
            causes.append(required(f"{where}.verbs", "verbs must contain at least one value"))
        if as_list(rule.get("nonResourceURLs")):
            if as_list(rule.get("apiGroups")) or as_list(rule.get("resources")):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                causes.append(invalid(f"{where}.nonResourceURLs", rule["nonResourceURLs"], detail))
            elif obj.get("kind") == "Role":
                detail = "namespaced rules cannot apply to non-resource URLs"
                causes.append(invalid(f"{where}.nonResourceURLs", rule["nonResourceURLs"], detail))
            continue
        for field, word in (("apiGroups", "api groups"), ("resources", "resources")):
            if not as_list(rule.get(field)):
                detail = f"resource rules must supply at least one {word.rstrip('s')}"
                causes.append(required(f"{where}.{field}", detail))


def _binding(obj: Obj, _version: str, causes: list[Cause]) -> None:
    reference = as_dict(obj.get("roleRef"))
    if reference.get("apiGroup") not in (None, "", _RBAC):
        causes.append(not_supported("roleRef.apiGroup", reference["apiGroup"], [_RBAC]))
    kinds = ["ClusterRole"] if obj.get("kind") == "ClusterRoleBinding" else ["ClusterRole", "Role"]
    if reference.get("kind") not in kinds:
        causes.append(not_supported("roleRef.kind", reference.get("kind") or "", kinds))
    named(reference.get("name"), "roleRef.name", path_segment, causes)
    for index, one in enumerate(as_list(obj.get("subjects"))):
        where, subject = f"subjects[{index}]", as_dict(one)
        kind = subject.get("kind")
        if kind not in ("ServiceAccount", "User", "Group"):
            causes.append(not_supported(f"{where}.kind", kind or "", ["ServiceAccount", "User", "Group"]))
        rule = dns1123_subdomain if kind == "ServiceAccount" else _anything
        named(subject.get("name"), f"{where}.name", rule, causes)
        if kind == "ServiceAccount" and not subject.get("namespace") and obj.get("kind") == "ClusterRoleBinding":
            causes.append(required(f"{where}.namespace"))


def _anything(_text: str) -> list[str]:
    return []


def _three_segments(text: str) -> list[str]:
    said = dns1123_subdomain(text)
    if not said and text.count(".") < 2:
        return ["should be a domain with at least three segments separated by dots"]
    return said


def _webhooks(obj: Obj, version: str, causes: list[Cause]) -> None:
    modern = version == "admissionregistration.k8s.io/v1"
    seen: set[str] = set()
    for index, one in enumerate(as_list(obj.get("webhooks"))):
        where, hook = f"webhooks[{index}]", as_dict(one)
        name = hook.get("name")
        named(name, f"{where}.name", _three_segments, causes)
        if modern and name in seen:
            causes.append(
                {"reason": "FieldValueDuplicate", "message": f'Duplicate value: "{name}"', "field": f"{where}.name"}
            )
        seen.add(name or "")
        for field in ("namespaceSelector", "objectSelector"):
            label_selector(hook.get(field), f"{where}.{field}", causes)
        supported(hook.get("failurePolicy"), f"{where}.failurePolicy", ("Fail", "Ignore"), causes)
        supported(hook.get("matchPolicy"), f"{where}.matchPolicy", ("Equivalent", "Exact"), causes)
        timeout = hook.get("timeoutSeconds")
        if timeout is not None and not 1 <= timeout <= 30:
            detail = "the timeout value must be between 1 and 30 seconds"
            causes.append(invalid(f"{where}.timeoutSeconds", timeout, detail))
        if modern:
            _reviewed(hook, where, causes)
        _client(as_dict(hook.get("clientConfig")), f"{where}.clientConfig", causes)
        for position, rule in enumerate(as_list(hook.get("rules"))):
            _operations(as_dict(rule), f"{where}.rules[{position}]", causes)


def _reviewed(hook: Obj, path: str, causes: list[Cause]) -> None:
    versions = as_list(hook.get("admissionReviewVersions"))
    if not versions:
        causes.append(required(f"{path}.admissionReviewVersions", "must specify one of v1, v1beta1"))
    elif not {"v1", "v1beta1"} & {one for one in versions if isinstance(one, str)}:
        detail = "must include at least one of v1, v1beta1"
        causes.append(invalid(f"{path}.admissionReviewVersions", versions, detail))
    effects = hook.get("sideEffects")
    if not effects:
        causes.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    supported(effects, f"{path}.sideEffects", ("None", "NoneOnDryRun"), causes)


def _client(config: Obj, path: str, causes: list[Cause]) -> None:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        causes.append(required(path, "exactly one of url or service is required"))
    elif service is not None:
        for field in ("name", "namespace"):
            if not as_dict(service).get(field):
                causes.append(required(f"{path}.service.{field}", f"service {field} is required"))
    elif not str(url).startswith("https://"):
        causes.append(
            invalid(f"{path}.url", url, "'https' is the only allowed URL scheme; desired format: https://host[/path]")
        )


def _operations(rule: Obj, path: str, causes: list[Cause]) -> None:
    for field in ("operations", "apiGroups", "apiVersions", "resources"):
        if not as_list(rule.get(field)):
            causes.append(required(f"{path}.{field}"))
    for index, one in enumerate(as_list(rule.get("operations"))):
        supported(one, f"{path}.operations[{index}]", _OPERATIONS, causes)


def _definition(obj: Obj, version: str, causes: list[Cause]) -> None:
    spec, name = as_dict(obj.get("spec")), as_dict(obj.get("metadata")).get("name")
    names = as_dict(spec.get("names"))
    group, plural = spec.get("group") or "", names.get("plural") or ""
    if name and name != f"{plural}.{group}":
        causes.append(invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    named(group, "spec.group", dns1123_subdomain, causes)
    if group and "." not in group:
        causes.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    scope = spec.get("scope")
    if scope:
        supported(scope, "spec.scope", ("Cluster", "Namespaced"), causes)
    elif version.endswith("/v1"):
        causes.append(required("spec.scope"))
    named(plural, "spec.names.plural", dns1035_label, causes)
    named(names.get("singular"), "spec.names.singular", dns1035_label, causes, needed=False)
    named((names.get("kind") or "").lower(), "spec.names.kind", dns1035_label, causes)
    for index, one in enumerate(as_list(names.get("shortNames"))):
        named(one, f"spec.names.shortNames[{index}]", dns1035_label, causes)
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        detail = "kind and listKind may not be the same"
        causes.append(invalid("spec.names.listKind", names["listKind"], detail))
    _versions(spec, version, causes)
    conversion = as_dict(spec.get("conversion"))
    supported(conversion.get("strategy"), "spec.conversion.strategy", ("None", "Webhook"), causes)


def _versions(spec: Obj, version: str, causes: list[Cause]) -> None:
    listed = [as_dict(one) for one in as_list(spec.get("versions"))]
    modern = version.endswith("/v1")
    if not listed:
        if modern or not spec.get("version"):
            causes.append(required("spec.versions"))
        return
    seen: set[str] = set()
    for index, one in enumerate(listed):
        where = f"spec.versions[{index}]"
        named(one.get("name"), f"{where}.name", dns1035_label, causes)
        if one.get("name") in seen:
            detail = "must contain unique version names"
            causes.append(invalid("spec.versions", [each.get("name") for each in listed], detail))
        seen.add(one.get("name") or "")
        schema = as_dict(one.get("schema")).get("openAPIV3Schema")
        if modern and schema is None:
            causes.append(required(f"{where}.schema.openAPIV3Schema", "schemas are required"))
        elif modern and schema is not None and as_dict(schema).get("type") != "object":
            if not as_dict(schema).get("type"):
                causes.append(required(f"{where}.schema.openAPIV3Schema.type", "must not be empty at the root"))
            else:
                detail = "must be object at the root"
                causes.append(invalid(f"{where}.schema.openAPIV3Schema.type", schema["type"], detail))
    if sum(1 for one in listed if one.get("storage")) != 1:
        detail = "must have exactly one version marked as storage version"
        causes.append(invalid("spec.versions", [one.get("name") for one in listed], detail))


def _ingress(obj: Obj, version: str, causes: list[Cause]) -> None:
    spec = as_dict(obj.get("spec"))
    rules = as_list(spec.get("rules"))
    modern = version == "networking.k8s.io/v1"
    if not rules and spec.get("defaultBackend") is None and spec.get("backend") is None:
        causes.append(invalid("spec", rules, "either `defaultBackend` or `rules` must be specified"))
    for index, one in enumerate(rules):
        where, rule = f"spec.rules[{index}]", as_dict(one)
        host = rule.get("host")
        named((host or "").removeprefix("*."), f"{where}.host", dns1123_subdomain, causes, needed=False)
        for position, path in enumerate(as_list(as_dict(rule.get("http")).get("paths"))):
            _ingress_path(as_dict(path), f"{where}.http.paths[{position}]", modern, causes)


def _ingress_path(path: Obj, where: str, modern: bool, causes: list[Cause]) -> None:
    kind, text = path.get("pathType"), path.get("path")
    kinds = ("Exact", "ImplementationSpecific", "Prefix")
    if modern and not kind:
        causes.append(required(f"{where}.pathType", "pathType must be specified"))
    supported(kind, f"{where}.pathType", kinds, causes)
    if text and not text.startswith("/") and kind != "ImplementationSpecific":
        causes.append(invalid(f"{where}.path", text, "must be an absolute path"))
    backend = as_dict(path.get("backend"))
    if modern and backend.get("service") is not None:
        service = as_dict(backend["service"])
        named(service.get("name"), f"{where}.backend.service.name", dns1035_label, causes)
        port = as_dict(service.get("port"))
        if not port.get("name") and not port.get("number"):
            causes.append(required(f"{where}.backend", "port name or number is required"))
    elif modern and backend.get("resource") is None:
        causes.append(required(f"{where}.backend", "either service or resource is required"))


def _network_policy(obj: Obj, _version: str, causes: list[Cause]) -> None:
    spec = as_dict(obj.get("spec"))
    label_selector(spec.get("podSelector"), "spec.podSelector", causes)
    for index, one in enumerate(as_list(spec.get("policyTypes"))):
        supported(one, f"spec.policyTypes[{index}]", ("Egress", "Ingress"), causes)


def _priority(obj: Obj, _version: str, causes: list[Cause]) -> None:
    name = as_dict(obj.get("metadata")).get("name") or ""
    if not name.startswith("system-") and (obj.get("value") or 0) > 10**9:
        detail = "maximum allowed value of a user defined priority is 1000000000"
        causes.append(forbidden("value", detail))
    supported(obj.get("preemptionPolicy"), "preemptionPolicy", ("Never", "PreemptLowerPriority"), causes)


def _storage_class(obj: Obj, _version: str, causes: list[Cause]) -> None:
    if not obj.get("provisioner"):
        causes.append(required("provisioner"))
    supported(obj.get("reclaimPolicy"), "reclaimPolicy", ("Delete", "Recycle", "Retain"), causes)


def _lease(obj: Obj, _version: str, causes: list[Cause]) -> None:
    seconds = as_dict(obj.get("spec")).get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        causes.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))


def _namespace(obj: Obj, _version: str, causes: list[Cause]) -> None:
    for index, one in enumerate(as_list(as_dict(obj.get("spec")).get("finalizers"))):
        if one and "/" not in one and one not in ("kubernetes", "orphan"):
            causes.append(
                invalid(
                    f"spec.finalizers[{index}]",
                    one,
                    "name is neither a standard finalizer name nor is it fully qualified",
                )
            )


def _ingress_class(obj: Obj, _version: str, causes: list[Cause]) -> None:
    parameters = as_dict(as_dict(obj.get("spec")).get("parameters"))
    for field in ("kind", "name"):
        named(parameters.get(field), f"spec.parameters.{field}", path_segment, causes, needed=bool(parameters))
    named(parameters.get("namespace"), "spec.parameters.namespace", dns1123_label, causes, needed=False)


CLUSTER: dict[str, Any] = {
    "ClusterRole": _role,
    "ClusterRoleBinding": _binding,
    "CustomResourceDefinition": _definition,
    "Ingress": _ingress,
    "IngressClass": _ingress_class,
    "Lease": _lease,
    "MutatingWebhookConfiguration": _webhooks,
    "Namespace": _namespace,
    "NetworkPolicy": _network_policy,
    "PriorityClass": _priority,
    "Role": _role,
    "RoleBinding": _binding,
    "StorageClass": _storage_class,
    "ValidatingWebhookConfiguration": _webhooks,
}
"""Kind → its validation: called with the object, its apiVersion and where to add causes."""
