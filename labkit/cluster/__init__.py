"""Any Kubernetes, through its own kubectl: every helper shows the command it runs."""

from labkit.cluster.forward import PortForward, port_forward
from labkit.cluster.http import Response, fetch
from labkit.cluster.inventory import (
    Difference,
    Entry,
    NodeImage,
    Snapshot,
    images,
    mixed_versions,
    remove_images,
    snapshot,
)
from labkit.cluster.kubeconfig import Chosen, Target, kubectl_program
from labkit.cluster.kubectl import Output, kubectl, shell
from labkit.cluster.listing import Thing
from labkit.cluster.manifests import apply, delete
from labkit.cluster.objects import Obj, delete_namespace, exec, exists, get, table
from labkit.cluster.ownership import Byproduct, Ownership
from labkit.cluster.readiness import Readiness, Workload, readiness
from labkit.cluster.record import is_sandbox
from labkit.cluster.removal import Plan, plan
from labkit.cluster.target import current, leave, require_no_refusal, use
from labkit.cluster.waits import Answers, Condition, Gone, Ready, Wait, wait_for
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
    "apply",
    "course_folder",
    "current",
    "delete",
    "delete_namespace",
    "exec",
    "exists",
    "fetch",
    "get",
    "images",
    "in_lesson",
    "is_sandbox",
    "kubectl",
    "kubectl_program",
    "leave",
    "look",
    "mixed_versions",
    "plan",
    "port_forward",
    "readiness",
    "refuse",
    "remove_images",
    "require_no_refusal",
    "shell",
    "snapshot",
    "snapshot_file",
    "table",
    "use",
    "wait_for",
]
