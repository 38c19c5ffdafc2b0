# SPDX-License-Identifier: Apache-2.0
"""Startup, readiness and liveness probes of one container."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from meshbox import failures
from meshbox.node.handlers import Target, act

if TYPE_CHECKING:
    from meshbox.typed import containers as api
    from meshbox.typed.containers import Container

__all__ = ["Probe", "probe_container"]

_EAGER = (0.02, 0.03, 0.05, 0.1, 0.15)
"""Seconds between the early looks at a container that starts; the last one is repeated."""

_EAGER_EXEC = (0.1, 0.2, 0.4)
_EAGER_FOR = 5.0
"""Seconds for which they go on, or for the probe's initial delay if that is longer."""

Kind = Literal["Startup", "Readiness", "Liveness"]
Report = Callable[[Kind, str], None]
Passed = Callable[[Kind, bool], None]


class Probe:
    """One probe's settings, with Kubernetes' defaults.

    Args:
        spec: The probe as the pod gives it.
    """

    def __init__(self, spec: api.Probe) -> None:
        self.spec = spec
        self.delay = float(spec.get("initialDelaySeconds") or 0)
        self.period = float(spec.get("periodSeconds") or 10)
        self.timeout = float(spec.get("timeoutSeconds") or 1)
        self.failures = int(spec.get("failureThreshold") or 3)
        self.successes = int(spec.get("successThreshold") or 1)

    async def once(self, container: Container, target: Target) -> str | None:
        """Probe: None if it passes, else why not."""
        try:
            async with asyncio.timeout(self.timeout):
                await act(self.spec, container, target)
        except TimeoutError:
            if "exec" in self.spec:
                return (
                    f'command timed out: "{" ".join(self.spec["exec"]["command"])}" timed out after {self.timeout:g}s'
                )
            return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        except Exception as failure:
            # Whatever it was, this look has failed, and the next may not.
            return failures.noted(failure, f"probe of container {container.get('name')}")
        return None


async def probe_container(
    container: Container, where: Callable[[], Target], eager: bool, report: Report, passed: Passed
) -> Exception | None:
    """Run the container's probes until cancelled: the startup probe first, then the other two beside each other.

    Args:
        container: The container's spec.
        where: Says where to probe.
        eager: Whether to look often at the start; such looks can only succeed, never fail.
        report: Told of every failure.
        passed: Told when the verdict of a probe changes; a liveness or startup probe that fails ends here.

    Returns:
        What nobody foresaw, after which nothing is probed any more; None where there is nothing left to probe.
    """
    try:
        target = where()
        if startup := container.get("startupProbe"):
            await _until_started(Probe(startup), container, target, eager, report, passed)
        async with asyncio.TaskGroup() as group:
            if readiness := container.get("readinessProbe"):
                group.create_task(_watch("Readiness", Probe(readiness), container, target, eager, report, passed))
            if liveness := container.get("livenessProbe"):
                group.create_task(_watch("Liveness", Probe(liveness), container, target, False, report, passed))
    except ExceptionGroup as group_error:
        return group_error.exceptions[0]
    except Exception as error:
        return error
    return None


async def _eagerly(probe: Probe, container: Container, target: Target) -> bool:
    """Look early and often; whether it passed before the probe's own clock begins to count."""
    pauses, waited = _EAGER_EXEC if "exec" in probe.spec else _EAGER, 0.0
    for pause in itertools.chain(pauses, itertools.repeat(pauses[-1])):
        if waited > max(_EAGER_FOR, probe.delay):
            return False
        await asyncio.sleep(pause)
        waited += pause
        if await probe.once(container, target) is None:
            return True
    return False


async def _until_started(
    probe: Probe, container: Container, target: Target, eager: bool, report: Report, passed: Passed
) -> None:
    if not (eager and await _eagerly(probe, container, target)):
        await asyncio.sleep(probe.delay)
        failures = 0
        while (problem := await probe.once(container, target)) is not None:
            report("Startup", problem)
            failures += 1
            if failures >= probe.failures:
                passed("Startup", False)
                await asyncio.Event().wait()
            await asyncio.sleep(probe.period)
    passed("Startup", True)


async def _watch(
    kind: Kind,
    probe: Probe,
    container: Container,
    target: Target,
    eager: bool,
    report: Report,
    passed: Passed,
) -> None:
    verdict, streak, last = kind == "Liveness", 0, True
    if eager and probe.successes == 1 and await _eagerly(probe, container, target):
        verdict = True
        passed(kind, True)
        await asyncio.sleep(probe.period)
    else:
        await asyncio.sleep(probe.delay)
    while True:
        problem = await probe.once(container, target)
        passes = problem is None
        streak = streak + 1 if passes == last else 1
        last = passes
        if problem is not None:
            report(kind, problem)
        if passes != verdict and streak >= (probe.successes if passes else probe.failures):
            verdict = passes
            passed(kind, verdict)
            if kind == "Liveness" and not verdict:
                return
        await asyncio.sleep(probe.period)
