# SPDX-License-Identifier: Apache-2.0
"""Selectors, events, and which resources there are."""

from __future__ import annotations

import pytest

from meshbox.api.event_budget import EventBudget
from meshbox.api.objects import ObjectStore
from meshbox.api.similar_events import SimilarEvents

from .conftest import deployment, pod, refused

DEPLOYMENTS = "deployments.apps"


class TestEvents:
    def test_repeated_ones_are_counted(self, objects: ObjectStore) -> None:
        involved = objects.create("pods", pod())
        for _ in range(3):
            objects.event(involved, "Warning", "BackOff", "Back-off restarting", "kubelet")
        objects.event(involved, "Normal", "Pulled", "image is here", "kubelet")
        events = {one["reason"]: one for one in objects.list("events", "default")}
        assert (events["BackOff"]["count"], events["Pulled"]["count"]) == (3, 1)
        assert events["BackOff"]["involvedObject"]["uid"] == involved["metadata"]["uid"]
        assert events["BackOff"]["source"] == {"component": "kubelet", "host": objects.settings.node_name}

    def test_one_about_what_is_gone_is_dropped(self, objects: ObjectStore) -> None:
        involved = {"kind": "Pod", "metadata": {"name": "x", "namespace": "nowhere", "uid": "u"}}
        objects.event(involved, "Normal", "A", "b", "test")
        assert objects.list("events") == []

    def test_ten_that_differ_in_words_become_one(self, objects: ObjectStore) -> None:
        involved = objects.create("pods", pod())
        for number in range(13):
            objects.event(involved, "Warning", "FailedCreate", f"refused: {number}", "a-controller")
        objects.event(involved, "Warning", "Other", "refused", "a-controller")
        told = {one["message"]: one["count"] for one in objects.list("events") if one["reason"] == "FailedCreate"}
        combined = "(combined from similar events): refused: 12"
        assert told == {f"refused: {number}": 1 for number in range(9)} | {combined: 4}
        assert len(objects.list("events")) == 11

    @pytest.mark.parametrize("component", ["default-scheduler", "istiod"])
    def test_others_are_told_one_by_one(self, objects: ObjectStore, component: str) -> None:
        involved = objects.create("pods", pod())
        for number in range(12):
            objects.event(involved, "Warning", "FailedScheduling", f"no room: {number}", component)
        assert {one["message"] for one in objects.list("events")} == {f"no room: {number}" for number in range(12)}

    @pytest.mark.parametrize(("component", "told"), [("a-controller", 25), ("kubelet", 40)])
    def test_a_controller_says_twenty_five_things_of_an_object(
        self, objects: ObjectStore, component: str, told: int
    ) -> None:
        involved = objects.create("pods", pod())
        for number in range(40):
            objects.event(involved, "Warning", "FailedCreate", f"refused: {number}", component)
        assert sum(one["count"] for one in objects.list("events")) == told
        objects.event(involved, "Normal", "Other", "another reason", "b-controller")
        assert {one["reason"] for one in objects.list("events")} == {"FailedCreate", "Other"}

    def test_one_more_is_said_in_five_minutes(self) -> None:
        now = [0.0]
        budget = EventBudget(lambda: now[0])
        assert [budget.take(("a",)) for _ in range(27)] == [True] * 25 + [False] * 2
        assert budget.take(("b",))
        now[0] = 299.0
        assert not budget.take(("a",))
        now[0] = 301.0
        assert [budget.take(("a",)) for _ in range(2)] == [True, False]

    def test_ten_minutes_without_any_begin_anew(self) -> None:
        now = [0.0]
        similar = SimilarEvents(lambda: now[0])
        assert [similar.combined(("a",), str(number)) for number in range(11)] == [False] * 9 + [True] * 2
        assert not similar.combined(("b",), "0")
        now[0] += 600
        assert similar.combined(("a",), "next")
        now[0] += 601
        assert not similar.combined(("a",), "next")

    def test_one_about_a_cluster_scoped_object_is_in_default(self, objects: ObjectStore) -> None:
        node = objects.create("nodes", {"metadata": {"name": "n"}})
        objects.event(node, "Normal", "Starting", "here", "kubelet")
        assert objects.list("events", "default")[0]["involvedObject"]["kind"] == "Node"


class TestSelectors:
    @pytest.fixture(autouse=True)
    def some(self, objects: ObjectStore) -> None:
        for name, labels in (("a", {"app": "x", "tier": "1"}), ("b", {"app": "x"}), ("c", {"app": "y"}), ("d", {})):
            objects.create("pods", {**pod(nodeName=f"n{name}"), "metadata": {"name": name, "labels": labels}})

    @pytest.mark.parametrize(
        ("selector", "names"),
        [
            ("", "abcd"), ("app=x", "ab"), ("app==x", "ab"), ("app!=x", "cd"), ("app in (x, y)", "abc"),
            ("app notin (x)", "cd"), ("tier", "a"), ("!tier", "bcd"), ("app=x,!tier", "b"), ("app in (x),tier=1", "a"),
            ("tier>0", "a"), ("tier<1", ""), ("app=", ""),
        ],
    )  # fmt: skip
    def test_labels(self, objects: ObjectStore, selector: str, names: str) -> None:
        assert "".join(one["metadata"]["name"] for one in objects.list("pods", labels=selector)) == names

    @pytest.mark.parametrize(
        ("selector", "names"),
        [("metadata.name=a", "a"), ("metadata.name!=a,metadata.namespace=default", "bcd"), ("spec.nodeName=nb", "b"),
         ("status.phase=Pending", "abcd"), ("status.phase=Running", "")],
    )  # fmt: skip
    def test_fields(self, objects: ObjectStore, selector: str, names: str) -> None:
        assert "".join(one["metadata"]["name"] for one in objects.list("pods", fields=selector)) == names

    @pytest.mark.parametrize(
        "options",
        [{"labels": "a b c"}, {"labels": "=x"}, {"labels": "app in x"}, {"labels": "app=a/b"}, {"fields": "spec.foo=1"},
         {"fields": "nonsense"}],
    )  # fmt: skip
    def test_nonsense_is_refused(self, objects: ObjectStore, options: dict[str, str]) -> None:
        error = refused(objects.list, "pods", **options)
        assert (error.code, error.reason) == (400, "BadRequest")


@pytest.mark.parametrize("release", ["1.2.2"])
def test_the_older_kubernetes_serves_what_it_did_then(objects: ObjectStore) -> None:
    assert objects.registry.served("extensions", "v1beta1", "deployments") is not None
    assert objects.registry.served("apiextensions.k8s.io", "v1beta1", "customresourcedefinitions") is not None
    objects.create("deployments.extensions", deployment())
    assert objects.get(DEPLOYMENTS, "web")["apiVersion"] == "apps/v1"


def test_a_current_kubernetes_does_not(objects: ObjectStore) -> None:
    assert objects.registry.served("extensions", "v1beta1", "deployments") is None
    assert objects.registry.served("apiextensions.k8s.io", "v1beta1", "customresourcedefinitions") is None
