# SPDX-License-Identifier: Apache-2.0
"""The sandbox's node: pods as processes of this machine.

What a pod on a real node has and a process here has not: a file system of its own (volumes are below $LABKIT_ROOT, the
working directory; mount paths in command lines are translated), a process table of its own (`ps` shows the machine's),
limits of memory and CPU, and a user of its own.
"""

from __future__ import annotations

from meshbox.node.node import Node
from meshbox.node.services import Timing

__all__ = ["Node", "Timing"]
