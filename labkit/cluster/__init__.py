# SPDX-License-Identifier: Apache-2.0
"""Any Kubernetes: what a learner would type its own kubectl runs and shows; what only labkit reads its client asks."""

from labkit.cluster.client import Obj
from labkit.cluster.forward import PortForward, port_forward
from labkit.cluster.http import Response, fetch
from labkit.cluster.inventory import NodeImage, images, remove_images, snapshot
from labkit.cluster.kubeconfig import Chosen, Target, kubectl_program
from labkit.cluster.kubectl import Output, exec, kubectl, last_write, shell
from labkit.cluster.listing import Thing, served
from labkit.cluster.manifests import apply, delete
from labkit.cluster.objects import api_versions, exists, get, log, may, server_version, table
from labkit.cluster.ownership import Byproduct, Ownership
from labkit.cluster.readiness import Readiness, Workload, readiness
from labkit.cluster.record import is_sandbox
from labkit.cluster.removal import Plan, plan
from labkit.cluster.snapshots import Difference, Entry, Snapshot
from labkit.cluster.target import current, leave, require_no_refusal, use
from labkit.cluster.waits import Answers, Condition, Gone, Objects, Ready, Wait, wait_for
from labkit.cluster.watching import course_folder, in_lesson, look, refuse, snapshot_file

__all__ = [
    "Answers",
    "Byproduct",
    "Chosen",
    "Condition",
    "Difference",
    "Entry",
    "Gone",
    "NodeImage",
    "Obj",
    "Objects",
    "Output",
    "Ownership",
    "Plan",
    "PortForward",
    "Readiness",
    "Ready",
    "Response",
    "Snapshot",
    "Target",
    "Thing",
    "Wait",
    "Workload",
    "api_versions",
    "apply",
    "course_folder",
    "current",
    "delete",
    "exec",
    "exists",
    "fetch",
    "get",
    "images",
    "in_lesson",
    "is_sandbox",
    "kubectl",
    "kubectl_program",
    "last_write",
    "leave",
    "log",
    "look",
    "may",
    "plan",
    "port_forward",
    "readiness",
    "refuse",
    "remove_images",
    "require_no_refusal",
    "served",
    "server_version",
    "shell",
    "snapshot",
    "snapshot_file",
    "table",
    "use",
    "wait_for",
]
