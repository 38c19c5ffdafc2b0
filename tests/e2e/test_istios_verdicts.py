# SPDX-License-Identifier: Apache-2.0
"""Istio's own verdicts, asked of a running sandbox: what goes over the wire is what the webhook would have said."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.conftest import REPOSITORY, SandboxUnderTest, genuine

CASES = REPOSITORY.parent / "shared" / "cases"
OURS = re.compile(
    r"the sandbox|sidecars leave out TLS|which are not played|has no effect"
    # Of these nobody asked the webhook: they were accepted by a schema alone, or by a function that sees no JSON.
    r"|EnvoyFilter exposes internal|abort configured, but error type not set"
)
MOST_OTHER_WORDS = 5


@pytest.mark.again
def test_each_verdict_warning_and_message_is_istios_own(start_sandbox: Callable[..., SandboxUnderTest]) -> None:
    script = CASES / "validate.py"
    if not script.is_file():
        pytest.skip(f"the verdicts of the genuine webhook are not at {CASES}")
    manifests = genuine("1.30.3") / "manifests"
    sandbox = start_sandbox("1.30.3")
    sandbox.kubectl("create", "namespace", "istio-system")
    sandbox.kubectl("apply", "--server-side", "-f", str(manifests / "base.yaml"))
    sandbox.kubectl("apply", "-f", str(manifests / "istiod.yaml"))
    waited = ("--for=condition=Available", "deployment/istiod", "-n", "istio-system", "--timeout=240s")
    sandbox.kubectl("wait", *waited)
    command = [sys.executable, str(script), "--show"]
    done = subprocess.run(command, env=sandbox.env, capture_output=True, text=True, timeout=500)
    *rows, last = done.stdout.splitlines()
    counts = {name: int(number) for name, _, number in (one.rpartition(": ") for one in last.split(", "))}
    assert (counts["cases"], counts["verdict right"]) == (736, 736), done.stdout
    for name in ("false accept", "false refusal", "5xx", "warning missing"):
        assert counts.get(name, 0) == 0, done.stdout
    assert counts.get("words differ", 0) <= MOST_OTHER_WORDS, done.stdout
    # What is said beside Istio's words says what of it is not played.
    more = [row for row in rows if " | warning | " in row]
    assert len(more) == counts.get("warning too many", 0)
    assert [row for row in more if not OURS.search(row)] == []
