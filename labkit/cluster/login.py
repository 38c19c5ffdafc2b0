"""Logging in by a program that a kubeconfig names, an exec plugin. It may hang, and the official client would wait.

So the client is told to run another program, which runs the plugin, passes on what it says, and ends it when it has
had its time. kubectl runs the plugin itself.
"""

from __future__ import annotations

import shlex
import sys
from itertools import takewhile
from typing import Any

from labkit.cluster import kubeconfig
from labkit.ground.errors import ClusterError

__all__ = ["Plugin"]

PATIENCE = 120.0
"""Seconds that a plugin has: some of them wait until somebody has typed a password into a browser."""

# What the plugin has started may hold its output open: so the whole tree ends, and nothing is read to its end.
_PROGRAM = """
import subprocess, sys, psutil
seconds, ended, *command = sys.argv[1:]
shown = None if sys.stderr.isatty() else subprocess.PIPE
try:
    plugin = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=shown, text=True)
except OSError as error:
    sys.exit(str(error))
try:
    said, errors = plugin.communicate(timeout=float(seconds))
except subprocess.TimeoutExpired:
    for one in [*psutil.Process(plugin.pid).children(recursive=True), plugin]:
        one.kill()
    open(ended, "w").close()
    sys.exit("it was ended")
sys.stdout.write(said)
sys.stderr.write(errors or "")
sys.exit(plugin.returncode)
"""


class Plugin:
    """The plugin of a kubeconfig's current context.

    Args:
        context: The context.
        cluster: Its cluster.
        user: Its user, who has an `exec`.
    """

    def __init__(self, context: dict[str, Any], cluster: dict[str, Any], user: dict[str, Any]) -> None:
        self._context, self._cluster, self._user = context, cluster, user
        run = user["exec"]
        self._command = [str(word) for word in (run.get("command", ""), *(run.get("args") or ()))]
        self._mark = kubeconfig.temporary() / f"plugin-{id(self)}-ended"

    def limited(self) -> dict[str, Any]:
        """The kubeconfig with which the official client runs the plugin for `PATIENCE` seconds at most."""
        self._mark.unlink(missing_ok=True)
        # Without -P a file of the folder one works in could stand in for a module.
        words = ["-P", "-c", _PROGRAM, f"{PATIENCE:g}", str(self._mark), *self._command]
        limited = {**self._user["exec"], "command": sys.executable, "args": words}
        about = self._context["context"]
        return {
            "current-context": self._context["name"],
            "contexts": [self._context],
            "clusters": [{"name": about["cluster"], "cluster": self._cluster}],
            "users": [{"name": about["user"], "user": {**self._user, "exec": limited}}],
        }

    def was_ended(self) -> bool:
        """Whether it had to be ended when the client ran it last."""
        return self._mark.exists()

    def error(self, shown: str) -> ClusterError:
        """The error for a plugin that was ended."""
        # What follows a flag may be a secret.
        words = list(takewhile(lambda word: not word.startswith("-"), self._command))
        typed = shlex.join(words) + (" …" if len(words) < len(self._command) else "")
        return ClusterError(
            f"`{typed}`, by which {shown} logs in, did not end within {PATIENCE:g} s",
            next_step="Run it in a terminal: it may ask for something there, or wait for a network that is not there."
            " Then run the lesson's first cell again.",
        )
