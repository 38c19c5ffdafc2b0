# SPDX-License-Identifier: Apache-2.0
"""The `kubernetes` Python client against the API server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import kubernetes as k8s
import pytest
from kubernetes.client.exceptions import ApiException

from .conftest import CRDS, Cluster, crd, eventually


@pytest.fixture
async def call(cluster: Cluster) -> Any:
    """Run a function of the client (which blocks) in a thread, with an API client for the cluster."""
    client = k8s.config.new_client_from_config(str(cluster.settings.home / "kubeconfig"))

    async def run(function: Callable[[k8s.client.ApiClient], Any]) -> Any:
        return await asyncio.to_thread(function, client)

    yield run
    client.close()


def deployment() -> k8s.client.V1Deployment:
    labels = {"app": "web"}
    container = k8s.client.V1Container(name="web", image="nginx")
    return k8s.client.V1Deployment(
        metadata=k8s.client.V1ObjectMeta(name="web"),
        spec=k8s.client.V1DeploymentSpec(
            selector=k8s.client.V1LabelSelector(match_labels=labels),
            template=k8s.client.V1PodTemplateSpec(
                metadata=k8s.client.V1ObjectMeta(labels=labels), spec=k8s.client.V1PodSpec(containers=[container])
            ),
        ),
    )


async def test_typed_objects(call: Any) -> None:
    def work(client: k8s.client.ApiClient) -> None:
        apps, core = k8s.client.AppsV1Api(client), k8s.client.CoreV1Api(client)
        created = apps.create_namespaced_deployment("default", deployment())
        assert created.metadata.uid
        assert created.spec.strategy.rolling_update.max_surge == "25%"
        created.spec.replicas = 3
        assert apps.replace_namespaced_deployment("web", "default", created).metadata.generation == 2
        with pytest.raises(ApiException) as caught:
            apps.replace_namespaced_deployment("web", "default", created)
        assert (caught.value.status, caught.value.reason) == (409, "Conflict")
        patch = {"spec": {"replicas": 4}}
        assert apps.patch_namespaced_deployment("web", "default", patch).spec.replicas == 4
        assert apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 5}}).spec.replicas == 5
        assert [one.metadata.name for one in core.list_namespace().items][:1] == ["default"]
        gone = apps.delete_namespaced_deployment("web", "default")
        # Clients up to 36 make an object of the Status.
        assert (gone["status"] if isinstance(gone, dict) else gone.status) == "Success"

    await call(work)


async def test_custom_objects(cluster: Cluster, call: Any) -> None:
    cluster.objects.create(CRDS, crd())

    def work(client: k8s.client.ApiClient) -> None:
        custom = k8s.client.CustomObjectsApi(client)
        where = ("example.com", "v1", "default", "widgets")
        body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}
        custom.create_namespaced_custom_object(*where, body)
        assert custom.patch_namespaced_custom_object(*where, "w", {"spec": {"size": 2}})["spec"] == {"size": 2}
        assert len(custom.list_namespaced_custom_object(*where)["items"]) == 1
        custom.delete_namespaced_custom_object(*where, "w")

    await call(work)


async def test_a_watch(cluster: Cluster, call: Any) -> None:
    seen: list[tuple[str, str]] = []
    ready = threading.Event()

    def work(client: k8s.client.ApiClient) -> None:
        core = k8s.client.CoreV1Api(client)
        watch = k8s.watch.Watch()
        ready.set()
        for event in watch.stream(core.list_namespaced_config_map, "default", timeout_seconds=600):
            seen.append((event["type"], event["object"].metadata.name))
            if len(seen) == 3:
                watch.stop()

    watching = asyncio.ensure_future(call(work))
    await eventually(lambda: len(cluster.server.watches), "the client watches")
    cluster.objects.create("configmaps", {"metadata": {"name": "a"}})
    cluster.objects.patch("configmaps", "a", {"data": {"x": "y"}})
    cluster.objects.delete("configmaps", "a")
    await asyncio.wait_for(watching, 120)
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_the_dynamic_client_applies(call: Any) -> None:
    def work(client: k8s.client.ApiClient) -> None:
        dynamic = k8s.dynamic.DynamicClient(client)
        maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}}
        applied = maps.server_side_apply(body=body, name="a", namespace="default", field_manager="me")
        assert applied.metadata.managedFields[0].manager == "me"
        assert maps.get(name="a", namespace="default").data.x == "1"

    await call(work)
