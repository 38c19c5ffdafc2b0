# SPDX-License-Identifier: Apache-2.0
"""kubectl debug: a container of a user's own beside those of a pod that runs."""

from __future__ import annotations

from collections.abc import Callable

from tests.conftest import SandboxUnderTest, wait_until


def test_a_container_is_added_to_a_running_pod(start_sandbox: Callable[..., SandboxUnderTest]) -> None:
    sandbox = start_sandbox("1.30.3")
    sandbox.kubectl("create", "deployment", "web", "--image=nginx", "--port=80")
    sandbox.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
    name = sandbox.kubectl("get", "pods", "-l", "app=web", "-o", "name").stdout.strip()
    # Without a probe a pod is ready before its server listens.
    serving = ("exec", name, "-c", "nginx", "--", "curl", "-s", "-f", "-o", "/dev/null", "http://localhost:80/")
    wait_until(lambda: sandbox.kubectl(*serving, check=False).returncode == 0, what="the server to listen")
    # It says nothing before it is spoken to: who comes to it late is not told what it has said.
    script = "read -r line; echo found $(curl -s -o /dev/null -w '%{http_code}' http://localhost:80/); echo got $line"
    debug = ["debug", name, "--image=busybox", "--target=nginx", "-c", "helper", "-i", "--", "sh", "-c", script]
    shown = sandbox.kubectl(*debug, stdin="and what is typed\n")
    assert "found 200\ngot and what is typed\n" in shown.stdout
    ended = "jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}"
    sandbox.kubectl("wait", name, f"--for={ended}=0", "--timeout=240s")
    assert sandbox.kubectl("logs", name, "-c", "helper").stdout == "found 200\ngot and what is typed\n"
    # The pod goes on as it was, and another one may be added.
    ready = sandbox.kubectl("get", name, "-o", "jsonpath={.status.containerStatuses[*].ready} {.status.phase}")
    assert ready.stdout == "true Running"
    sandbox.kubectl("debug", name, "--image=busybox", "-c", "sleeper", "--", "sleep", "3600")
    running = "jsonpath={.status.ephemeralContainerStatuses[1].state.running.startedAt}"
    sandbox.kubectl("wait", name, f"--for={running}", "--timeout=240s")
    assert sandbox.kubectl("exec", name, "-c", "sleeper", "--", "echo", "here").stdout == "here\n"
    # It ends with its pod.
    sandbox.kubectl("delete", name, "--timeout=120s")
