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
from labkit.cluster.manifests import apply, delete
from labkit.cluster.objects import Obj, delete_namespace, exec, exists, get, table
from labkit.cluster.readiness import Readiness, Workload, readiness
from labkit.cluster.target import current, leave, require_no_refusal, use
from labkit.cluster.waits import Answers, Condition, Gone, Ready, Wait, wait_for

__all__ = [
    "Answers",
    "Chosen",
    "Condition",
    "Difference",
    "Entry",
    "Gone",
    "NodeImage",
    "Obj",
    "Output",
    "PortForward",
    "Readiness",
    "Ready",
    "Response",
    "Snapshot",
    "Target",
    "Wait",
    "Workload",
    "apply",
    "current",
    "delete",
    "delete_namespace",
    "exec",
    "exists",
    "fetch",
    "get",
    "images",
    "kubectl",
    "kubectl_program",
    "leave",
    "mixed_versions",
    "port_forward",
    "readiness",
    "remove_images",
    "require_no_refusal",
    "shell",
    "snapshot",
    "table",
    "use",
    "wait_for",
]
