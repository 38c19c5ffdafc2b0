"""The controllers: what makes stored objects happen. Each is level-triggered and may be started again at any time."""

from __future__ import annotations

import time

from labkit.sandbox.contracts import Clock, Objects
from labkit.sandbox.controllers.autoscaler import AutoscalerController
from labkit.sandbox.controllers.bootstrap import bootstrap
from labkit.sandbox.controllers.cronjob import CronJobController
from labkit.sandbox.controllers.daemonset import DaemonSetController
from labkit.sandbox.controllers.deployment import DeploymentController
from labkit.sandbox.controllers.disruption import DisruptionController
from labkit.sandbox.controllers.endpoints import EndpointsController
from labkit.sandbox.controllers.events import EventExpiry
from labkit.sandbox.controllers.garbage import GarbageCollector
from labkit.sandbox.controllers.job import JobController, JobSelector
from labkit.sandbox.controllers.loadbalancer import LoadBalancerController
from labkit.sandbox.controllers.meta import Context
from labkit.sandbox.controllers.namespace import NamespaceController
from labkit.sandbox.controllers.quota import QuotaAdmission, QuotaController
from labkit.sandbox.controllers.replicaset import ReplicaSetController
from labkit.sandbox.controllers.scheduler import Scheduler
from labkit.sandbox.controllers.serviceaccount import ServiceAccountController
from labkit.sandbox.controllers.statefulset import StatefulSetController
from labkit.sandbox.settings import SandboxSettings

__all__ = ["Controllers"]


class Controllers:
    """All controllers of a sandbox.

    Args:
        objects: The cluster's objects.
        settings: The sandbox's settings.
        clock: Seconds since the epoch.
    """

    def __init__(self, objects: Objects, settings: SandboxSettings, clock: Clock = time.time) -> None:
        self._context = context = Context(objects, settings, clock)
        objects.add_admission(JobSelector(settings))
        objects.add_admission(QuotaAdmission(objects, settings))
        self._endpoints = EndpointsController(context)
        self._garbage = GarbageCollector(context)
        self._events = EventExpiry(context)
        self._reconcilers = [
            controller.reconciler
            for controller in (
                DeploymentController(context),
                ReplicaSetController(context),
                StatefulSetController(context),
                DaemonSetController(context),
                JobController(context),
                CronJobController(context),
                Scheduler(context),
                self._endpoints,
                LoadBalancerController(context),
                NamespaceController(context),
                ServiceAccountController(context),
                AutoscalerController(context),
                DisruptionController(context),
                QuotaController(context),
                self._garbage,
            )
        ]

    async def start(self) -> None:
        """Create what every cluster has, then begin; needs a running event loop."""
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
