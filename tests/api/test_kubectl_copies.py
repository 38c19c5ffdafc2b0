# SPDX-License-Identifier: Apache-2.0
"""What the real kubectl copies through protobuf arrives whole: nothing that the original says is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from .conftest import KUBECTL, Cluster

pytestmark = pytest.mark.skipif(not Path(KUBECTL).exists(), reason="kubectl is not installed beside Python")

# What a template may say and small examples do not.
WHOLE_SPEC = """
restartPolicy: Never
hostAliases: [{ip: 10.1.2.3, hostnames: [a.b, c.d]}]
setHostnameAsFQDN: false
hostUsers: false
dnsPolicy: None
dnsConfig: {nameservers: [1.2.3.4], options: [{name: ndots, value: "2"}]}
readinessGates: [{conditionType: a.b/c}]
topologySpreadConstraints:
- {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {a: b}}}
affinity:
  nodeAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - {weight: 1, preference: {matchExpressions: [{key: disk, operator: In, values: [ssd]}]}}
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - {topologyKey: zone, labelSelector: {matchExpressions: [{key: a, operator: Exists}]}}
containers:
- name: c
  image: curl:1
  lifecycle:
    preStop: {exec: {command: [sleep, "1"]}}
    postStart: {httpGet: {path: /, port: 80, scheme: HTTP}}
  livenessProbe: {grpc: {port: 99, service: s}}
  env:
  - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: c, divisor: 1m}}}
  resources: {limits: {cpu: 65m}}
  securityContext: {seccompProfile: {type: RuntimeDefault}, seLinuxOptions: {level: s0}, procMount: Default}
  volumeMounts:
  - {name: all, mountPath: /all, subPathExpr: $(CPU), mountPropagation: None}
  - {name: tokens, mountPath: /tokens, recursiveReadOnly: Disabled, readOnly: true}
volumes:
- name: all
  projected:
    defaultMode: 256
    sources:
    - configMap: {name: m, optional: true, items: [{key: k, path: p, mode: 0}]}
    - secret: {name: s, optional: false}
    - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels, apiVersion: v1}}]}
    - serviceAccountToken: {path: t, audience: a, expirationSeconds: 600}
- name: tokens
  downwardAPI: {items: [{path: n, fieldRef: {fieldPath: metadata.name, apiVersion: v1}}], defaultMode: 420}
- name: scratch
  ephemeral:
    volumeClaimTemplate:
      metadata: {labels: {a: b}}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""


async def test_create_job_from_a_cron_job_copies_all(cluster: Cluster) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": yaml.safe_load(WHOLE_SPEC)}
    job = {
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [3]}}]},
        "template": template,
    }
    body = {
        "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": "@daily", "jobTemplate": {"spec": job}},
    }
    cluster.objects.create("cronjobs.batch", body)
    run = await cluster.kubectl("create", "job", "--from=cronjob/tick", "now")
    assert run.out == "job.batch/now created\n"
    expected = cluster.objects.get("cronjobs.batch", "tick")["spec"]["jobTemplate"]["spec"]
    made = cluster.objects.get("jobs.batch", "now")["spec"]
    assert made["template"]["spec"] == expected["template"]["spec"]
    assert (made["podFailurePolicy"], made["backoffLimit"]) == (expected["podFailurePolicy"], 0)


async def test_debug_copies_all_of_a_pod(cluster: Cluster) -> None:
    made = {"metadata": {"name": "p", "namespace": "default"}, "spec": yaml.safe_load(WHOLE_SPEC)}
    cluster.objects.create("pods", made)
    await cluster.kubectl(
        "debug",
        "p",
        "--copy-to=q",
        "--image=busybox:1",
        "--container=look",
        "--attach=false",
        "--keep-liveness",
        "--profile=general",
    )
    original, copied = cluster.objects.get("pods", "p")["spec"], cluster.objects.get("pods", "q")["spec"]
    # kubectl's own changes to a copy.
    [kept, _] = copied.pop("containers")
    [first] = original.pop("containers")
    assert {**kept, "livenessProbe": None} == {**first, "livenessProbe": None}
    assert {**copied, "nodeName": ""} == {**original, "nodeName": "", "shareProcessNamespace": True}
