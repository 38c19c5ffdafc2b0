# SPDX-License-Identifier: Apache-2.0
"""A kubectl that says what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cluster.api_like import ApiLike
from tests.scripts import first_lines

UID = "the-uid-of-kube-system"

_SCRIPT = """{first}import json, os, sys
home = {home!r}
words = sys.argv[1:]
wants_input = "-" in words
with open(home + "/calls", "a") as calls:
    stdin = sys.stdin.read() if wants_input else ""
    environment = {{name: os.environ.get(name, "") for name in ("KUBECONFIG", "KUBECACHEDIR", "KUBERC")}}
    print(json.dumps({{"words": words, "stdin": stdin, "environment": environment}}), file=calls)
for answer in json.load(open(home + "/answers")):
    if all(word in words for word in answer["words"]):
        sys.stdout.write(answer["stdout"])
        sys.stderr.write(answer["stderr"])
        sys.exit(answer["code"])
sys.stderr.write("error: the test gave no answer for " + " ".join(words))
sys.exit(9)
"""


class FakeKubectl:
    """What to put in place of kubectl.

    Args:
        home: Its folder.
        api: The cluster, for what kubectl is not asked.
    """

    def __init__(self, home: Path, api: ApiLike) -> None:
        self._home = home
        self.api = api
        self._answers: list[dict[str, Any]] = []
        self.path = home / "kubectl"
        self.path.write_text(_SCRIPT.format(first=first_lines("-SE"), home=str(home)))
        self.path.chmod(0o755)
        self._write()

    def answer(self, *words: str, stdout: str = "", stderr: str = "", code: int = 0) -> FakeKubectl:
        """Answer commands that have all of `words`; the latest such answer counts."""
        self._answers.insert(0, {"words": words, "stdout": stdout, "stderr": stderr, "code": code})
        self._write()
        return self

    @property
    def calls(self) -> list[dict[str, Any]]:
        """All commands so far: words, stdin, environment."""
        path = self._home / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def commands(self) -> list[str]:
        """All commands so far, as words joined with spaces."""
        return [" ".join(call["words"]) for call in self.calls]

    def _write(self) -> None:
        (self._home / "answers").write_text(json.dumps(self._answers))
