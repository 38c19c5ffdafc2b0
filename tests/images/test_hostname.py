# SPDX-License-Identifier: Apache-2.0
"""Whoever asks a pod for the name of its host gets the pod's, in Python and in a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshbox.images.shim import curl_config

SHIM = Path(curl_config.__file__).parent
POD = {"HOSTNAME": "web-7d9-x2k", "LABKIT_POD_IP": "127.9.64.4", "LABKIT_LOCAL_IP": "127.9.128.4"}
ASK = """
import json, os, platform, socket
name = socket.gethostname()
print(json.dumps([name, platform.node(), os.uname().nodename, os.uname()[1], socket.gethostbyname(name)]))
"""


def test_python_is_told_the_pod_s_name() -> None:
    env = {**POD, "PATH": os.environ["PATH"], "PYTHONPATH": str(SHIM)}
    done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, check=True)
    name = POD["HOSTNAME"]
    assert json.loads(done.stdout) == [name, name, name, name, POD["LABKIT_POD_IP"]]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("hostname", "web-7d9-x2k\n"),
        ("hostname -s", "web-7d9-x2k\n"),
        ("hostname -i", "127.9.64.4\n"),
        ("hostname -I", "127.9.64.4\n"),
        ("uname -n", "web-7d9-x2k\n"),
        ("uname", f"{os.uname().sysname}\n"),
        ("uname -r", f"{os.uname().release}\n"),
    ],
)
def test_a_shell_is_told_the_pod_s_name(command: str, told: str) -> None:
    env = {**POD, "PATH": f"{SHIM / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/sh", "-c", command], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == told


def test_what_is_not_played_is_said() -> None:
    env = {**POD, "PATH": f"{SHIM / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/sh", "-c", "hostname other"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "hostname: the sandbox plays no 'other'; without it you get the pod's name\n"
    done = subprocess.run(["/bin/sh", "-c", "uname -a"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == [os.uname().sysname, POD["HOSTNAME"]]
