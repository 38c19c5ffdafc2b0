# SPDX-License-Identifier: Apache-2.0
"""What a Kubernetes 1.35.4 answers to patches, and whom it writes down as the owner of which field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.api.objects import ObjectStore
from meshbox.api.options import WriteOptions
from meshbox.contracts import Obj

from .conftest import Cluster, Reply, pod


class TestWhatAServerSaysOfPatches:
    """Each line was played on a Kubernetes 1.35.4."""

    URL = "/api/v1/namespaces/default/configmaps/a"

    async def _patched(self, cluster: Cluster, kind: str, patch: Any, query: str = "") -> Reply:
        await cluster.request(
            "POST", self.URL.removesuffix("/a"), {"metadata": {"name": "a", "labels": {"a": "b"}}, "data": {"x": "y"}}
        )
        headers = {"Content-Type": f"application/{kind}+json"}
        return await cluster.request("PATCH", f"{self.URL}{query}", patch, headers=headers)

    @pytest.mark.parametrize(
        ("kind", "patch", "code", "message"),
        [
            ("json-patch", "null", 200, ""),
            ("json-patch", [{"op": "replace", "path": "/metadata/labels/z", "value": "1"}], 200, ""),
            ("json-patch", [{"op": "copy", "from": "/metadata/labels/z", "path": "/metadata/labels/y"}], 200, ""),
            (
                "json-patch",
                [{"op": "move", "from": "/metadata/labels/z", "path": "/metadata/labels/y"}],
                422,
                "the server",
            ),
            ("json-patch", [None], 422, "the server rejected our request due to an error in our request"),
            ("merge-patch", "null", 400, "Invalid JSON Patch"),
            ("merge-patch", [], 400, "error decoding patch: json: cannot unmarshal array into Go value of type map["),
            ("strategic-merge-patch", "null", 200, ""),
            ("strategic-merge-patch", {"kind": "Mop", "apiVersion": "v7"}, 200, ""),
            ("merge-patch", {"kind": ""}, 200, ""),
            ("merge-patch", {"metadata": {"name": None}}, 400, "the name of the object (a based on URL) was undeterm"),
            (
                "merge-patch",
                {"metadata": {"deletionGracePeriodSeconds": 5}},
                422,
                'ConfigMap "a" is invalid: metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable',
            ),
            ("merge-patch", {"metadata": "x"}, 422, ' "" is invalid: patch: Invalid value: "{'),
            (
                "strategic-merge-patch",
                {"metadata": {"$retainKeys": ["name"], "labels": {}}},
                400,
                "invalid patch format of ",
            ),
            (
                "strategic-merge-patch",
                {"metadata": {"$setElementOrder/finalizers": ["a.b/c"], "finalizers": ["a.b/d"]}},
                400,
                "The order in patch list:\n[a.b/d]\n doesn't match $setElementOrder list:\n[a.b/c]\n",
            ),
        ],
    )
    async def test_answers(self, cluster: Cluster, kind: str, patch: Any, code: int, message: str) -> None:
        reply = await self._patched(cluster, kind, patch.encode() if isinstance(patch, str) else patch)
        assert (reply.status, reply.body.get("message", "")[: len(message)]) == (code, message)

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("?force=true", "force: Forbidden: may not be specified for non-apply patch"),
            ("?dryRun=x", 'dryRun: Unsupported value: ["x"]: supported values: "All"'),
            (f"?fieldManager={'x' * 129}", "fieldManager: Too long: may not be more than 128 bytes"),
        ],
    )
    async def test_options(self, cluster: Cluster, query: str, message: str) -> None:
        reply = await self._patched(cluster, "merge-patch", {}, query)
        assert (reply.status, reply.body["message"]) == (422, f'PatchOptions.meta.k8s.io "" is invalid: {message}')

    async def test_a_field_given_twice_is_told_also_where_the_patch_is_refused(self, cluster: Cluster) -> None:
        twice = b'{"metadata": {"name": null, "labels": {"a": "1", "a": "2"}}, "data": {"q": "1", "q": "2"}}'
        reply = await self._patched(cluster, "merge-patch", twice.replace(b'"name": null, ', b""))
        assert reply.headers.getall("Warning") == [
            '299 - "duplicate field \\"metadata.labels.a\\""',
            '299 - "duplicate field \\"data.q\\""',
        ]
        unknown = {"bogus": 1, "metadata": {"labels": {"a b": "c"}}}
        refused = await self._patched(cluster, "merge-patch", unknown)
        assert (refused.status, refused.headers.getall("Warning")) == (422, ['299 - "unknown field \\"bogus\\""'])

    async def test_an_owner_named_twice_is_one(self, cluster: Cluster) -> None:
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
        reply = await self._patched(cluster, "merge-patch", {"metadata": {"ownerReferences": [owner, owner]}})
        assert reply.body["metadata"]["ownerReferences"] == [owner]
        assert "duplicate UID(s) observed: u" in reply.headers["Warning"]


def test_the_pull_secrets_of_an_account_are_replaced_as_a_whole(objects: ObjectStore) -> None:
    objects.create("serviceaccounts", {"metadata": {"name": "a"}, "imagePullSecrets": [{"name": "x"}]})
    kept = objects.patch("serviceaccounts", "a", {"imagePullSecrets": [{"name": "y"}]}, kind="strategic")
    assert kept["imagePullSecrets"] == [{"name": "y"}]


class TestOwnersOfANewObject:
    """What a Kubernetes 1.35.4 says that the client of a create has set."""

    def _spec(self, objects: ObjectStore, resource: str, obj: Obj) -> Obj:
        made = objects.create(resource, obj, options=WriteOptions("me", validation="Strict"))
        (entry,) = made["metadata"]["managedFields"]
        fields: Obj = entry["fieldsV1"]
        return fields

    def test_nobody_but_the_server_gave_out_addresses(self, objects: ObjectStore) -> None:
        fields = self._spec(objects, "services", {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})
        assert fields["f:spec"].keys() == {"f:internalTrafficPolicy", "f:ports", "f:sessionAffinity", "f:type"}
        given = {"metadata": {"name": "b"}, "spec": {"ports": [{"port": 80}], "ipFamilies": ["IPv4"]}}
        assert "f:ipFamilies" in self._spec(objects, "services", given)["f:spec"]

    def test_nor_mounted_the_token_of_a_pod(self, objects: ObjectStore) -> None:
        objects.create("serviceaccounts", {"metadata": {"name": "default"}})
        fields = self._spec(objects, "pods", pod())["f:spec"]
        assert "f:volumes" not in fields
        assert all("f:volumeMounts" not in one for one in fields["f:containers"].values())
        assert fields.keys().isdisjoint({"f:serviceAccount", "f:serviceAccountName", "f:tolerations"})
        given = self._spec(objects, "pods", pod("named", serviceAccountName="default", tolerations=[{"key": "a"}]))
        assert given["f:spec"].keys() >= {"f:serviceAccount", "f:serviceAccountName", "f:tolerations"}

    @pytest.mark.parametrize(
        ("resource", "spec", "owned"),
        [
            ("namespaces", {}, {"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}}),
            (
                "persistentvolumeclaims",
                {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}},
                {
                    "f:spec": {
                        "f:accessModes": {},
                        "f:resources": {"f:requests": {".": {}, "f:storage": {}}},
                        "f:volumeMode": {},
                    }
                },
            ),
            (
                "horizontalpodautoscalers.autoscaling",
                {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}},
                {
                    "f:spec": {
                        "f:maxReplicas": {},
                        "f:metrics": {},
                        "f:minReplicas": {},
                        "f:scaleTargetRef": {},
                    }
                },
            ),
        ],
    )
    def test_what_is_there_whoever_writes_is_nobodys(
        self, objects: ObjectStore, resource: str, spec: Obj, owned: Obj
    ) -> None:
        assert self._spec(objects, resource, {"metadata": {"name": "a"}, "spec": spec}) == owned

    def test_the_template_of_a_replication_controller_is_set_as_a_whole(self, objects: ObjectStore) -> None:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
        spec = {"selector": {"a": "b"}, "template": template}
        fields = self._spec(objects, "replicationcontrollers", {"metadata": {"name": "a"}, "spec": spec})["f:spec"]
        assert "." in fields["f:template"]
        assert "." in fields["f:template"]["f:spec"]["f:containers"]

    def test_plain_text_of_a_secret_is_its_data(self, objects: ObjectStore) -> None:
        fields = self._spec(objects, "secrets", {"metadata": {"name": "a"}, "stringData": {"x": "y"}})
        assert fields == {"f:data": {".": {}, "f:x": {}}, "f:type": {}}
        assert objects.get("secrets", "a")["data"] == {"x": "eQ=="}

    def test_no_service_is_named_by_nobody(self, objects: ObjectStore) -> None:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "serviceName": "", "template": template}
        fields = self._spec(objects, "statefulsets.apps", {"metadata": {"name": "a"}, "spec": spec})["f:spec"]
        assert "f:serviceName" not in fields

    def test_the_count_of_a_daemon_sets_templates_is_its_writers(self, objects: ObjectStore) -> None:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        fields = self._spec(objects, "daemonsets.apps", {"metadata": {"name": "a"}, "spec": spec})
        counted = "deprecated.daemonset.template.generation"
        assert fields["f:metadata"] == {"f:annotations": {".": {}, f"f:{counted}": {}}}
        assert objects.get("daemonsets.apps", "a")["metadata"]["annotations"] == {counted: "1"}

    def test_some_parts_are_one_value(self, objects: ObjectStore) -> None:
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
        account = {"metadata": {"name": "a", "ownerReferences": [owner]}, "secrets": [{"name": "x"}]}
        fields = self._spec(objects, "serviceaccounts", {**account, "imagePullSecrets": [{"name": "y"}]})
        assert fields == {
            "f:imagePullSecrets": {},
            "f:metadata": {"f:ownerReferences": {".": {}, 'k:{"uid":"u"}': {}}},
            "f:secrets": {".": {}, 'k:{"name":"x"}': {}},
        }


class TestFromKubectlsApplyToTheServers:
    """Whoever has applied with kubectl and lets the server apply now: played on a Kubernetes 1.35.4."""

    async def test_what_a_default_has_added_to_is_anothers(self, cluster: Cluster) -> None:
        env = [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "A", "value": "b"}]
        one = {"name": "web", "image": "nginx", "env": env, "resources": {"limits": {"cpu": "0.5"}}}
        obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [one]}}
        cluster.objects.create("serviceaccounts", {"metadata": {"name": "default"}})
        await cluster.kubectl("apply", "-f", "-", stdin=json.dumps(obj))
        run = await cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(obj), check=False)
        said = run.err.splitlines()[:3]
        place = '- .spec.containers[name="web"]'
        assert said == [
            'error: Apply failed with 2 conflicts: conflicts with "kubectl-client-side-apply" using v1:',
            f'{place}.env[name="NAME"].valueFrom.fieldRef',
            f"{place}.resources.limits.cpu",
        ]


class TestPatchesOfAPod:
    """What a Kubernetes 1.35.4 says of them."""

    async def _patched(self, cluster: Cluster, patch: Obj, **spec: Any) -> Reply:
        cluster.objects.create("pods", pod(**spec))
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        return await cluster.request("PATCH", "/api/v1/namespaces/default/pods/web", patch, headers=headers)

    async def test_a_list_with_an_order_is_gone_from_what_is_shown(self, cluster: Cluster) -> None:
        listed = {"$setElementOrder/containers": [{"name": "web"}], "containers": [{"name": "web", "command": "ls"}]}
        reply = await self._patched(cluster, {"spec": listed, "metadata": {"labels": {"a": "b"}}})
        words = (
            'patch: Invalid value: "map[metadata:map[labels:map[a:b]] spec:map[]]": cannot restore slice from string'
        )
        assert (reply.status, reply.body["message"]) == (422, f' "" is invalid: {words}')

    async def test_other_tolerations_leave_those_that_each_pod_has(self, cluster: Cluster) -> None:
        reply = await self._patched(cluster, {"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}})
        keys = ["a", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        assert [one["key"] for one in reply.body["spec"]["tolerations"]] == keys

    async def test_a_gate_may_only_go(self, cluster: Cluster) -> None:
        gates = [{"name": "x/z"}]
        reply = await self._patched(cluster, {"spec": {"schedulingGates": gates}}, schedulingGates=[{"name": "x/y"}])
        words = "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x/z'"
        assert reply.body["message"] == f'Pod "web" is invalid: {words}'

    async def test_a_limit_is_named(self, cluster: Cluster) -> None:
        one = {"name": "web", "image": "nginx", "resources": {"limits": {"foo": "1"}}}
        reply = await cluster.request("POST", "/api/v1/namespaces/default/pods", pod(containers=[one]))
        begin = "spec.containers[0].resources"
        assert [one["field"] for one in reply.body["details"]["causes"]] == [
            *[f"{begin}.limits[foo]"] * 2,
            *[f"{begin}.requests[foo]"] * 2,
        ]

    @pytest.mark.parametrize(
        ("part", "conflict"),
        [
            ({"metadata": {"annotations": None}}, ""),
            ({"metadata": {"annotations": {}}}, ""),
            ({"spec": {"containers": []}}, ""),
            ({"spec": {"containers": [{"name": "web", "args": []}]}}, '.spec.containers[name="web"].args'),
            ({"spec": {"terminationGracePeriodSeconds": None}}, ".spec.terminationGracePeriodSeconds"),
        ],
    )
    async def test_an_empty_map_that_is_merged_asks_for_nothing(
        self, cluster: Cluster, part: Obj, conflict: str
    ) -> None:
        one = {"name": "web", "image": "nginx", "args": ["x"]}
        obj = {"metadata": {"name": "web", "annotations": {"a": "b"}}, "spec": {"containers": [one]}}
        cluster.objects.create("pods", obj, options=WriteOptions("me", validation="Strict"))
        wanted = {"apiVersion": "v1", "kind": "Pod", **part, "metadata": {"name": "web", **part.get("metadata", {})}}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        path = "/api/v1/namespaces/default/pods/web?fieldManager=other"
        reply = await cluster.request("PATCH", path, wanted, headers=headers)
        if conflict:
            assert reply.body["message"].endswith(f'conflict with "me" using v1: {conflict}')
        else:
            assert (reply.body["metadata"]["annotations"], reply.body["spec"]["containers"][0]["args"]) == (
                {"a": "b"},
                ["x"],
            )

    async def test_another_time_is_said_before_another_object(self, cluster: Cluster) -> None:
        reply = await self._patched(cluster, {"metadata": {"uid": "x", "resourceVersion": "1"}})
        assert (reply.status, "the object has been modified" in reply.body["message"]) == (409, True)

    async def test_no_base64_is_told_as_json(self, cluster: Cluster) -> None:
        cluster.objects.create("secrets", {"metadata": {"name": "s"}})
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        path = "/api/v1/namespaces/default/secrets/s"
        reply = await cluster.request("PATCH", path, {"data": {"x": "!!"}}, headers=headers)
        assert reply.body["message"].endswith(": error decoding from json: illegal base64 data at input byte 0")


def test_a_name_that_is_made_up_was_asked_for(objects: ObjectStore) -> None:
    made = objects.create("configmaps", {"metadata": {"generateName": "g-"}}, options=WriteOptions("me"))
    assert made["metadata"]["managedFields"][0]["fieldsV1"] == {"f:metadata": {"f:generateName": {}}}
