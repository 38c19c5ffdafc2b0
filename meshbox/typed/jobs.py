# SPDX-License-Identifier: Apache-2.0
"""What runs pods to their end. Made by tools/generate_typed_kinds.py."""

from __future__ import annotations

from typing import TypedDict

from labkit.ground.typed.metadata import LabelSelector, ObjectMeta
from meshbox.typed.pods import PodTemplateSpec


class PodFailurePolicyOnExitCodesRequirement(TypedDict, total=False):
    containerName: str
    operator: str
    values: list[int]


class PodFailurePolicyOnPodConditionsPattern(TypedDict, total=False):
    status: str
    type: str


class PodFailurePolicyRule(TypedDict, total=False):
    action: str
    onExitCodes: PodFailurePolicyOnExitCodesRequirement
    onPodConditions: list[PodFailurePolicyOnPodConditionsPattern]


class PodFailurePolicy(TypedDict, total=False):
    rules: list[PodFailurePolicyRule]


class SuccessPolicyRule(TypedDict, total=False):
    succeededCount: int
    succeededIndexes: str


class SuccessPolicy(TypedDict, total=False):
    rules: list[SuccessPolicyRule]


class JobSpec(TypedDict, total=False):
    activeDeadlineSeconds: int
    backoffLimit: int
    backoffLimitPerIndex: int
    completionMode: str
    completions: int
    managedBy: str
    manualSelector: bool
    maxFailedIndexes: int
    parallelism: int
    podFailurePolicy: PodFailurePolicy
    podReplacementPolicy: str
    selector: LabelSelector
    successPolicy: SuccessPolicy
    suspend: bool
    template: PodTemplateSpec
    ttlSecondsAfterFinished: int


class JobCondition(TypedDict, total=False):
    lastProbeTime: str
    lastTransitionTime: str
    message: str
    reason: str
    status: str
    type: str


class UncountedTerminatedPods(TypedDict, total=False):
    failed: list[str]
    succeeded: list[str]


class JobStatus(TypedDict, total=False):
    active: int
    completedIndexes: str
    completionTime: str
    conditions: list[JobCondition]
    failed: int
    failedIndexes: str
    ready: int
    startTime: str
    succeeded: int
    terminating: int
    uncountedTerminatedPods: UncountedTerminatedPods


class Job(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: JobSpec
    status: JobStatus


class JobTemplateSpec(TypedDict, total=False):
    metadata: ObjectMeta
    spec: JobSpec


class CronJobSpec(TypedDict, total=False):
    concurrencyPolicy: str
    failedJobsHistoryLimit: int
    jobTemplate: JobTemplateSpec
    schedule: str
    startingDeadlineSeconds: int
    successfulJobsHistoryLimit: int
    suspend: bool
    timeZone: str


class ObjectReference(TypedDict, total=False):
    apiVersion: str
    fieldPath: str
    kind: str
    name: str
    namespace: str
    resourceVersion: str
    uid: str


class CronJobStatus(TypedDict, total=False):
    active: list[ObjectReference]
    lastScheduleTime: str
    lastSuccessfulTime: str


class CronJob(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: CronJobSpec
    status: CronJobStatus
