# SPDX-License-Identifier: Apache-2.0
"""What would wait for a keyboard, or for ever, is refused with what to do instead; what ends by itself is not."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from labkit import cluster
from labkit.cluster.terminal import refuse_endless
from labkit.ground.errors import ClusterError
from tests.cluster.fake_kubectl import FakeKubectl
from tests.conftest import wait_until


@pytest.mark.parametrize(
    ("command", "said", "instead"),
    [
        ("edit svc/reviews", "`kubectl edit` opens an editor", "apply("),
        ("-n bookinfo edit deployment reviews-v1", "opens an editor", "patch"),
        ("apply edit-last-applied svc/x", "opens an editor", "apply("),
        ("create --edit -f x.yaml", "opens an editor", "apply("),
        ("get pods -w", "never ends by itself", "ui.watch("),
        ("get pods --watch", "never ends", "ui.ready("),
        ("get pods --watch=true -n x", "never ends", "wait_for("),
        ("get pods -Aw", "never ends", "ui.watch("),
        ("get pods -wn bookinfo", "never ends", "ui.watch("),
        ("get pods --watch-only", "never ends", "ui.watch("),
        ("events -w", "never ends", "ui.watch("),
        ("get --raw /api/v1/pods?watch=true", "never ends", "ui.watch("),
        ("get --raw=/api/v1/watch/pods", "never ends", "ui.watch("),
        ("logs -f deploy/reviews-v1", "-f never ends", "--since"),
        ("logs -pf deploy/reviews-v1", "-f never ends", "--since"),
        ("logs deploy/reviews-v1 --follow", "-f never ends", "--since"),
        ("attach reviews", "until the container ends", "logs"),
        ("port-forward svc/x 80", "stays until it is ended", "port_forward("),
        ("proxy", "stays until it is ended", "--raw"),
        ("exec -it reviews -- bash", "-t wants a terminal", "exec POD -- COMMAND"),
        ("exec reviews -ti -c ratings -- bash", "-t wants a terminal", "exec POD -- COMMAND"),
        ("exec --stdin reviews -- cat", "-i reads what is typed", "stdin="),
        ("run x --image=curl --rm -it -- sh", "-t wants a terminal", "Leave -it out"),
        ("run x --image=curl -i -- sh", "-i reads what is typed", "stdin="),
        ("debug -it node/x --image=busybox", "-t wants a terminal", "Leave -it out"),
        ("delete pods --all -i", "asks before each object", "Leave -i out"),
        ("config use-context other", "`kubectl config` use-context changes a kubeconfig", "TARGET"),
        ("config set-cluster x", "changes a kubeconfig", "TARGET"),
        ("kuberc set --section defaults", "changes a kubeconfig", "TARGET"),
        ("apply -f -", "reads what is typed", "stdin="),
        ("apply -f-", "reads what is typed", "stdin="),
        ("delete --filename=-", "reads what is typed", "stdin="),
        ("create secret generic x --from-file=/dev/stdin", "reads what is typed", "stdin="),
        ("cp - reviews:/tmp", "reads what is typed", "stdin="),
        ("wait --for=delete pod/x --timeout=-1s", "may never end", "--timeout=60s"),
        ("wait --for=delete pod/x --timeout -1s", "may never end", "--timeout=60s"),
    ],
)
def test_what_waits_for_a_terminal_is_refused(kubectl: FakeKubectl, command: str, said: str, instead: str) -> None:
    with pytest.raises(ClusterError) as caught:
        cluster.kubectl(command)
    assert said in caught.value.message
    assert "nothing was run" in caught.value.message
    assert instead in caught.value.next_step
    assert "File ▸ New ▸ Terminal" in caught.value.next_step
    assert kubectl.commands == []


@pytest.mark.parametrize(
    "command",
    [
        "get pods -o wide",
        "get pods --watch=false",
        "get pods -w=false",
        "get pod -lapp=it -ojson",
        "get --raw /api/v1/pods?limit=1",
        "logs -p reviews",
        "logs reviews --tail=5 -c istio-proxy",
        "exec reviews -- grep -it x -f -",
        "rollout status deploy/x -w",
        "wait --for=condition=Ready pod --all",
        "wait --for=delete pod/x --timeout=60s",
        "config view --minify",
        "config get-contexts",
        "edit --help",
        "help edit",
        "port-forward -h",
        "run x --image=httpbin -n warm-up",
        "delete pod x --now",
        "cp reviews:/tmp/x x",
        "cluster-info",
    ],
)
def test_what_ends_by_itself_is_not(command: str) -> None:
    refuse_endless(command.split(), None)


@pytest.mark.parametrize("command", ["apply -f -", "exec -i reviews -- cat", "delete -f -", "cp - reviews:/tmp"])
def test_what_is_handed_over_is_read(command: str) -> None:
    refuse_endless(command.split(), "")


VERBS = """
create expose run set explain get edit delete rollout scale autoscale certificate cluster-info top cordon uncordon drain
taint describe logs attach exec port-forward proxy cp auth debug events diff apply patch replace wait kustomize label
annotate completion api-resources api-versions config kuberc plugin version
"""


@pytest.mark.long
def test_kubectl_has_no_other_verb_or_flag_that_waits() -> None:
    """Each verb of this kubectl, by its own help; a new one is a question to ask."""
    known = set(VERBS.split())
    listed = {line.split()[0] for line in helped().splitlines() if line[:2] == "  " and line[2:3].isalpha()}
    verbs = listed - {"kubectl"}
    assert verbs - known == set()
    asking = {
        (verb, flag)
        for verb in sorted(verbs)
        for flag in ("--watch", "--watch-only", "--follow", "--stdin", "--tty", "--interactive", "--edit")
        if f"{flag}=" in helped(verb)
    }
    assert asking == {
        *(("get", "--watch"), ("get", "--watch-only"), ("events", "--watch"), ("logs", "--follow")),
        *((verb, flag) for verb in ("attach", "exec", "run", "debug") for flag in ("--stdin", "--tty")),
        *(("delete", "--interactive"), ("create", "--edit")),
    }


@functools.cache
def helped(*verb: str) -> str:
    program = [cluster.kubectl_program(), *verb, "--help"]
    return subprocess.run(program, capture_output=True, text=True, check=True, timeout=60).stdout


SLOW = "#!/bin/sh\necho begun\nsleep 600 &\necho $! > {pid}\ntouch {begun}\nwait\n"


def test_an_interrupted_command_ends_with_all_it_started(
    kubectl: FakeKubectl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As in a terminal: a test run in the background may have been told to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _is_interrupted(kubectl, tmp_path, capsys)
    finally:
        signal.signal(signal.SIGINT, before)


def _is_interrupted(kubectl: FakeKubectl, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun, pid = tmp_path / "begun", tmp_path / "pid"
    kubectl.path.write_text(SLOW.format(pid=pid, begun=begun))
    main = threading.get_ident()

    def interrupt() -> None:
        wait_until(begun.exists, what="the command to begin")
        # Not while Python is still starting it.
        wait_until(lambda: waits_for_its_end(main), what="the command to be waited for")
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        cluster.kubectl("get pods")
    thread.join()
    assert capsys.readouterr().out == "$ kubectl get pods\nbegun\n\n^C: interrupted\n"
    wait_until(lambda: gone(int(pid.read_text())), 10, "what it started to be gone")


def waits_for_its_end(thread: int) -> bool:
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code is not subprocess.Popen.communicate.__code__:
        frame = frame.f_back
    return frame is not None


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
