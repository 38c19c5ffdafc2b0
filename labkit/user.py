# SPDX-License-Identifier: Apache-2.0
"""What `$KUBECONFIG` says, and what its user had set before labkit set it."""

from __future__ import annotations

import os
from pathlib import Path

from labkit.ground import config

__all__ = ["NAMED", "NO_CLUSTER", "kubeconfig", "ours", "sandbox"]

NO_CLUSTER = Path(__file__).with_name("cluster") / "no-cluster.yaml"
"""Leads nowhere. A file of its name is the last in every `$KUBECONFIG` that labkit sets, and tells it from others."""

NAMED = "LABKIT_KUBECONFIG"
"""Variable with what `$KUBECONFIG` said before labkit set it: where the contexts are that TARGET may name."""


def ours(said: str) -> bool:
    """Whether labkit has set this `$KUBECONFIG`."""
    return Path(said.rpartition(":")[2]).name == NO_CLUSTER.name


def kubeconfig() -> str:
    """The kubeconfig that the user means, several joined with ":"; "" for kubectl's own default."""
    said = os.environ.get("KUBECONFIG", "")
    return os.environ.get(NAMED, said.rpartition(":")[0]) if ours(said) else said


def sandbox() -> str:
    """The name of the sandbox whose kubeconfig `$KUBECONFIG` names first; "" if it is none.

    A cluster of the reader's own is never taken just because KUBECONFIG names it: the course installs things.
    """
    first = kubeconfig().split(":", 1)[0]
    folder = Path(first).absolute().parent if first else Path("/")
    return folder.name if folder.parent == config.home() / "sandboxes" else ""
