# SPDX-License-Identifier: Apache-2.0
"""What a container finds: its volumes, its environment, and no more than that."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from labkit.ground import quantity as quantities
from meshbox.node.environment import expand
from tests.node.conftest import Cluster, running

SLEEP = {"command": ["sleep", "infinity"]}


async def env_of(cluster: Cluster, name: str = "web") -> dict[str, str]:
    await cluster.until(cluster.ready)
    code, out, _ = await cluster.exec(["env"], name)
    assert code == 0
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("x$(A)$(A)y", "x11y"),
        ("$", "$"),
        ("$$", "$"),
        ("$(A", "$(A"),
    ],
)
def test_references_are_expanded_by_kubernetes_rules(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


@pytest.mark.parametrize(
    ("quantity", "divisor", "units"),
    [("100m", "1", 1), ("100m", "1m", 100), ("2", "1", 2), ("64Mi", "1Mi", 64), ("1G", "1", 10**9), ("1e3", "1", 1000)],
)
def test_quantities(quantity: str, divisor: str, units: int) -> None:
    assert quantities.share(quantity, divisor) == units


@pytest.mark.parametrize("quantity", ["", "abc", "1Zi", "--1"])
def test_bad_quantities(quantity: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantities.parse(quantity)


async def test_env_comes_from_everywhere_it_can(cluster: Cluster) -> None:
    cluster.objects.create("configmaps", {"metadata": {"name": "cm"}, "data": {"a": "1", "b": "2"}}, "default")
    secret = {"metadata": {"name": "se"}, "data": {"p": base64.b64encode(b"hush").decode()}}
    cluster.objects.create("secrets", secret, "default")
    service = {"metadata": {"name": "my-db"}, "spec": {"ports": [{"name": "sql", "port": 5432}]}}
    made = cluster.objects.create("services", service, "default")
    env: list[dict[str, Any]] = [
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "ALLCPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "c"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "se", "key": "p"}}},
        {"name": "MISSING", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": True}}},
        {"name": "BOTH", "value": "$(NODE)/$(X_a)/$(NOPE)"},
        {"name": "URL", "value": "tcp://$(MY_DB_SERVICE_HOST):$(MY_DB_SERVICE_PORT)"},
    ]
    body = {
        "metadata": {"name": "web", "labels": {"app": "shop"}},
        "spec": {
            "nodeName": cluster.settings.node_name,
            "containers": [
                {
                    "name": "c",
                    "image": "busybox",
                    **SLEEP,
                    "env": env,
                    "envFrom": [{"prefix": "X_", "configMapRef": {"name": "cm"}}],
                    "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}},
                }
            ],
        },
    }
    cluster.objects.create("pods", body, "default")
    seen = await env_of(cluster)
    ip = made["spec"]["clusterIP"]
    assert seen["NODE"] == cluster.settings.node_name
    assert seen["IP"] == seen["LABKIT_POD_IP"] == cluster.status()["podIP"]
    assert (seen["APP"], seen["CPU"], seen["MEM"], seen["ALLCPU"]) == ("shop", "250", "64", "1")
    assert (seen["SECRET"], seen["X_a"], seen["X_b"]) == ("hush", "1", "2")
    assert "MISSING" not in seen
    assert seen["BOTH"] == f"{cluster.settings.node_name}/1/$(NOPE)"
    assert seen["URL"] == f"tcp://{ip}:5432"
    assert seen["MY_DB_PORT_5432_TCP_ADDR"] == ip
    assert seen["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert seen["KUBERNETES_SERVICE_PORT"] == "443"
    assert seen["HOSTNAME"] == "web"


async def test_a_pod_in_the_node_s_network_has_the_node_s_name(cluster: Cluster) -> None:
    cluster.pod(hostNetwork=True, hostname="mine", container=SLEEP)
    seen = await env_of(cluster)
    assert (seen["HOSTNAME"], seen["LABKIT_POD_IP"]) == (cluster.settings.node_name, cluster.settings.plan.node)


async def test_nothing_of_the_users_environment_leaks(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "leak")
    cluster.pod(container=SLEEP)
    seen = await env_of(cluster)
    assert "AWS_SECRET_ACCESS_KEY" not in seen
    assert seen["HOME"].startswith(str(cluster.settings.pods_dir))
    assert seen["HOME"] != os.environ.get("HOME")
    assert cluster.settings.token not in "".join(seen.values())


async def test_addresses_tell_where_an_application_binds(cluster: Cluster) -> None:
    cluster.pod("plain", SLEEP)
    proxy = {"name": "istio-proxy", "image": "busybox", "command": ["sleep"], "args": ["infinity"]}
    sidecar = {**proxy, "command": ["sh", "-c", "sleep infinity"], "args": ["proxy", "sidecar"]}
    template = {**proxy, "command": ["sh", "-c", "sleep infinity"], "args": ["proxy", "--templateFile", "x"]}
    app = {"name": "c", "image": "busybox", **SLEEP}
    cluster.pod("meshed", containers=[app, sidecar])
    cluster.pod("pilot", containers=[app, template])
    for name in ("plain", "meshed", "pilot"):
        await cluster.until(lambda name=name: cluster.ready(name))
    for name, behind in (("plain", False), ("meshed", True), ("pilot", False)):
        seen = await env_of(cluster, name) if name == "web" else None
        code, out, _ = await cluster.exec(["env"], name)
        seen = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        local = cluster.settings.plan.local(seen["LABKIT_POD_IP"])
        assert code == 0
        assert seen["LABKIT_LOCAL_IP"] == local
        assert seen["LABKIT_BIND"] == (local if behind else seen["LABKIT_POD_IP"])
        assert seen.get("LABKIT_CAPTURE") == (f"{local}:15001" if behind else None)
    _, out, _ = await cluster.exec(["env"], "meshed", "istio-proxy")
    assert f"LABKIT_BIND={cluster.status('meshed')['podIP']}" in out
    assert "LABKIT_CAPTURE" not in out


async def test_volumes_of_every_kind(cluster: Cluster) -> None:
    cluster.objects.create("configmaps", {"metadata": {"name": "cm"}, "data": {"a.txt": "A", "b.txt": "B"}}, "default")
    secret = {"metadata": {"name": "se"}, "data": {"key.pem": base64.b64encode(b"K").decode()}}
    cluster.objects.create("secrets", secret, "default")
    volumes = [
        {"name": "empty", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "cm", "items": [{"key": "a.txt", "path": "deep/one.txt"}]}},
        {"name": "script", "configMap": {"name": "cm", "defaultMode": 0o755}},
        {"name": "secret", "secret": {"secretName": "se"}},
        {"name": "none", "secret": {"secretName": "absent", "optional": True}},
        {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"configMap": {"name": "cm"}},
                    {"secret": {"name": "se"}},
                    {"serviceAccountToken": {"path": "token", "audience": "istio-ca"}},
                ]
            },
        },
        {"name": "host", "hostPath": {"path": "/var/log"}},
    ]
    paths = {
        "empty": "/data",
        "config": "/etc/config",
        "script": "/opt/script",
        "secret": "/etc/certs",
        "none": "/etc/none",
        "info": "/etc/pod",
        "all": "/var/all",
        "host": "/var/log",
    }
    mounts: list[dict[str, Any]] = [{"name": name, "mountPath": path} for name, path in paths.items()]
    mounts.append({"name": "config", "mountPath": "/etc/one/file.txt", "subPath": "deep/one.txt"})
    body = {
        "metadata": {"name": "web", "labels": {"app": "x"}},
        "spec": {
            "nodeName": cluster.settings.node_name,
            "containers": [{"name": "c", "image": "busybox", **SLEEP, "volumeMounts": mounts}],
            "volumes": volumes,
        },
    }
    pod = cluster.objects.create("pods", body, "default")
    await cluster.until(cluster.ready)

    async def cat(path: str) -> str:
        code, out, err = await cluster.exec(["cat", path])
        assert code == 0, err
        return out

    assert await cat("/etc/config/deep/one.txt") == "A"
    assert await cat("/etc/one/file.txt") == "A"
    assert await cat("/etc/certs/key.pem") == "K"
    assert await cat("/etc/pod/labels") == 'app="x"'
    assert await cat("/var/all/b.txt") + await cat("/var/all/key.pem") == "BK"
    assert await cat("/var/all/token") == cluster.settings.xds_token
    code, out, _ = await cluster.exec(["sh", "-c", "echo made > /data/x && ls /data /etc/none && cat data/x"])
    assert (code, out.count("made")) == (0, 1)
    assert (await cluster.exec(["sh", "-c", "echo log > /var/log/l"]))[0] == 0
    assert (cluster.settings.home / "host" / "var" / "log" / "l").read_text() == "log\n"
    folder = cluster.settings.pods_dir / pod["metadata"]["uid"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "volumes" / "secret" / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "volumes" / "script" / "a.txt").stat().st_mode) == 0o700


async def test_volumes_follow_their_objects(cluster: Cluster) -> None:
    cluster.objects.create("configmaps", {"metadata": {"name": "cm"}, "data": {"k": "old"}}, "default")
    pod = cluster.pod(
        container={**SLEEP, "volumeMounts": [{"name": "v", "mountPath": "/etc/c"}]},
        volumes=[{"name": "v", "configMap": {"name": "cm"}}],
    )
    await cluster.until(cluster.ready)
    cluster.objects.patch("configmaps", "cm", {"data": {"k": "new", "more": "x"}}, "default")
    folder = cluster.settings.pods_dir / pod["metadata"]["uid"] / "volumes" / "v"
    await cluster.until(lambda: (folder / "k").read_text() == "new" and (folder / "more").exists())
    cluster.objects.patch("configmaps", "cm", {"data": {"more": None}}, "default")
    await cluster.until(lambda: not (folder / "more").exists())


async def test_a_part_that_is_mounted_alone_stays_while_the_container_runs(cluster: Cluster) -> None:
    """As with the kubelet: what is mounted by subPath is not brought up to date."""
    cluster.objects.create("configmaps", {"metadata": {"name": "cm"}, "data": {"k": "old"}}, "default")
    items = [{"key": "k", "path": "k"}, {"key": "k", "path": "below/k"}]
    mounts = [{"name": "v", "mountPath": "/all"}, {"name": "v", "mountPath": "/one/k", "subPath": "k"}]
    mounts.append({"name": "v", "mountPath": "/below", "subPath": "below"})
    cluster.pod(
        container={**SLEEP, "volumeMounts": mounts},
        volumes=[{"name": "v", "configMap": {"name": "cm", "items": items}}],
    )
    await cluster.until(cluster.ready)

    async def told(path: str) -> str:
        return (await cluster.exec(["cat", path]))[1]

    assert [await told(path) for path in ("/all/k", "/one/k", "/below/k")] == ["old", "old", "old"]
    cluster.objects.patch("configmaps", "cm", {"data": {"k": "new"}}, "default")
    folder = cluster.settings.pods_dir / cluster.objects.list("pods")[0]["metadata"]["uid"] / "volumes" / "v"
    await cluster.until(lambda: (folder / "below" / "k").read_text() == "new")
    assert [await told(path) for path in ("/all/k", "/one/k", "/below/k")] == ["new", "old", "old"]


async def test_a_volume_follows_the_pods_own_labels(cluster: Cluster) -> None:
    item = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    pod = cluster.pod(
        container={**SLEEP, "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "p", "mountPath": "/p"}]},
        volumes=[
            {"name": "v", "downwardAPI": {"items": [item]}},
            {"name": "p", "projected": {"sources": [{"downwardAPI": {"items": [item]}}]}},
        ],
    )
    await cluster.until(cluster.ready)
    cluster.objects.patch("pods", pod["metadata"]["name"], {"metadata": {"labels": {"late": "yes"}}}, "default")
    folder = cluster.settings.pods_dir / pod["metadata"]["uid"] / "volumes"
    for name in ("v", "p"):
        await cluster.until(lambda name=name: 'late="yes"' in (folder / name / "labels").read_text())


@pytest.mark.parametrize(
    ("volume", "problem"),
    [
        ({"nfs": {"server": "s", "path": "/"}}, "this node has no volumes of type nfs"),
        ({"configMap": {"name": "absent"}}, 'configmap "absent" not found'),
        ({"hostPath": {"path": "/a/../../etc"}}, 'must not contain ".."'),
        ({"persistentVolumeClaim": {"claimName": "absent"}}, 'persistentvolumeclaim "absent" not found'),
    ],
)
async def test_a_volume_that_cannot_be_is_told(cluster: Cluster, volume: dict[str, Any], problem: str) -> None:
    cluster.pod(
        container={**SLEEP, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v", **volume}]
    )
    await cluster.until(lambda: cluster.messages("FailedMount"))
    assert problem in cluster.messages("FailedMount")[0]


async def test_a_claim_is_the_folder_of_its_volume(cluster: Cluster) -> None:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data/one"}}
    cluster.objects.create("persistentvolumes", {"metadata": {"name": "one"}, "spec": spec})
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "one"}
    claim = cluster.objects.create("persistentvolumeclaims", {"metadata": {"name": "mine"}, "spec": asked}, "default")
    mounted = {
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "command": ["sh", "-c", "echo kept > /v/file; sleep 9999"],
    }
    cluster.pod(container=mounted, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "mine"}}])
    await cluster.until(lambda: cluster.messages("FailedMount"))
    assert 'PVC "mine" is not bound' in cluster.messages("FailedMount")[0]
    cluster.objects.update("persistentvolumeclaims", {**claim, "status": {"phase": "Bound"}}, subresource="status")
    await cluster.until(cluster.ready)
    file = cluster.settings.home / "host" / "data" / "one" / "file"
    await cluster.until(lambda: file.exists() and file.read_text() == "kept\n")


async def test_a_container_starts_each_run_with_a_clean_root_but_keeps_its_volumes(cluster: Cluster) -> None:
    cluster.pod(
        container={
            "command": [
                "sh",
                "-c",
                "ls; ls data; test -e data/kept && exec sleep 1000; touch litter data/kept; exit 1",
            ],
            "volumeMounts": [{"name": "v", "mountPath": "/data"}],
        },
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    await cluster.until(
        lambda: cluster.container().get("restartCount", 0) == 1 and "running" in cluster.container()["state"]
    )
    said = b""
    async for chunk in cluster.node.logs("default", "web", "c", follow=True):
        said += chunk
        if said.endswith(b"kept\n"):
            break
    assert said.decode().split() == ["data", "dev", "root", "tmp", "kept"]


@pytest.mark.parametrize("folder", ["a b'c\"d $HOME", "süß;#&*", "plain"])
async def test_a_script_finds_its_files_in_a_home_of_any_name(folder: str, tmp_path: Path) -> None:
    async with running(tmp_path / folder) as cluster:
        cluster.objects.create("configmaps", {"metadata": {"name": "cm"}, "data": {"a.txt": "found\n"}}, "default")
        script = "cat /etc/c/a.txt '/etc/c/a.txt' \"/etc/c/a.txt\"; cp /etc/c/a.txt /out/b; cat /out/b; sleep 1000"
        mounts = [{"name": "c", "mountPath": "/etc/c"}, {"name": "out", "mountPath": "/out"}]
        container = {"name": "c", "image": "busybox:1.28", "command": ["sh", "-c", script], "volumeMounts": mounts}
        volumes = [{"name": "c", "configMap": {"name": "cm"}}, {"name": "out", "emptyDir": {}}]
        cluster.pod(containers=[container], volumes=volumes)
        await cluster.until(cluster.ready)
        said = ""
        async for chunk in cluster.node.logs("default", "web", "c", follow=True):
            said += chunk.decode()
            if len(said) >= len("found\n" * 4):
                break
        assert said == "found\n" * 4
        assert await cluster.exec(["cat", "/out/b"]) == (0, "found\n", "")
