# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes' own strategies say of objects that were changed by chance, where the sandbox said other things."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from meshbox.api.builtin import validate_builtin
from meshbox.api.builtin.profiles import own_profiles
from meshbox.api.defaults import apply_defaults
from meshbox.ip_texts import read_ip, read_network
from meshbox.settings import SandboxSettings

IP, CIDR = (
    "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
)
ARMOR, SECCOMP = "container.apparmor.security.beta.kubernetes.io", "seccomp.security.alpha.kubernetes.io"
ONLY_ONE = "may not be set for init containers without restartPolicy=Always"


def said(kind: str, text: str, version: str = "v1", *, new: bool = True) -> list[str]:
    obj = {"metadata": {"name": "x"}, **yaml.safe_load(text)}
    return [f"{one['field']}: {one['message']}" for one in validate_builtin(version, kind, obj, new=new).errors]


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("010.0.0.1", "10.0.0.1"),
        ("1.2.3.04", "1.2.3.4"),
        ("::ffff:1.2.03.4", "1.2.3.4"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("0.0.0.0", "0.0.0.0"),
        ("1.2.3", None),
        ("1.2.3.4.5", None),
        ("1.2.3.256", None),
        ("fe80::1%eth0", None),
        ("", None),
        (7, None),
    ],
)
def test_an_address_is_read_as_kubernetes_reads_it(text: Any, ip: str | None) -> None:
    found = read_ip(text)
    assert (found and str(found)) == ip


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("010.0.0.1/08", "10.0.0.0/8"),
        ("::ffff:1.2.3.4/120", "1.2.3.0/24"),
        ("2001:DB8::1/32", "2001:db8::/32"),
        ("1.2.3.4/33", None),
        ("1.2.3.4/-1", None),
        ("1.2.3.4/255.0.0.0", None),
        ("1.2.3.4", None),
        (None, None),
    ],
)
def test_a_block_is_read_as_kubernetes_reads_it(text: Any, network: str | None) -> None:
    found = read_network(text)
    assert (found and str(found[1])) == network


@pytest.mark.parametrize(
    ("kind", "version", "text", "words"),
    [
        ("Pod", "v1", "spec: {containers: [{name: c, image: i}], hostAliases: [{ip: 010.0.0.1}, {ip: 1.2.3}], "
         "dnsConfig: {nameservers: [1.2.3.04]}}", [f'spec.hostAliases[1].ip: Invalid value: "1.2.3": {IP}']),
        ("Endpoints", "v1", "subsets: [{addresses: [{ip: 8.8.8.08}], notReadyAddresses: [{ip: 127.0.0.01}]}]", [
         'subsets[0].notReadyAddresses[0].ip: Invalid value: "127.0.0.01": may not be in the loopback range '
         "(127.0.0.0/8, ::1/128)"]),
        ("EndpointSlice", "discovery.k8s.io/v1", "{addressType: IPv6, endpoints: [{addresses: ['2001:DB8::1']}, "
         "{addresses: ['::ffff:1.2.3.4']}, {addresses: ['2001:db8::1']}, {addresses: ['169.254.0.1']}]}", [
         'endpoints[0].addresses[0]: Invalid value: "2001:DB8::1": must be in canonical form ("2001:db8::1")',
         'endpoints[1].addresses[0]: Invalid value: "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address',
         'endpoints[3].addresses: Invalid value: "169.254.0.1": must be an IPv6 address',
         'endpoints[3].addresses[0]: Invalid value: "169.254.0.1": may not be in the link-local range (169.254.0.0/16, '
         "fe80::/10)"]),
        ("NetworkPolicy", "networking.k8s.io/v1", "spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "
         "010.0.0.0/8, except: [10.1.0.1/16, 11.0.0.0/16, x]}}]}]}", [
         'spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`',
         f'spec.ingress[0].from[0].ipBlock.except[2]: Invalid value: "x": {CIDR}']),
        ("Service", "v1", "spec: {type: ClusterIP, sessionAffinity: None, ports: [{port: 80, protocol: TCP, "
         "targetPort: 80}], loadBalancerSourceRanges: [x]}", [
         "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
         f'spec.LoadBalancerSourceRanges[0]: Invalid value: "x": {CIDR}']),
        ("ReplicationController", "v1", "spec: {replicas: -1, minReadySeconds: -1}", [
         "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
         "spec.selector: Required value",
         "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
         "spec.template: Required value"]),
        ("Pod", "v1", "spec: {containers: [{name: c, image: i, readinessProbe: {tcpSocket: {port: 80}, "
         "terminationGracePeriodSeconds: 5}}]}", [
         "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for "
         "readinessProbes"]),
        ("Pod", "v1", "spec: {containers: [{name: c, image: i}], initContainers: [{name: a, image: i, ports: "
         "[{containerPort: 80, hostPort: 90}, {containerPort: 81, hostPort: 90}], lifecycle: {}}, {name: a, image: "
         "i}]}", [
         'spec.initContainers[0].ports[1].hostPort: Duplicate value: "TCP//90"',
         f"spec.initContainers[0].lifecycle: Forbidden: {ONLY_ONE}",
         'spec.initContainers[1].name: Duplicate value: "a"']),
        ("LimitRange", "v1", "spec: {limits: [{type: Container, max: {storage: 1Gi}, default: {odd: 1}}, {type: Pod, "
         "max: {cpu: '1'}, default: {cpu: '2'}}, {type: PersistentVolumeClaim}]}", [
         'spec.limits[0].max[storage]: Invalid value: "storage": must be a standard resource for containers',
         'spec.limits[0].default[odd]: Invalid value: "odd": must be a standard resource type or fully qualified',
         'spec.limits[0].default[odd]: Invalid value: "odd": must be a standard resource for containers',
         "spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'",
         "spec.limits[2].limits: Required value: either minimum or maximum storage value is required, but neither was "
         "provided"]),
        ("ResourceQuota", "v1", "spec: {hard: {pods: '1', services: '1', count/deployments.apps: 1500m}, scopes: "
         "[BestEffort, NotBestEffort]}", [
         'spec.hard[count/deployments.apps]: Invalid value: "1500m": must be an integer',
         'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: unsupported scope applied to resource',
         'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: unsupported scope applied to resource',
         'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes']),
        ("ResourceQuota", "v1", "spec: {hard: {cpu: '1'}, scopeSelector: {matchExpressions: [{scopeName: Terminating, "
         "operator: In, values: [a]}]}}", [
         "spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exists' when scope is any of "
         "ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
         "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"]),
        ("PriorityClass", "scheduling.k8s.io/v1", "{metadata: {name: system-node-critical}, value: 5, "
         "preemptionPolicy: Never}", [
         "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. "
         "error: value of system-node-critical PriorityClass must be 2000001000"]),
        ("Role", "rbac.authorization.k8s.io/v1", "{kind: Role, rules: [{verbs: [get], resources: [pods], "
         "nonResourceURLs: [/a]}]}", [
         'rules[0].nonResourceURLs: Invalid value: ["/a"]: namespaced rules cannot apply to non-resource URLs',
         'rules[0].nonResourceURLs: Invalid value: ["/a"]: rules cannot apply to both regular resources and '
         "non-resource URLs"]),
        ("CronJob", "batch/v1", "spec: {schedule: '@daily', jobTemplate: {spec: {backoffLimitPerIndex: 1, template: "
         "{spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}", [
         "spec.jobTemplate.spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"]),
    ],
)  # fmt: skip
def test_other_objects_are_judged_as_the_real_one_judges_them(
    kind: str, version: str, text: str, words: list[str]
) -> None:
    assert said(kind, text, version) == words


def test_an_ingress_names_one_class() -> None:
    text = "{metadata: {name: x, annotations: {kubernetes.io/ingress.class: istio}}, spec: {ingressClassName: other, "
    text += "defaultBackend: {service: {name: a, port: {number: 80}}}}}"
    words = "must match `ingressClassName` when both are specified"
    told = [f'annotations.kubernetes.io/ingress.class: Invalid value: "istio": {words}']
    assert said("Ingress", text, "networking.k8s.io/v1") == told
    assert said("Ingress", text, "networking.k8s.io/v1", new=False) == []


def test_only_what_is_mounted_has_options() -> None:
    key = "volume.beta.kubernetes.io/mount-options"
    text = "{metadata: {name: x, annotations: {%s: ro}}, spec: {accessModes: [ReadWriteOnce], %s}}"
    words = f"metadata.annotations.{key}: Forbidden: may not specify mount options for this volume type"
    assert said(
        "PersistentVolume", text % (key, "capacity: {storage: 1Gi}, hostPath: {path: /a}, volumeMode: Filesystem")
    ) == [words]
    assert (
        said(
            "PersistentVolume",
            text % (key, "capacity: {storage: 1Gi}, nfs: {server: a, path: /a}, volumeMode: Filesystem"),
        )
        == []
    )


@pytest.mark.parametrize("kind", ["Pod", "PodTemplate"])
@pytest.mark.parametrize(
    ("annotations", "security", "words"),
    [
        ({f"{ARMOR}/c": "localhost/a"}, {}, []),
        ({f"{ARMOR}/d": "odd"}, {}, [
            f'N[{ARMOR}/d]: Invalid value: "d": container not found',
            f'N[{ARMOR}/d]: Invalid value: "odd": invalid AppArmor profile name: "odd"']),
        ({f"{ARMOR}/c": "unconfined"}, {"appArmorProfile": {"type": "RuntimeDefault"}}, [
            "S.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field "
            "must match"]),
        ({f"{ARMOR}/c": "localhost/a"}, {"appArmorProfile": {"type": "Localhost", "localhostProfile": "b"}}, [
            "S.containers[0].securityContext.appArmorProfile.localhostProfile: Forbidden: apparmor profile in "
            "annotation and field must match"]),
        ({f"{SECCOMP}/pod": "docker/default", f"container.{SECCOMP}/c": "localhost/../a"}, {}, [
            f'N.container.{SECCOMP}/c: Invalid value: "../a": must not contain \'..\'']),
        ({f"container.{SECCOMP}/c": "odd"}, {"seccompProfile": {"type": "Unconfined"}}, [
            f'N.container.{SECCOMP}/c: Invalid value: "odd": must be a valid seccomp profile',
            "S.containers[0].securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must "
            "match"]),
        ({"controller.kubernetes.io/pod-deletion-cost": "01"}, {}, [
            'N[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "01": must be a 32bit integer']),
        ({"kubernetes.io/config.mirror": "a"}, {}, [
            'N[kubernetes.io/config.mirror]: Invalid value: "a": must set spec.nodeName if mirror pod annotation is '
            "set"]),
    ],
)  # fmt: skip
def test_annotations_of_pods_mean_what_they_say(
    kind: str, annotations: dict[str, str], security: dict[str, Any], words: list[str]
) -> None:
    pod = {"metadata": {"name": "x", "annotations": annotations}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    pod["spec"]["containers"][0]["securityContext"] = security
    of_pod = kind == "Pod"
    obj = pod if of_pod else {"metadata": {"name": "x"}, "template": pod}
    found = [f"{one['field']}: {one['message']}" for one in validate_builtin("v1", kind, obj).errors]
    noted, spec = ("metadata.annotations", "spec") if of_pod else ("template.annotations", "template.spec")
    assert found == [f"{noted if one[0] == 'N' else spec}{one[1:]}" for one in words]


def test_annotations_for_app_armor_become_fields_of_new_pods() -> None:
    names = {
        f"{ARMOR}/{one}": profile for one, profile in (("a", "unconfined"), ("b", "localhost/p"), ("c", "localhost/"))
    }
    own = {"type": "Unconfined"}
    containers: list[dict[str, Any]] = [{"name": one} for one in "abcd"]
    pod = {"metadata": {"annotations": names}, "spec": {"securityContext": {"appArmorProfile": own}}}
    pod["spec"]["containers"] = containers  # type: ignore[assignment]
    words = 'deprecated since v1.30; use the "appArmorProfile" field instead'
    assert own_profiles(pod) == [f"metadata.annotations[{ARMOR}/{one}]: {words}" for one in "bc"]
    profile = {"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}
    assert containers == [{"name": "a"}, {"name": "b", "securityContext": profile}, {"name": "c"}, {"name": "d"}]


def test_defaults_of_services_and_replication_controllers(modern: SandboxSettings) -> None:
    service = {"metadata": {"name": "a"}, "spec": {"externalIPs": ["1.2.3.4"]}}
    apply_defaults("services", service, modern)
    assert service["spec"]["externalTrafficPolicy"] == "Cluster"
    controller: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"selector": {}}}
    apply_defaults("replicationcontrollers", controller, modern)
    assert controller["spec"] == {"selector": {}, "replicas": 1}
