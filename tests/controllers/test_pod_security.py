# SPDX-License-Identifier: Apache-2.0
"""Pod Security Standards: what a Kubernetes 1.35.4 refuses and warns of, in its words."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.options import WriteOptions
from meshbox.contracts import ApiError, Obj
from meshbox.controllers.pod_security.standards import violations

from .conftest import Cluster, deployment

LABEL = "pod-security.kubernetes.io/"
GOOD: Obj = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
NOTHING = (
    'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
    'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
    'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
    'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" '
    'or "Localhost")'
)


def pod(spec: Obj | None = None, **container: Any) -> Obj:
    one = {"name": "c", "image": "busybox", **container}
    return {"metadata": {"name": "p"}, "spec": {"containers": [one], **(spec or {})}}


def context(**changed: Any) -> Obj:
    return pod(securityContext={**GOOD, **changed})


def said(obj: Obj, level: str = "restricted", version: int = 35) -> str:
    return ", ".join(f"{reason} ({detail})" for reason, detail in violations(obj, level, version))


MUST_NOT = 'container "c" must not set securityContext.'


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (context(), ""),
        (pod(), NOTHING),
        (
            pod({"hostNetwork": True, "hostPID": True}, securityContext=GOOD),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (context(privileged=True), f"privileged ({MUST_NOT}privileged=true)"),
        (
            context(capabilities={"drop": ["ALL"], "add": ["NET_RAW", "NET_ADMIN", "NET_BIND_SERVICE"]}),
            'unrestricted capabilities (container "c" must not include "NET_ADMIN", "NET_RAW" in '
            "securityContext.capabilities.add)",
        ),
        (context(runAsNonRoot=False), f"runAsNonRoot != true ({MUST_NOT}runAsNonRoot=false)"),
        (context(runAsUser=0), 'runAsUser=0 (container "c" must not set runAsUser=0)'),
        (
            context(seccompProfile={"type": "Unconfined"}),
            f'seccompProfile ({MUST_NOT}seccompProfile.type to "Unconfined")',
        ),
        (
            context(seLinuxOptions={"type": "spc_t", "user": "u"}),
            'seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; '
            "user may not be set)",
        ),
        (
            context(appArmorProfile={"type": "Unconfined"}),
            'forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined")',
        ),
        (
            pod(securityContext=GOOD, ports=[{"hostPort": 8080}, {"hostPort": 80}]),
            'hostPort (container "c" uses hostPorts 80, 8080)',
        ),
        (
            pod(securityContext=GOOD, livenessProbe={"httpGet": {"port": 1, "host": "1.2.3.4"}}),
            'probe or lifecycle host (container "c" uses probe or lifecycle host "1.2.3.4")',
        ),
        (
            pod(
                {"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}]},
                securityContext=GOOD,
            ),
            'restricted volume types (volume "a" uses restricted volume type "hostPath")',
        ),
        (
            pod(
                {"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}},
                securityContext=GOOD,
            ),
            "forbidden sysctls (kernel.msgmax)",
        ),
        # Whose users are nobody outside of it may be root in it, and a pod's own word holds for its containers.
        (pod({"hostUsers": False}, securityContext={**GOOD, "runAsUser": 0, "runAsNonRoot": None}), ""),
        (pod({"securityContext": {"runAsNonRoot": True}}, securityContext={**GOOD, "runAsNonRoot": None}), ""),
    ],
)
def test_what_restricted_forbids(obj: Obj, words: str) -> None:
    assert said(obj) == words


def test_baseline_forbids_less_and_privileged_nothing() -> None:
    assert said(pod(), "baseline") == ""
    adding = context(capabilities={"add": ["NET_ADMIN"]})
    words = 'container "c" must not include "NET_ADMIN" in securityContext.capabilities.add'
    assert said(adding, "baseline") == f"non-default capabilities ({words})"
    mounting = pod({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]})
    assert said(mounting, "baseline") == 'hostPath volumes (volume "a")'
    assert said(mounting, "privileged") == said(adding, "privileged") == ""


def test_a_standard_of_an_earlier_version_is_that_versions() -> None:
    tuned = pod({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}})
    assert (said(tuned, "baseline", 31), said(tuned, "baseline", 32)) == ("forbidden sysctls (net.ipv4.tcp_rmem)", "")
    root = context(runAsUser=0)
    assert (said(root, version=22), said(root, version=99) != "") == ("", True)


def labelled(cluster: Cluster, **modes: str) -> list[str]:
    """A namespace "n" with such labels; what its maker is warned of."""
    options = WriteOptions("kubectl", validation="Warn")
    labels = {f"{LABEL}{mode.replace('_', '-')}": value for mode, value in modes.items()}
    body = {"metadata": {"name": "n", "labels": labels}}
    if (known := cluster.objects.find("namespaces", "n")) is None:
        cluster.objects.create("namespaces", body, options=options)
    else:
        cluster.objects.update(
            "namespaces", {**known, "metadata": {**known["metadata"], "labels": labels}}, options=options
        )
    return options.warnings


def warned(cluster: Cluster, resource: str, obj: Obj) -> list[str]:
    options = WriteOptions("kubectl", validation="Warn")
    cluster.objects.create(resource, {**obj, "metadata": {**obj["metadata"], "namespace": "n"}}, options=options)
    return options.warnings


async def test_a_pod_beyond_what_is_enforced_is_refused_and_who_makes_such_is_warned(cluster: Cluster) -> None:
    assert labelled(cluster, enforce="restricted") == []
    with pytest.raises(ApiError) as refused:
        warned(cluster, "pods", pod())
    words = f'pods "p" is forbidden: violates PodSecurity "restricted:latest": {NOTHING}'
    assert (refused.value.code, refused.value.message) == (403, words)
    assert warned(cluster, "pods", context()) == []
    (told,) = warned(cluster, "deployments.apps", deployment())
    assert told.startswith('would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false (')
    await cluster.until(lambda: cluster.events("FailedCreate", "n"))
    assert 'violates PodSecurity "restricted:latest"' in cluster.events("FailedCreate", "n")[0]


async def test_who_only_warns_refuses_nothing(cluster: Cluster) -> None:
    labelled(cluster, warn="restricted", warn_version="v1.24", audit="restricted")
    (told,) = warned(cluster, "pods", pod())
    assert told == f'would violate PodSecurity "restricted:v1.24": {NOTHING}'
    labelled(cluster, enforce="baseline", warn="privileged")
    assert warned(cluster, "pods", {**pod(), "metadata": {"name": "q"}}) == []


async def test_who_asks_more_of_a_namespace_is_told_which_pods_break_it(cluster: Cluster) -> None:
    labelled(cluster)
    for name in ("b", "a", "c"):
        warned(cluster, "pods", {**pod(), "metadata": {"name": name}})
    warned(cluster, "pods", {**context(), "metadata": {"name": "good"}})
    assert labelled(cluster, enforce="baseline") == []
    assert labelled(cluster, enforce="restricted") == [
        'existing pods in namespace "n" violate the new PodSecurity enforce level "restricted:latest"',
        "a (and 2 other pods): allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, "
        "seccompProfile",
    ]
    assert labelled(cluster, enforce="baseline") == []


async def test_a_label_that_says_nothing_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ApiError) as refused:
        labelled(cluster, enforce="strict", warn_version="1.2")
    assert refused.value.message == (
        f'Namespace "n" is invalid: [metadata.labels[{LABEL}enforce]: Invalid value: "strict": must be one of '
        f"privileged, baseline, restricted, metadata.labels[{LABEL}warn-version]: Invalid value: "
        '"1.2": must be "latest" or "v1.x"]'
    )
