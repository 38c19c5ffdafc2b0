# SPDX-License-Identifier: Apache-2.0
"""Write meshbox/api/data/kinds.json: the fields of Kubernetes' built-in kinds and their types.

The fields come from the `kubernetes` client's models, which know neither the width of a number nor what a string holds;
these come from the field numbers that `tools/generate_protobuf_tables.py` writes. Run both again after updating that
package:

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

from meshbox.api.codec.fields import Field, fields_of, is_message, message_of

TARGET = Path(__file__).parent.parent / "meshbox/api/data/kinds.json"

# Kinds the sandbox may serve, by group and version. A name that differs from "<Version><Kind>" follows the colon.
KINDS = {
    "v1": "ConfigMap Endpoints Event:CoreV1Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod "
    "PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount Binding ComponentStatus",
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
    "flowcontrol.apiserver.k8s.io/v1": "FlowSchema PriorityLevelConfiguration",
    "networking.k8s.io/v1": "Ingress IngressClass IPAddress NetworkPolicy ServiceCIDR",
    "node.k8s.io/v1": "RuntimeClass",
    "policy/v1": "Eviction PodDisruptionBudget",
    "rbac.authorization.k8s.io/v1": "ClusterRole ClusterRoleBinding Role RoleBinding",
    "resource.k8s.io/v1": "DeviceClass ResourceClaim:ResourceV1ResourceClaim ResourceClaimTemplate ResourceSlice",
    "scheduling.k8s.io/v1": "PriorityClass",
    "storage.k8s.io/v1": "CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass",
}

# Facts of the API that neither the client's models nor the field numbers carry.
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

# Fields that the client's models have, and Kubernetes 1.35, which is played, does not know.
YOUNGER = {
    *("V1CSIDriverSpec.preventPodSchedulingIfMissing", "V1CSINode.status", "V1ClusterTrustBundleProjection.user"),
    *("V1ConfigMapVolumeSource.defaultUser", "V1Device.nodeAllocatableResources", "V1DeviceAttribute.bools"),
    *("V1DeviceAttribute.ints", "V1DeviceAttribute.strings", "V1DeviceAttribute.versions"),
    *("V1DeviceCounterConsumption.compatibilityGroups", "V1DeviceRequestAllocationResult.skipNodeOperations"),
    *("V1DeviceSubRequest.derivedAttributes", "V1DownwardAPIVolumeFile.user", "V1DownwardAPIVolumeSource.defaultUser"),
    *("V1EmptyDirVolumeSource.mode", "V1ExactDeviceRequest.derivedAttributes", "V1GRPCAction.mode"),
    *("V1HTTPGetAction.protocol", "V1JobSpec.scheduling", "V1KeyToPath.user", "V1NodeSpec.podPreemptionPolicy"),
    *("V1NodeSystemInfo.runningInUserNamespace", "V1PersistentVolumeClaimStatus.healthStatus"),
    *("V1PodCertificateProjection.user", "V1PodSpec.evictionResponders", "V1PodSpec.schedulingGroup"),
    *("V1PodStatus.nodeAllocatableResourceClaimStatuses", "V1PodStatus.volumeHealth"),
    *("V1ProjectedVolumeSource.defaultUser", "V1ResourceHealth.message", "V1ResourceSliceSpec.partitionTypeAttribute"),
    *("V1ResourceSliceSpec.skipNodeOperations", "V1SecretVolumeSource.defaultUser"),
    *("V1ServiceAccountTokenProjection.user", "V1VolumeMount.bindMountOptions", "V1VolumeMountStatus.volumeStatus"),
    "V2HorizontalPodAutoscalerCondition.observedGeneration",
}
# What it needs not, and what only it needs.
OPTIONAL = {
    *("V1ControllerRevision.data", "V1CronJob.spec", "V1DaemonSet.spec", "V1Deployment.spec", "V1FlowSchema.spec"),
    *("V1FlowSchemaCondition.type", "V1HorizontalPodAutoscaler.spec", "V2HorizontalPodAutoscaler.spec"),
    *("V1IPAddress.spec", "V1LimitedPriorityLevelConfiguration.limitResponse", "V1PriorityLevelConfiguration.spec"),
    *(
        "V1PriorityLevelConfigurationCondition.type",
        "V1ReplicaSet.spec",
        "V1StatefulSet.spec",
        "V1TokenReviewSpec.token",
    ),
    *("V1ValidatingAdmissionPolicyBinding.spec", "V1ValidatingAdmissionPolicyBindingSpec.policyName"),
    "V1ValidatingAdmissionPolicyBindingSpec.validationActions",
}
REQUIRED = {
    *(f"V1{kind}Condition.{name}" for kind in KINDS["apps/v1"].split()[1:] for name in ("status", "type")),
    *("V1ControllerRevision.revision", "V1DeviceClass.spec", "V1EndpointSlice.endpoints", "V1PriorityClass.value"),
    *("V1PodDisruptionBudgetStatus.currentHealthy", "V1PodDisruptionBudgetStatus.desiredHealthy"),
    *("V1PodDisruptionBudgetStatus.disruptionsAllowed", "V1PodDisruptionBudgetStatus.expectedPods"),
    *("ResourceV1ResourceClaim.spec", "V1ResourceClaimTemplate.spec", "V1ResourceClaimTemplateSpec.spec"),
    "V1RoleRef.apiGroup",
}

SCALARS = {
    "str": "string",
    "int": "int32",
    "datetime": "Time",
    "bool": "bool",
    "bytes": "bytes",
    "float": "float64",
}


def field_type(model: str, name: str, annotation: Any) -> tuple[str, set[str]]:
    """The Go-like type of a field, as far as its annotation tells, and the models it refers to."""
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
    return SCALARS.get(kind, "any"), set()


def exact(written: str, field: Field | None) -> str:
    """A type as the client's models give it, with the kind of number, text or time that the field is."""
    bare = written.lstrip("[]{}")
    if field is None or bare not in SCALARS.values() or field.type in ("JSON", "") or is_message(field.type):
        return written
    return written.removesuffix(bare) + {"double": "float64"}.get(field.type, field.type)


def named(message: str) -> dict[str, Field]:
    """The fields of a message by their names in JSON, those that it shows of others' included."""
    found: dict[str, Field] = {}
    for field in fields_of(message).values() if message else ():
        found |= {field.name: field} if field.name else named(field.type)
    return found


def tables() -> str:
    """The text of the tables: every type that the kinds reach."""
    kinds: dict[str, str] = {}
    waiting = [("V1DeleteOptions", message_of("v1", "DeleteOptions"))]
    for group_version, names in KINDS.items():
        version = group_version.rsplit("/", 1)[-1]
        for entry in names.split():
            kind, _, model = entry.partition(":")
            kinds[f"{group_version}/{kind}"] = model or f"{version.capitalize()}{kind}"
            waiting.append((kinds[f"{group_version}/{kind}"], message_of(group_version, kind)))
    types_: dict[str, dict[str, str]] = {}
    while waiting:
        model, message = waiting.pop()
        if model in types_:
            continue
        fields, numbered = types_.setdefault(model, {}), named(message)
        for python_name, info in getattr(models, model).model_fields.items():
            name = info.serialization_alias or python_name
            where = f"{model}.{name}"
            if where in YOUNGER:
                continue
            written, used = field_type(model, name, info.annotation)
            field = numbered.get(name)
            needed = where in REQUIRED or (info.is_required() and where not in OPTIONAL)
            fields[name] = exact(written, field) + ("!" if needed else "")
            inner = field.type if field is not None and is_message(field.type) else ""
            waiting.extend((one, inner) for one in used)
    # One line a kind or type: short enough to load quickly, long enough to read a diff.
    types_text = ",\n".join(
        f"{json.dumps(name)}:{json.dumps(types_[name], separators=(',', ':'))}" for name in sorted(types_)
    )
    kinds_text = ",\n".join(f"{json.dumps(kind)}:{json.dumps(kinds[kind])}" for kind in sorted(kinds))
    return f'{{"kinds":{{\n{kinds_text}\n}},"types":{{\n{types_text}\n}}}}\n'


def main() -> None:
    """Write the tables."""
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(tables(), encoding="utf-8")
    print(f"{TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
