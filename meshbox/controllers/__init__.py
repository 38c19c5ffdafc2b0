# SPDX-License-Identifier: Apache-2.0
"""The controllers: what makes stored objects happen. Each is level-triggered and may be started again at any time."""

from __future__ import annotations

import time

from meshbox.contracts import Clock, Objects, ResourceMetrics
from meshbox.controllers.aggregation import AggregationController
from meshbox.controllers.autoscaler import AutoscalerController
from meshbox.controllers.bootstrap import bootstrap
from meshbox.controllers.classes import ClassAdmission
from meshbox.controllers.cronjob import CronJobController
from meshbox.controllers.daemonset import DaemonSetController
from meshbox.controllers.deployment import DeploymentController
from meshbox.controllers.disruption import DisruptionController
from meshbox.controllers.endpoints import EndpointsController
from meshbox.controllers.events import EventExpiry
from meshbox.controllers.garbage import GarbageCollector
from meshbox.controllers.job import JobController, JobSelector
from meshbox.controllers.limits import LimitAdmission
from meshbox.controllers.loadbalancer import LoadBalancerController
from meshbox.controllers.lost_pods import LostPods
from meshbox.controllers.meta import Context
from meshbox.controllers.namespace import NamespaceController
from meshbox.controllers.node_taints import NodeTaintController
from meshbox.controllers.persistent import ClaimController, StorageAdmission, VolumeController
from meshbox.controllers.pod_security import PodSecurity
from meshbox.controllers.quota import QuotaAdmission, QuotaController
from meshbox.controllers.replicaset import ReplicaSetController
from meshbox.controllers.scheduler import Scheduler
from meshbox.controllers.serviceaccount import ServiceAccountController
from meshbox.controllers.statefulset import StatefulSetController
from meshbox.controllers.taint_eviction import TaintEvictionController
from meshbox.controllers.unplayed import UnplayedKinds
from meshbox.settings import SandboxSettings

__all__ = ["Controllers"]


class Controllers:
    """All controllers of a sandbox.

    Args:
        objects: The cluster's objects.
        settings: The sandbox's settings.
        clock: Seconds since the epoch.
        metrics: Whom autoscalers ask what pods use; None: nobody.
    """

    def __init__(
        self,
        objects: Objects,
        settings: SandboxSettings,
        clock: Clock = time.time,
        metrics: ResourceMetrics | None = None,
    ) -> None:
        self._context = context = Context(objects, settings, clock)
        objects.add_admission(JobSelector(settings))
        objects.add_admission(ClassAdmission(objects, settings))
        if not settings.legacy:
            objects.add_admission(PodSecurity(objects))
        objects.add_admission(UnplayedKinds())
        objects.add_admission(StorageAdmission(objects))
        self._endpoints = EndpointsController(context)
        self._garbage = GarbageCollector(context)
        self._events = EventExpiry(context)
        self._reconcilers = [
            controller.reconciler
            for controller in (
                AggregationController(context),
                DeploymentController(context),
                ReplicaSetController(context),
                ReplicaSetController(context, "replicationcontrollers", "v1", "ReplicationController", plain=True),
                StatefulSetController(context),
                DaemonSetController(context),
                JobController(context),
                CronJobController(context),
                ClaimController(context),
                VolumeController(context),
                Scheduler(context),
                NodeTaintController(context),
                TaintEvictionController(context),
                self._endpoints,
                LoadBalancerController(context),
                NamespaceController(context),
                ServiceAccountController(context),
                AutoscalerController(context, metrics),
                DisruptionController(context),
                QuotaController(context),
                LostPods(context),
                self._garbage,
            )
        ]

    async def start(self) -> None:
        """Create what every cluster has, then begin; needs a running event loop."""
        # After the mesh's, which adds containers.
        objects = self._context.objects
        objects.add_admission(LimitAdmission(objects))
        # Last of all: what is counted is what the others have made of it.
        objects.add_admission(QuotaAdmission(objects, self._context.settings))
        bootstrap(self._context)
        self._endpoints.prepare()
        self._garbage.prepare()
        for reconciler in self._reconcilers:
            reconciler.start()
        self._events.start()

    async def stop(self) -> None:
        """End all controllers; nothing is written afterwards."""
        self._events.stop()
        for reconciler in self._reconcilers:
            await reconciler.stop()
