"""Write meshbox/api/data/kinds.json: the fields of Kubernetes' built-in kinds and their types.

The facts come from the `kubernetes` client's models; run it again after updating that package:

    python tools/generate_kind_tables.py

The result holds two tables. `kinds` maps "apps/v1/Deployment" to a type; `types` maps a type to its fields. A field's
type is written as in Go: "string", "int32", "[]V1Container", "{}string" (a map), with "!" at the end where the field is
required.
"""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Any

import kubernetes.client.models as models

TARGET = Path(__file__).parent.parent / "meshbox/api/data/kinds.json"

# Kinds the sandbox may serve, by group and version. A name that differs from "<Version><Kind>" follows the colon.
KINDS = {
    "v1": "ConfigMap Endpoints Event:CoreV1Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod "
    "PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount Binding",
    "admissionregistration.k8s.io/v1": "MutatingWebhookConfiguration ValidatingWebhookConfiguration "
    "ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding",
    "apiextensions.k8s.io/v1": "CustomResourceDefinition",
    "apiregistration.k8s.io/v1": "APIService",
    "apps/v1": "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet",
    "authentication.k8s.io/v1": "TokenReview TokenRequest:AuthenticationV1TokenRequest SelfSubjectReview",
    "authorization.k8s.io/v1": "LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview "
    "SubjectAccessReview",
    "autoscaling/v1": "HorizontalPodAutoscaler Scale",
    "autoscaling/v2": "HorizontalPodAutoscaler",
    "batch/v1": "CronJob Job",
    "certificates.k8s.io/v1": "CertificateSigningRequest",
    "coordination.k8s.io/v1": "Lease",
    "discovery.k8s.io/v1": "EndpointSlice",
    "events.k8s.io/v1": "Event:EventsV1Event",
    "networking.k8s.io/v1": "Ingress IngressClass NetworkPolicy",
    "node.k8s.io/v1": "RuntimeClass",
    "policy/v1": "Eviction PodDisruptionBudget",
    "rbac.authorization.k8s.io/v1": "ClusterRole ClusterRoleBinding Role RoleBinding",
    "scheduling.k8s.io/v1": "PriorityClass",
    "storage.k8s.io/v1": "CSIDriver CSINode StorageClass VolumeAttachment",
}

# Facts of the API that the client's models do not carry.
INT64 = {
    "generation",
    "observedGeneration",
    "activeDeadlineSeconds",
    "terminationGracePeriodSeconds",
    "runAsUser",
    "runAsGroup",
    "fsGroup",
    "fsUser",
    "tolerationSeconds",
    "expirationSeconds",
    "deletionGracePeriodSeconds",
    "startingDeadlineSeconds",
    "supplementalGroups",
    "revision",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minItems",
    "minLength",
    "minProperties",
    "gracePeriodSeconds",
    "limitBytes",
    "seconds",
}
QUANTITIES = {
    "limits",
    "requests",
    "capacity",
    "allocatable",
    "overhead",
    "hard",
    "used",
    "allocatedResources",
    "divisor",
    "sizeLimit",
    "default_",
    "defaultRequest",
    "max",
    "min",
    "maxLimitRequestRatio",
    "averageValue",
    "podFixed",
}
QUANTITY_FIELDS = {
    "V1LimitRangeItem.default",
    "V2MetricTarget.value",
    "V2MetricValueStatus.value",
    "V1ResourceFieldSelector.divisor",
    "V2HPAScalingRules.tolerance",
}
MICRO_TIMES = {"CoreV1Event.eventTime", "EventsV1Event.eventTime", "V1LeaseSpec.acquireTime", "V1LeaseSpec.renewTime"}
MICRO_TIMES |= {"CoreV1EventSeries.lastObservedTime", "EventsV1EventSeries.lastObservedTime"}
OVERRIDES = {
    "V1JSONSchemaProps.items": "schemaOrArray",
    "V1JSONSchemaProps.additionalItems": "schemaOrBool",
    "V1JSONSchemaProps.additionalProperties": "schemaOrBool",
    "V1JSONSchemaProps.dependencies": "any",
    "V1ObjectMeta.managedFields": "any",
}
# Strings with a Go type of their own, which the server names when it cannot decode them.
NAMED_STRINGS = {
    "V1PodSpec.restartPolicy": "RestartPolicy",
    "V1PodSpec.dnsPolicy": "DNSPolicy",
    "V1Container.imagePullPolicy": "PullPolicy",
    "V1Container.terminationMessagePolicy": "TerminationMessagePolicy",
    "V1ContainerPort.protocol": "Protocol",
    "V1ServicePort.protocol": "Protocol",
    "V1ServiceSpec.type": "ServiceType",
    "V1ServiceSpec.sessionAffinity": "ServiceAffinity",
    "V1ServiceSpec.externalTrafficPolicy": "ServiceExternalTrafficPolicy",
    "V1HTTPGetAction.scheme": "URIScheme",
    "V1Secret.type": "SecretType",
    "V1DeploymentStrategy.type": "DeploymentStrategyType",
    "V1StatefulSetSpec.podManagementPolicy": "PodManagementPolicyType",
    "V1Toleration.operator": "TolerationOperator",
    "V1Toleration.effect": "TaintEffect",
}


def field_type(model: str, name: str, annotation: Any) -> tuple[str, set[str]]:
    """The Go-like type of a field and the models it refers to."""
    where = f"{model}.{name}"
    if where in OVERRIDES:
        return OVERRIDES[where], {"V1JSONSchemaProps"} if "schema" in OVERRIDES[where] else set()
    if where in NAMED_STRINGS:
        return f"string:{NAMED_STRINGS[where]}", set()
    origin = typing.get_origin(annotation)
    arguments = [one for one in typing.get_args(annotation) if one is not type(None)]
    if origin is typing.Annotated:
        return field_type(model, name, arguments[0])
    if origin in (typing.Union, types.UnionType):
        inner = [field_type(model, name, one) for one in arguments]
        names = {one for one, _ in inner}
        if names == {"int32", "string"}:
            return "IntOrString", set()
        if "bytes" in names:
            return "bytes", set()
        if "float64" in names:
            return "float64", set()
        return inner[0] if len(inner) == 1 else ("any", set())
    if origin is list:
        inner_type, used = field_type(model, name, arguments[0])
        return f"[]{inner_type}", used
    if origin is dict:
        inner_type, used = field_type(model, name, arguments[1])
        if inner_type == "any":
            return "any", used
        return f"{{}}{inner_type}", used
    if hasattr(annotation, "model_fields"):
        return annotation.__name__, {annotation.__name__}
    kind = getattr(annotation, "__name__", "")
    if kind == "str":
        quantity = where in QUANTITY_FIELDS or (name in QUANTITIES and "Seccomp" not in model)
        return ("Quantity" if quantity else "string"), set()
    if kind == "int":
        return ("int64" if name in INT64 else "int32"), set()
    if kind == "datetime":
        return ("MicroTime" if where in MICRO_TIMES else "Time"), set()
    return {"bool": "bool", "bytes": "bytes", "float": "float64"}.get(kind, "any"), set()


def main() -> None:
    """Collect every type that the kinds reach and write the tables."""
    kinds: dict[str, str] = {}
    for group_version, names in KINDS.items():
        version = group_version.rsplit("/", 1)[-1]
        for entry in names.split():
            kind, _, model = entry.partition(":")
            kinds[f"{group_version}/{kind}"] = model or f"{version.capitalize()}{kind}"
    tables: dict[str, dict[str, str]] = {}
    waiting = [*kinds.values(), "V1DeleteOptions", "V1ObjectMeta"]
    while waiting:
        model = waiting.pop()
        if model in tables:
            continue
        fields = tables[model] = {}
        for python_name, info in getattr(models, model).model_fields.items():
            name = info.serialization_alias or python_name
            written, used = field_type(model, name, info.annotation)
            fields[name] = written + ("!" if info.is_required() else "")
            waiting.extend(used)
    TARGET.parent.mkdir(exist_ok=True)
    # One line a kind or type: short enough to load quickly, long enough to read a diff.
    types_text = ",\n".join(
        f"{json.dumps(name)}:{json.dumps(tables[name], separators=(',', ':'))}" for name in sorted(tables)
    )
    kinds_text = ",\n".join(f"{json.dumps(kind)}:{json.dumps(kinds[kind])}" for kind in sorted(kinds))
    TARGET.write_text(f'{{"kinds":{{\n{kinds_text}\n}},"types":{{\n{types_text}\n}}}}\n')
    print(f"{len(kinds)} kinds, {len(tables)} types, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
