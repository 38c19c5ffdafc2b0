# SPDX-License-Identifier: Apache-2.0
"""The built-in resources as a table: names, groups and versions are facts of the Kubernetes API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["BUILTIN", "EXTENSIONS", "Row"]


class Row(NamedTuple):
    """One built-in resource.

    `versions` are served by a current Kubernetes, the first of them being the hub; `legacy` by Kubernetes 1.14,
    preferred first (the same where empty; None: not served there).
    """

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    short: tuple[str, ...] = ()
    sub: tuple[str, ...] = ()
    namespaced: bool = True
    all: bool = False
    generation: bool = False
    legacy: tuple[str, ...] | None = ()
    review: bool = False
    computed: bool = False


_TABLE = """
core v1
  bindings Binding review
  componentstatuses ComponentStatus short=cs cluster computed
  configmaps ConfigMap short=cm
  endpoints Endpoints short=ep
  events Event short=ev
  limitranges LimitRange short=limits
  namespaces Namespace short=ns sub=status,finalize cluster
  nodes Node short=no sub=status,proxy cluster
  persistentvolumeclaims PersistentVolumeClaim short=pvc sub=status
  persistentvolumes PersistentVolume short=pv sub=status cluster
  pods Pod short=po all generation \
    sub=status,log,exec,attach,portforward,eviction,binding,proxy,ephemeralcontainers,resize
  podtemplates PodTemplate generation
  replicationcontrollers ReplicationController short=rc sub=status,scale all generation
  resourcequotas ResourceQuota short=quota sub=status
  secrets Secret
  serviceaccounts ServiceAccount short=sa sub=token
  services Service short=svc sub=status,proxy all
apiregistration.k8s.io v1
  apiservices APIService sub=status cluster computed legacy=v1,v1beta1
apps v1
  controllerrevisions ControllerRevision legacy=v1,v1beta2,v1beta1
  daemonsets DaemonSet short=ds sub=status all generation legacy=v1,v1beta2
  deployments Deployment short=deploy sub=status,scale all generation legacy=v1,v1beta2,v1beta1
  replicasets ReplicaSet short=rs sub=status,scale all generation legacy=v1,v1beta2
  statefulsets StatefulSet short=sts sub=status,scale all generation legacy=v1,v1beta2,v1beta1
batch v1
  jobs Job sub=status all generation
  cronjobs CronJob short=cj sub=status all generation legacy=v1,v1beta1
autoscaling v2,v1
  horizontalpodautoscalers HorizontalPodAutoscaler short=hpa sub=status all legacy=v1,v2beta1,v2beta2,v2
policy v1
  poddisruptionbudgets PodDisruptionBudget short=pdb sub=status generation legacy=v1beta1,v1
networking.k8s.io v1
  networkpolicies NetworkPolicy short=netpol generation
  ingresses Ingress short=ing sub=status generation legacy=v1,v1beta1
  ingressclasses IngressClass cluster generation
rbac.authorization.k8s.io v1
  clusterroles ClusterRole cluster legacy=v1,v1beta1
  clusterrolebindings ClusterRoleBinding cluster legacy=v1,v1beta1
  roles Role legacy=v1,v1beta1
  rolebindings RoleBinding legacy=v1,v1beta1
storage.k8s.io v1
  storageclasses StorageClass short=sc cluster legacy=v1,v1beta1
admissionregistration.k8s.io v1
  mutatingwebhookconfigurations MutatingWebhookConfiguration cluster generation legacy=v1beta1,v1
  validatingwebhookconfigurations ValidatingWebhookConfiguration cluster generation legacy=v1beta1,v1
  validatingadmissionpolicies ValidatingAdmissionPolicy sub=status cluster generation legacy=-
  validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding cluster generation legacy=-
apiextensions.k8s.io v1
  customresourcedefinitions CustomResourceDefinition short=crd,crds sub=status cluster generation legacy=v1beta1,v1
coordination.k8s.io v1
  leases Lease legacy=v1,v1beta1
discovery.k8s.io v1
  endpointslices EndpointSlice generation
scheduling.k8s.io v1
  priorityclasses PriorityClass short=pc cluster generation legacy=v1,v1beta1
node.k8s.io v1
  runtimeclasses RuntimeClass cluster legacy=v1beta1
certificates.k8s.io v1
  certificatesigningrequests CertificateSigningRequest short=csr sub=approval,status cluster legacy=v1beta1
flowcontrol.apiserver.k8s.io v1
  flowschemas FlowSchema sub=status cluster generation legacy=-
  prioritylevelconfigurations PriorityLevelConfiguration sub=status cluster generation legacy=-
networking.k8s.io v1
  ipaddresses IPAddress short=ip cluster legacy=-
  servicecidrs ServiceCIDR sub=status cluster legacy=-
resource.k8s.io v1
  deviceclasses DeviceClass cluster generation legacy=-
  resourceclaims ResourceClaim sub=status legacy=-
  resourceclaimtemplates ResourceClaimTemplate legacy=-
  resourceslices ResourceSlice cluster generation legacy=-
storage.k8s.io v1
  csidrivers CSIDriver cluster legacy=-
  csinodes CSINode cluster legacy=-
  csistoragecapacities CSIStorageCapacity legacy=-
  volumeattachments VolumeAttachment sub=status cluster legacy=-
  volumeattributesclasses VolumeAttributesClass short=vac cluster legacy=-
authentication.k8s.io v1
  tokenreviews TokenReview cluster review
  selfsubjectreviews SelfSubjectReview cluster review
authorization.k8s.io v1
  selfsubjectaccessreviews SelfSubjectAccessReview cluster review legacy=v1,v1beta1
  selfsubjectrulesreviews SelfSubjectRulesReview cluster review legacy=v1,v1beta1
  subjectaccessreviews SubjectAccessReview cluster review legacy=v1,v1beta1
  localsubjectaccessreviews LocalSubjectAccessReview review legacy=v1,v1beta1
"""
"""A line for each group and its versions, and one for each of its resources: plural, kind, and what is not usual of it.

"cluster" is one without namespaces, "all" one of `kubectl get all`; the rest is named as in `Row`. "legacy=-" was not
there in 1.14.
"""


def _rows() -> Iterator[Row]:
    group = ""
    versions: tuple[str, ...] = ()
    for line in _TABLE.strip().splitlines():
        first, second, *words = line.split()
        if not line.startswith(" "):
            group, versions = first.removeprefix("core"), tuple(second.split(","))
            continue
        given: dict[str, Any] = {"namespaced": "cluster" not in words}
        for word in words:
            key, is_list, listed = word.partition("=")
            given[key] = tuple(listed.split(",")) if is_list else True
        given.pop("cluster", None)
        if given.get("legacy") == ("-",):
            given["legacy"] = None
        yield Row(group, versions, first, second, **given)


BUILTIN: tuple[Row, ...] = tuple(_rows())

EXTENSIONS: tuple[str, ...] = (
    "daemonsets.apps",
    "deployments.apps",
    "ingresses.networking.k8s.io",
    "networkpolicies.networking.k8s.io",
    "replicasets.apps",
)
"""What `extensions/v1beta1` serves besides, in Kubernetes 1.14."""
