# SPDX-License-Identifier: Apache-2.0
"""What a real server warns of in objects that it takes, word by word."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshbox.api.options import WriteOptions
from meshbox.api.warnings import warnings_of
from meshbox.contracts import Obj
from tests.mesh.cluster import Cluster

POD = {"metadata": {"name": "p"}}
OLD_LABEL = 'deprecated since v1.14; use "kubernetes.io/os" instead'
NO_POD = "labelSelector: a null labelSelector results in matching no pod"
LABEL = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def of_pod(spec: str, annotations: Obj | None = None) -> list[str]:
    meta = {"name": "p", "annotations": annotations or {}}
    return warnings_of("pods", {"metadata": meta, "spec": yaml.safe_load(spec)}, None)


PODS: dict[str, list[str]] = {
    "{nodeSelector: {beta.kubernetes.io/os: linux, kubernetes.io/arch: arm64}}": [
        f"spec.nodeSelector[beta.kubernetes.io/os]: {OLD_LABEL}"
    ],
    """
    affinity:
      nodeAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: beta.kubernetes.io/os, operator: In, values: [a_]}]}]
        preferredDuringSchedulingIgnoredDuringExecution:
        - {weight: 1, preference: {matchExpressions: [{key: zone, operator: In, values: [a_]}]}}
      podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone}]}
      podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{podAffinityTerm: {topologyKey: a}}]}
    topologySpreadConstraints: [{topologyKey: beta.kubernetes.io/os}]
    """: [
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
        f".matchExpressions[0].key: beta.kubernetes.io/os is {OLD_LABEL}",
        "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0]"
        f".values[0]: a_ is invalid, {LABEL}",
        f"spec.topologySpreadConstraints[0].topologyKey: beta.kubernetes.io/os is {OLD_LABEL}",
        f"spec.topologySpreadConstraints[0].{NO_POD}",
        f"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].{NO_POD}",
        f"spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.{NO_POD}",
    ],
    "{volumes: [{name: a, gitRepo: {repository: r}}, {name: b, storageos: {volumeName: v}}]}": [
        "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
        "spec.volumes[1].storageOS: deprecated in v1.22, non-functional in v1.25+",
    ],
    """
    volumes:
    - {name: a, configMap: {name: c, items: [{key: x, path: d}, {key: y, path: d/e}, {key: z, path: de}]}}
    - name: b
      projected:
        sources:
        - {serviceAccountToken: {path: t}}
        - {}
        - {secret: {name: s, items: [{key: k, path: t/}]}}
        - {downwardAPI: {items: [{path: u}]}}
    """: [
        'volume "a" (ConfigMap "c"): overlapping paths: "d/e" with "d"',
        'volume "b" (Projected) has no sources provided',
        'volume "b" (Projected): overlapping paths: "t" (Secret "s") with "t" (ServiceAccountToken)',
    ],
    "{volumes: [{name: a, ephemeral: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 1500m}}}}}}]}": [
        "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value "
        '"1500m" is invalid, must be an integer'
    ],
    "{hostAliases: [{ip: 127.0.0.1}, {ip: 127.0.0.1}, {ip: 010.0.0.1}, {ip: '::ffff:1.2.3.4'}, {ip: 'FE80::1'}]}": [
        'spec.hostAliases[1].ip: duplicate ip "127.0.0.1"',
        'spec.hostAliases[2].ip: non-standard IP address "010.0.0.1" will be considered invalid in a future Kubernetes '
        'release: use "10.0.0.1"',
        'spec.hostAliases[3].ip: non-standard IP address "::ffff:1.2.3.4" will be considered invalid in a future '
        'Kubernetes release: use "1.2.3.4"',
        'spec.hostAliases[4].ip: IPv6 address "FE80::1" should be in RFC 5952 canonical format ("fe80::1")',
    ],
    "{imagePullSecrets: [{name: a}, {name: a}, {}]}": [
        'spec.imagePullSecrets[1].name: duplicate name "a"',
        'spec.imagePullSecrets[2].name: invalid empty name ""',
    ],
    # 100m of memory is a tenth of a byte, and what half of all beginners write once.
    "{containers: [{name: c, resources: {limits: {memory: 100m, cpu: 100m}, requests: {memory: 64Mi}}}]}": [
        'spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer'
    ],
    """
    initContainers: [{name: i, ports: [{name: web, containerPort: 80, protocol: TCP}]}]
    containers:
    - name: c
      ports:
      - {name: web, containerPort: 80, protocol: TCP}
      - {containerPort: 80, protocol: TCP, hostPort: 8080}
      - {containerPort: 80, protocol: UDP, hostIP: 1.2.3.4}
      - {containerPort: 80, protocol: TCP, hostPort: 8080, hostIP: 1.2.3.4}
    """: [
        "spec.containers[0].ports[0]: duplicate port definition with spec.initContainers[0].ports[0]",
        "spec.containers[0].ports[1]: overlapping port definition with spec.initContainers[0].ports[0]",
        "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
        "spec.containers[0].ports[2]: hostIP set without hostPort: "
        "{Name: HostPort:0 ContainerPort:80 Protocol:UDP HostIP:1.2.3.4}",
        "spec.containers[0].ports[3]: overlapping port definition with spec.initContainers[0].ports[0]",
        "spec.containers[0].ports[3]: overlapping port definition with spec.containers[0].ports[0]",
        "spec.containers[0].ports[3]: dangerously ambiguous port definition with spec.containers[0].ports[1]",
        'spec.containers[0].ports[0]: duplicate port name "web" with spec.initContainers[0].ports[0], services and '
        "probes that select ports by name will use spec.initContainers[0].ports[0]",
    ],
    "{containers: [{name: c, env: [{name: A, value: a}, {name: A, value: $(A)b}, {name: A, value: c}, {name: B}]}]}": [
        'spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply'
    ],
    "{containers: [{name: c, env: [{name: A, value: a}, {name: A, value: $(A)}]}]}": [
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'
    ],
    "{terminationGracePeriodSeconds: -1}": [
        "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
    ],
}


@pytest.mark.parametrize(("spec", "told"), PODS.items())
def test_what_is_hardly_meant_in_a_pod_is_told(spec: str, told: list[str]) -> None:
    assert of_pod(spec) == told
    template = {"spec": {"template": {"spec": yaml.safe_load(spec)}}}
    found = warnings_of("daemonsets.apps", {"metadata": {"name": "d"}, **template}, None)
    assert [one.replace("spec.template.spec.", "spec.") for one in found] == told


def test_annotations_in_place_of_fields_are_told() -> None:
    own = {f"{kind}seccomp.security.alpha.kubernetes.io/{of}": "x" for kind, of in (("", "pod"), ("container.", "c"))}
    armor = {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}
    old = {"scheduler.alpha.kubernetes.io/critical-pod": ""}
    spec = "{containers: [{name: c}]}"
    words = 'non-functional in v1.27+; use the "seccompProfile" field instead'
    said = [f"metadata.annotations[{name}]: {words}" for name in own]
    of_critical = 'non-functional in v1.16+; use the "priorityClassName" field instead'
    told = [f"metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: {of_critical}", *said]
    # Of a pod itself those for AppArmor become fields.
    assert of_pod(spec, own | armor | old) == told
    template = {"metadata": {"annotations": armor}, "spec": yaml.safe_load(spec)}
    found = warnings_of("daemonsets.apps", {"metadata": {"name": "d"}, "spec": {"template": template}}, None)
    assert found == [
        f'spec.template.metadata.annotations[{next(iter(armor))}]: deprecated since v1.30; use the "appArmorProfile" '
        "field instead"
    ]
    template["spec"]["securityContext"] = {"appArmorProfile": {"type": "Unconfined"}}
    assert warnings_of("daemonsets.apps", {"metadata": {"name": "d"}, "spec": {"template": template}}, None) == []


@pytest.mark.parametrize(
    ("resource", "whose"),
    [
        ("pods", "the Pod's hostname"),
        *((one, "Pod names and hostnames") for one in ("deployments.apps", "replicasets.apps", "jobs.batch")),
        ("replicationcontrollers", "Pod names and hostnames"),
    ],
)
def test_a_name_with_dots_is_told(resource: str, whose: str) -> None:
    told = (
        f"metadata.name: this is used in {whose}, which can result in surprising behavior; a DNS label is recommended: "
        "[must not contain dots]"
    )
    obj = {"metadata": {"name": "a.b"}, "spec": {}}
    assert warnings_of(resource, obj, None) == [told]
    assert warnings_of(resource, obj, obj) == []


OTHERS: list[tuple[str, str, list[str]]] = [
    ("services", "{type: ClusterIP, clusterIP: None, sessionAffinity: ClientIP, externalIPs: [1.2.3.4]}", [
        "spec.externalIPs is ignored for headless services", "spec.SessionAffinity is ignored for headless services"]),
    ("services", "{type: ClusterIP, externalName: a.b, trafficDistribution: PreferClose}", [
        'spec.externalName is ignored when spec.type is not "ExternalName"',
        'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"']),
    ("services", "{type: ExternalName, externalName: a.b, externalIPs: [01.2.3.4]}", [
        'spec.externalIPs[0]: non-standard IP address "01.2.3.4" will be considered invalid in a future Kubernetes '
        'release: use "1.2.3.4"',
        'spec.externalIPs is ignored when spec.type is "ExternalName"']),
    ("services", "{loadBalancerSourceRanges: [10.0.0.1/8, 010.0.0.0/8, '2001:DB8::/32', 10.0.0.0/8]}", [
        'spec.loadBalancerSourceRanges[0]: CIDR value "10.0.0.1/8" is ambiguous in this context (should be '
        '"10.0.0.0/8" or "10.0.0.1/32"?)',
        'spec.loadBalancerSourceRanges[1]: non-standard CIDR value "010.0.0.0/8" will be considered invalid in a '
        'future Kubernetes release: use "10.0.0.0/8"',
        'spec.loadBalancerSourceRanges[2]: IPv6 CIDR value "2001:DB8::/32" should be in RFC 5952 canonical format '
        '("2001:db8::/32")']),
    ("persistentvolumes", "{persistentVolumeReclaimPolicy: Recycle, rbd: {image: i}}", [
        "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended "
        "approach is to use dynamic provisioning.",
        "spec.rbd: deprecated in v1.28, non-functional in v1.31+"]),
    ("persistentvolumeclaims", "{resources: {requests: {storage: 1500m}, limits: {storage: 1Gi}}}", [
        'spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer']),
    ("statefulsets.apps", "{revisionHistoryLimit: -1, volumeClaimTemplates: [{spec: {resources: {requests: {storage: "
     "1m}}}}]}", [
        'spec.volumeClaimTemplates[0].resources.requests[storage]: fractional byte value "1m" is invalid, must be an '
        "integer",
        "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"]),
    ("jobs.batch", "{completionMode: Indexed, completions: 100001, parallelism: 10001}", [
        "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
        "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"]),
    ("resourcequotas", "{hard: {cpu: '2', limits.cpu: 1500m, requests.memory: 1Gi, limits.memory: 1Gi}}", [
        "ResourceQuota cpu (2) should be less than limits.cpu (1500m)"]),
    ("networkpolicies.networking.k8s.io", "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.1/16]}}]}"
     "]}", [
        'spec.ingress[0].from[0].ipBlock.except[0]: CIDR value "10.1.0.1/16" is ambiguous in this context (should be '
        '"10.1.0.0/16" or "10.1.0.1/32"?)']),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "spec", "told"), OTHERS)
def test_what_is_hardly_meant_in_other_kinds_is_told(resource: str, spec: str, told: list[str]) -> None:
    assert warnings_of(resource, {"metadata": {"name": "a"}, "spec": yaml.safe_load(spec)}, None) == told


@pytest.mark.parametrize(
    ("resource", "annotation", "spec", "told"),
    [
        ("services", "service.kubernetes.io/topology-aware-hints", {}, [
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use "
            "service.kubernetes.io/topology-mode instead"]),
        ("persistentvolumeclaims", "volume.beta.kubernetes.io/storage-class", {}, [
            "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "
            '"storageClassName" attribute instead']),
        ("ingresses.networking.k8s.io", "kubernetes.io/ingress.class", {}, [
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"]),
        ("ingresses.networking.k8s.io", "kubernetes.io/ingress.class", {"ingressClassName": "a"}, []),
        ("serviceaccounts", "kubernetes.io/enforce-mountable-secrets", {}, [
            "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate "
            "namespaces to isolate access to mounted secrets"]),
    ],
)  # fmt: skip
def test_annotations_of_other_kinds_are_told(resource: str, annotation: str, spec: Obj, told: list[str]) -> None:
    obj = {"metadata": {"name": "a", "annotations": {annotation: "x"}}, "spec": spec}
    assert warnings_of(resource, obj, None) == told


def block(kind: str, body: bytes = b"\0\0\0") -> bytes:
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (kind.encode(), base64.b64encode(body), kind.encode())


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        ("", "", "tls: failed to find any PEM data in certificate input"),
        ("PRIVATE KEY", "CERTIFICATE", "tls: failed to find certificate PEM data in certificate input, but did find a "
         "private key; PEM inputs may have been switched"),
        ("FOO", "PRIVATE KEY", 'tls: failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM '
         "blocks of the following types: [FOO]"),
        ("CERTIFICATE", "", "tls: failed to find any PEM data in key input"),
        ("CERTIFICATE", "CERTIFICATE", "tls: found a certificate rather than a key in the PEM for the private key"),
        ("CERTIFICATE", "FOO", 'tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input after '
         "skipping PEM blocks of the following types: [FOO]"),
        ("CERTIFICATE", "PRIVATE KEY", "x509: malformed certificate"),
    ],
)  # fmt: skip
def test_a_certificate_that_is_none_is_told(certificate: str, key: str, told: str) -> None:
    pems = {"tls.crt": block(certificate) if certificate else b"", "tls.key": block(key) if key else b"garbage"}
    data = {name: base64.b64encode(pem).decode() for name, pem in pems.items()}
    assert warnings_of("secrets", {"metadata": {}, "type": "kubernetes.io/tls", "data": data}, None) == [told]
    assert warnings_of("secrets", {"metadata": {}, "type": "Opaque", "data": data}, None) == []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Cluster(tmp_path_factory.mktemp("cluster"), "1.30.3")
    yield made
    made.close()


def deployment(name: str, **container: Any) -> Obj:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i", **container}]}}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}


def test_who_changes_something_else_is_not_told_again(cluster: Cluster) -> None:
    doubled = {"env": [{"name": "A"}, {"name": "A"}]}
    words = 'hides previous definition of "A", which may be dropped when using apply'
    told = f"spec.template.spec.containers[0].env[1]: {words}"

    def options() -> WriteOptions:
        return WriteOptions(validation="Strict")

    first, second, third = options(), options(), options()
    cluster.create("deployments.apps", deployment("again", **doubled), "bookinfo", options=first)
    assert first.warnings == [told]
    stored = cluster.get("deployments.apps", "again", "bookinfo")
    changed = {**stored, "metadata": {**stored["metadata"], "labels": {"x": "y"}}}
    cluster.update("deployments.apps", changed, options=second)
    assert second.warnings == []
    stored = cluster.get("deployments.apps", "again", "bookinfo")
    cluster.update("deployments.apps", {**stored, "spec": {**stored["spec"], "replicas": 3}}, options=third)
    assert third.warnings == [told]


def test_nobody_is_told_where_kubernetes_had_no_warnings(tmp_path: Path) -> None:
    cluster, options = Cluster(tmp_path, "1.2.2"), WriteOptions(validation="Strict")
    cluster.create(
        "deployments.apps", deployment("old", env=[{"name": "A"}, {"name": "A"}]), "bookinfo", options=options
    )
    assert options.warnings == []
    cluster.close()


def test_what_is_finer_than_a_thousandth_of_a_resource_is_rounded_up(cluster: Cluster) -> None:
    limits = {"cpu": "1500u", "memory": "0.5Ki", "ephemeral-storage": "64Mi"}
    volume = {"name": "v", "emptyDir": {"sizeLimit": "1500u"}}
    made = deployment("fine", resources={"limits": limits})
    made["spec"]["template"]["spec"]["volumes"] = [volume]
    cluster.create("deployments.apps", made, "bookinfo", options=WriteOptions(validation="Strict"))
    spec = cluster.get("deployments.apps", "fine", "bookinfo")["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "2m", "memory": "512", "ephemeral-storage": "64Mi"}
    assert spec["volumes"] == [{"name": "v", "emptyDir": {"sizeLimit": "1500u"}}]


def test_formats_that_nobody_looks_at_are_warned_of_once() -> None:
    def definition(*forms: str) -> dict[str, Any]:
        fields = {f"f{index}": {"type": "string", "format": one} for index, one in enumerate(forms)}
        fields["n"] = {"type": "integer", "format": "int32"}
        schema = {"type": "object", "properties": {"spec": {"type": "array", "items": {"properties": fields}}}}
        versions = [{"name": one, "schema": {"openAPIV3Schema": schema}} for one in ("v1", "v2")]
        return {"metadata": {}, "spec": {"versions": versions}}

    name, was = "customresourcedefinitions.apiextensions.k8s.io", definition("ip", "date-time")
    assert warnings_of(name, definition("nonsense", "ip", "uuid4"), None) == [
        'unrecognized format "ip"',
        'unrecognized format "nonsense"',
    ]
    assert warnings_of(name, definition("nonsense", "ip"), was) == ['unrecognized format "nonsense"']
