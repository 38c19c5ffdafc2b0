# SPDX-License-Identifier: Apache-2.0
"""What the server fills in, for a Kubernetes of today and of Istio 1.2's time."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from meshbox.api.builtin import validate_builtin
from meshbox.api.defaults import apply_defaults
from meshbox.api.defaults_pod import pull_policy
from meshbox.settings import SandboxSettings

POD_SPEC = {
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def with_defaults(resource: str, obj: dict[str, Any], settings: SandboxSettings) -> dict[str, Any]:
    apply_defaults(resource, obj, settings)
    once = copy.deepcopy(obj)
    apply_defaults(resource, obj, settings)
    assert obj == once, "defaults of an object that has them change nothing"
    return obj


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
        ("a..b", "IfNotPresent"),
        ("a__b/c--d.e", "Always"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_a_deployment(deployment: dict[str, Any], modern: SandboxSettings) -> None:
    spec = with_defaults("deployments.apps", deployment, modern)["spec"]
    template = spec.pop("template")["spec"]
    assert spec == {
        "selector": {"matchLabels": {"app": "web"}},
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
    }
    [container] = template.pop("containers")
    assert template == POD_SPEC
    assert container == {
        "name": "web",
        "image": "nginx:1.27",
        "imagePullPolicy": "IfNotPresent",
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }


def test_a_client_decides_before_the_defaults(deployment: dict[str, Any], modern: SandboxSettings) -> None:
    deployment["spec"].update(replicas=0, strategy={"type": "Recreate"}, revisionHistoryLimit=0)
    spec = with_defaults("deployments.apps", deployment, modern)["spec"]
    assert (spec["replicas"], spec["strategy"], spec["revisionHistoryLimit"]) == (0, {"type": "Recreate"}, 0)


def test_containers(modern: SandboxSettings) -> None:
    container = {
        "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80}},
        "livenessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 2},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
    }
    volumes = [
        {"name": "a"},
        {"name": "b", "secret": {"secretName": "s"}},
        {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
    ]
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "volumes": volumes}}
    spec = with_defaults("pods", pod, modern)["spec"]
    [made] = spec["containers"]
    assert made["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert made["readinessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert made["livenessProbe"]["periodSeconds"] == 2
    assert made["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert made["resources"]["requests"] == {"cpu": "100m", "memory": "1Gi"}
    assert spec["volumes"][:3] == [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "secret": {"secretName": "s", "defaultMode": 420}},
        {
            "name": "c",
            "projected": {
                "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
                "defaultMode": 420,
            },
        },
    ]


def new_pod(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "b:1"}]
    return {"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": containers, **spec}}


def test_a_new_pod_is_given_its_accounts_token(modern: SandboxSettings) -> None:
    pod = with_defaults("pods", new_pod(), modern)
    spec = pod["spec"]
    [volume] = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert [next(iter(one)) for one in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    mount = {"name": volume["name"], "readOnly": True, "mountPath": TOKEN_PATH}
    assert spec["containers"][0]["volumeMounts"] == [mount]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    assert spec["enableServiceLinks"] is True
    assert [one["key"] for one in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert not validate_builtin("v1", "Pod", pod)
    # A sidecar that admission adds afterwards shares the volume.
    spec["containers"].append({"name": "sidecar", "image": "c:1"})
    apply_defaults("pods", pod, modern)
    assert spec["containers"][1]["volumeMounts"] == [mount]
    assert len(spec["volumes"]) == 1


def test_a_pod_can_do_without_a_token(modern: SandboxSettings) -> None:
    spec = with_defaults("pods", new_pod(automountServiceAccountToken=False), modern)["spec"]
    assert "volumes" not in spec
    assert "volumeMounts" not in spec["containers"][0]


def test_a_stored_pod_is_given_the_tolerations_of_all_and_nothing_more(modern: SandboxSettings) -> None:
    pod = new_pod(tolerations=[])
    pod["metadata"]["resourceVersion"] = "7"
    spec = with_defaults("pods", pod, modern)["spec"]
    keys = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
    assert ([one["key"] for one in spec["tolerations"]], "volumes" in spec) == (keys, False)


def test_a_pod_of_old_mounts_the_secret_of_its_account(legacy: SandboxSettings) -> None:
    pod = new_pod(serviceAccountName="robot")
    apply_defaults("pods", pod, legacy, lambda namespace, name: f"{name}-token-{namespace}")
    spec = pod["spec"]
    assert spec["volumes"] == [{"name": "robot-token-n", "secret": {"secretName": "robot-token-n", "defaultMode": 420}}]
    assert spec["containers"][0]["volumeMounts"][0]["mountPath"] == TOKEN_PATH
    assert "preemptionPolicy" not in spec
    assert "volumes" not in with_defaults("pods", new_pod(), legacy)["spec"]


@pytest.mark.parametrize(
    ("resource", "obj", "path", "wanted"),
    [
        ("replicasets.apps", {"spec": {}}, "spec.replicas", 1),
        (
            "daemonsets.apps",
            {"spec": {}},
            "spec.updateStrategy",
            {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        ),
        ("statefulsets.apps", {"spec": {}}, "spec.podManagementPolicy", "OrderedReady"),
        ("jobs.batch", {"spec": {}}, "spec.completions", 1),
        ("jobs.batch", {"spec": {"parallelism": 2}}, "spec.completions", None),
        ("jobs.batch", {"spec": {}}, "spec.backoffLimit", 6),
        ("cronjobs.batch", {"spec": {}}, "spec.concurrencyPolicy", "Allow"),
        (
            "services",
            {"spec": {"ports": [{"port": 80}]}},
            "spec.ports",
            [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        ),
        ("services", {"spec": {}}, "spec.type", "ClusterIP"),
        ("services", {"spec": {}}, "spec.sessionAffinity", "None"),
        ("services", {"spec": {}}, "spec.internalTrafficPolicy", "Cluster"),
        ("services", {"spec": {"type": "LoadBalancer"}}, "spec.externalTrafficPolicy", "Cluster"),
        ("services", {"spec": {"type": "LoadBalancer"}}, "spec.allocateLoadBalancerNodePorts", True),
        ("services", {"spec": {"type": "ExternalName"}}, "spec.ipFamilies", None),
        (
            "services",
            {"spec": {"sessionAffinity": "ClientIP"}},
            "spec.sessionAffinityConfig",
            {"clientIP": {"timeoutSeconds": 10800}},
        ),
        ("secrets", {}, "type", "Opaque"),
        ("persistentvolumeclaims", {"spec": {}}, "spec.volumeMode", "Filesystem"),
        (
            "persistentvolumeclaims",
            {"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "p"}}},
            "spec.dataSourceRef",
            {"kind": "PersistentVolumeClaim", "name": "p"},
        ),
        ("persistentvolumeclaims", {"spec": {"dataSource": {"kind": "Other", "name": "p"}}}, "spec.dataSource", None),
        (
            "persistentvolumeclaims",
            {"spec": {"dataSourceRef": {"apiGroup": "a.b", "kind": "Other", "name": "p"}}},
            "spec.dataSource",
            {"apiGroup": "a.b", "kind": "Other", "name": "p"},
        ),
        ("persistentvolumes", {"spec": {"iscsi": {}}}, "spec.iscsi", {"iscsiInterface": "default"}),
        (
            "persistentvolumes",
            {"spec": {"azureDisk": {"fsType": ""}}},
            "spec.azureDisk",
            {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "", "readOnly": False},
        ),
        ("nodes", {"spec": {"podCIDRs": ["10.0.0.0/24"]}}, "spec.podCIDR", "10.0.0.0/24"),
        ("nodes", {"status": {"capacity": {"cpu": "4"}}}, "status.allocatable", {"cpu": "4"}),
        ("serviceaccounts", {"secrets": [{"name": "s", "namespace": "n"}]}, "secrets", [{"name": "s"}]),
        (
            "replicationcontrollers",
            {"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}},
            "metadata.labels",
            {"a": "b"},
        ),
        (
            "jobs.batch",
            {"spec": {"manualSelector": True, "template": {"metadata": {"labels": {"a": "b"}}}}},
            "metadata.labels",
            {"a": "b"},
        ),
        (
            "csidrivers.storage.k8s.io",
            {"spec": {"volumeLifecycleModes": []}},
            "spec.volumeLifecycleModes",
            ["Persistent"],
        ),
        (
            "runtimeclasses.node.k8s.io",
            {"scheduling": {"tolerations": [{"key": "k"}]}},
            "scheduling.tolerations",
            [{"key": "k"}],
        ),
        # Of features that are off.
        (
            "statefulsets.apps",
            {"spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}}},
            "spec.updateStrategy.rollingUpdate",
            {"partition": 0},
        ),
        ("leases.coordination.k8s.io", {"spec": {"strategy": "S", "preferredHolder": "p"}}, "spec", {}),
        (
            "endpointslices.discovery.k8s.io",
            {"endpoints": [{"addresses": ["1.2.3.4"], "deprecatedTopology": {"a": "b"}}]},
            "endpoints",
            [{"addresses": ["1.2.3.4"]}],
        ),
        ("horizontalpodautoscalers.autoscaling", {"spec": {}}, "spec.minReplicas", 1),
        (
            "customresourcedefinitions.apiextensions.k8s.io",
            {"spec": {"names": {"kind": "Foo"}}},
            "spec.names",
            {"kind": "Foo", "singular": "foo", "listKind": "FooList"},
        ),
        ("customresourcedefinitions.apiextensions.k8s.io", {"spec": {}}, "spec.conversion", {"strategy": "None"}),
        ("networkpolicies.networking.k8s.io", {"spec": {"egress": [{}]}}, "spec.policyTypes", ["Ingress", "Egress"]),
        (
            "rolebindings.rbac.authorization.k8s.io",
            {"roleRef": {"kind": "Role"}},
            "roleRef.apiGroup",
            "rbac.authorization.k8s.io",
        ),
    ],
)
def test_other_kinds(resource: str, obj: dict[str, Any], path: str, wanted: Any, modern: SandboxSettings) -> None:
    found: Any = with_defaults(resource, obj, modern)
    for name in path.split("."):
        found = found.get(name)
    assert found == wanted


def test_webhooks_then_and_now(modern: SandboxSettings, legacy: SandboxSettings) -> None:
    resource = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
    hook = {"name": "a.b.c", "clientConfig": {"service": {"name": "s"}}, "rules": [{"operations": ["CREATE"]}]}
    obj = {"kind": "MutatingWebhookConfiguration", "webhooks": [copy.deepcopy(hook)]}
    assert with_defaults(resource, obj, modern)["webhooks"] == [
        {
            "name": "a.b.c",
            "clientConfig": {"service": {"name": "s", "port": 443}},
            "rules": [{"operations": ["CREATE"], "scope": "*"}],
            "namespaceSelector": {},
            "objectSelector": {},
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "timeoutSeconds": 10,
            "reinvocationPolicy": "Never",
        }
    ]
    obj = {"kind": "MutatingWebhookConfiguration", "webhooks": [copy.deepcopy(hook)]}
    [made] = with_defaults(resource, obj, legacy)["webhooks"]
    assert (made["failurePolicy"], made["timeoutSeconds"], made["admissionReviewVersions"]) == (
        "Ignore",
        30,
        ["v1beta1"],
    )
    assert "matchPolicy" not in made


def test_services_of_old_have_no_families(legacy: SandboxSettings) -> None:
    spec = with_defaults("services", {"spec": {"ports": [{"port": 80, "targetPort": "web"}]}}, legacy)["spec"]
    assert spec == {
        "ports": [{"port": 80, "targetPort": "web", "protocol": "TCP"}],
        "type": "ClusterIP",
        "sessionAffinity": "None",
    }


def test_ports_of_templates_are_not_the_nodes(modern: SandboxSettings, legacy: SandboxSettings) -> None:
    def ports(resource: str, settings: SandboxSettings) -> list[dict[str, Any]]:
        spec = {"hostNetwork": True, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}
        obj: dict[str, Any] = {"metadata": {}, "spec": spec if resource == "pods" else {"template": {"spec": spec}}}
        apply_defaults(resource, obj, settings)
        found: list[dict[str, Any]] = spec["containers"][0]["ports"]  # type: ignore[index]
        return found

    assert ports("pods", modern) == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]
    assert ports("daemonsets.apps", modern) == [{"containerPort": 80, "protocol": "TCP"}]
    assert ports("daemonsets.apps", legacy) == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]


def test_what_else_a_pod_is_given(modern: SandboxSettings) -> None:
    spec = {
        "terminationGracePeriodSeconds": -1,
        "resources": {"limits": {"cpu": "1"}},
        "volumes": [
            {"name": "i", "image": {"reference": "r"}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
            {"name": "p", "projected": {"sources": [{"clusterTrustBundle": {"path": "a"}}]}},
        ],
    }
    pod = {"metadata": {"resourceVersion": "1"}, "spec": spec}
    apply_defaults("pods", pod, modern)
    assert spec["terminationGracePeriodSeconds"] == 1
    assert spec["resources"] == {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}
    image, claim, projected = spec["volumes"]  # type: ignore[misc]
    assert image["image"]["pullPolicy"] == "Always"  # type: ignore[index]
    assert claim["ephemeral"]["volumeClaimTemplate"]["spec"] == {"volumeMode": "Filesystem"}  # type: ignore[index]
    assert projected["projected"]["sources"] == [{}]  # type: ignore[index]
