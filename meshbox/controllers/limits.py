# SPDX-License-Identifier: Apache-2.0
"""LimitRange: what a container asks for where it does not say, and how much it may ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labkit.ground.quantity import Quantity
from meshbox.contracts import AdmissionRequest, ApiError, Obj, Objects
from meshbox.controllers.meta import forbidden
from meshbox.controllers.quota import pod_usage

__all__ = ["LimitAdmission"]

RANGES = "limitranges"
CLAIMS = "persistentvolumeclaims"
ANNOTATION = "kubernetes.io/limit-ranger"

Amounts = dict[str, Quantity]


class LimitAdmission:
    """Completes new pods, and refuses pods and claims beyond a limit of their namespace.

    Args:
        objects: The cluster's objects.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def _limits(self, request: AdmissionRequest) -> Iterator[Obj]:
        for one in self._objects.view(RANGES, request.namespace):
            yield from one["spec"].get("limits") or ()

    def mutate(self, request: AdmissionRequest) -> None:
        """Give a new pod's containers the requests and limits that they do not name.

        Raises:
            ApiError: 422 where one then asks for more than its limit: that is checked before this, and again here.
        """
        if request.operation != "CREATE" or request.resource != "pods":
            return
        said: list[str] = []
        for limit in self._limits(request):
            if limit.get("type") == "Container":
                for word, container in _containers(request.object):
                    said += _complete(container, limit, f"{word} {container.get('name')}")
        if not said:
            return
        annotations = request.object["metadata"].setdefault("annotations", {})
        annotations[ANNOTATION] = f"LimitRanger plugin set: {'; '.join(said)}"
        _check_requests(request)

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse what is beyond a limit.

        Raises:
            ApiError: 403, in Kubernetes' words.
        """
        if request.operation == "DELETE" or request.subresource or not request.namespace:
            return
        if request.resource == "pods" and request.operation == "CREATE":
            wrong = [words for limit in self._limits(request) for words in _of_pod(request.object, limit)]
        elif request.resource == CLAIMS:
            wrong = [words for limit in self._limits(request) for words in _of_claim(request.object, limit)]
        else:
            return
        if wrong:
            why = wrong[0] if len(wrong) == 1 else f"[{', '.join(dict.fromkeys(wrong))}]"
            raise forbidden(request, why)


def _containers(pod: Obj) -> Iterator[tuple[str, Obj]]:
    for container in pod["spec"].get("containers") or ():
        yield "container", container
    for container in pod["spec"].get("initContainers") or ():
        yield "init container", container


def _complete(container: Obj, limit: Obj, name: str) -> list[str]:
    """Set what `container` does not name, in place; returns what was set."""
    said = []
    for kind, word, field in (("requests", "request", "defaultRequest"), ("limits", "limit", "default")):
        given = (container.get("resources") or {}).get(kind) or {}
        missing = {key: value for key, value in (limit.get(field) or {}).items() if key not in given}
        if missing:
            resources = container["resources"] = dict(container.get("resources") or {})
            resources[kind] = {**given, **missing}
            said.append(f"{', '.join(sorted(missing))} {word} for {name}")
    return said


def _check_requests(request: AdmissionRequest) -> None:
    causes = []
    for index, container in enumerate(request.object["spec"].get("containers") or ()):
        resources = container.get("resources") or {}
        limits = _amounts(resources.get("limits"))
        for key, value in _amounts(resources.get("requests")).items():
            if key in limits and value > limits[key]:
                field = f"spec.containers[{index}].resources.requests"
                words = f'Invalid value: "{value}": must be less than or equal to {key} limit of {limits[key]}'
                causes.append({"reason": "FieldValueInvalid", "message": words, "field": field})
    if causes:
        said = [f"{one['field']}: {one['message']}" for one in causes]
        text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
        details = {"name": request.name, "kind": "Pod", "causes": causes}
        raise ApiError(422, "Invalid", f'Pod "{request.name}" is invalid: {text}', details)


def _amounts(given: Obj | None) -> Amounts:
    return {key: Quantity.of(value) for key, value in (given or {}).items()}


def _of_pod(pod: Obj, limit: Obj) -> Iterable[str]:
    if limit.get("type") == "Container":
        for _, container in _containers(pod):
            resources = container.get("resources") or {}
            yield from _beyond(limit, _amounts(resources.get("requests")), _amounts(resources.get("limits")))
    elif limit.get("type") == "Pod":
        used = pod_usage(pod["spec"])
        asked, most = (
            {key.partition(".")[2]: value for key, value in used.items() if key.startswith(f"{kind}.")}
            for kind in ("requests", "limits")
        )
        yield from _beyond(limit, asked, most)


def _beyond(limit: Obj, requests: Amounts, limits: Amounts) -> Iterable[str]:
    """What breaks one limit, in the order in which Kubernetes looks."""
    kind = limit["type"]
    for key, least in sorted(_amounts(limit.get("min")).items()):
        begin = f"minimum {key} usage per {kind} is {least}"
        if key not in requests:
            yield f"{begin}.  No request is specified"
        elif requests[key] < least:
            yield f"{begin}, but request is {requests[key]}"
        elif key in limits and limits[key] < least:
            yield f"{begin}, but limit is {limits[key]}"
    for key, most in sorted(_amounts(limit.get("max")).items()):
        begin = f"maximum {key} usage per {kind} is {most}"
        if key not in limits:
            yield f"{begin}.  No limit is specified"
        elif limits[key] > most:
            yield f"{begin}, but limit is {limits[key]}"
        elif key in requests and requests[key] > most:
            yield f"{begin}, but request is {requests[key]}"
    for key, ratio in sorted(_amounts(limit.get("maxLimitRequestRatio")).items()):
        begin = f"{key} max limit to request ratio per {kind} is {ratio}"
        if not requests.get(key):
            yield f"{begin}, but no request is specified or request is 0"
        elif not limits.get(key):
            yield f"{begin}, but no limit is specified or limit is 0"
        elif (found := limits[key].amount / requests[key].amount) > ratio.amount:
            yield f"{begin}, but provided ratio is {float(found):f}"


def _of_claim(claim: Obj, limit: Obj) -> Iterable[str]:
    if limit.get("type") != "PersistentVolumeClaim":
        return
    asked = _amounts(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    for word, bounds in (("minimum", limit.get("min")), ("maximum", limit.get("max"))):
        for key, bound in sorted(_amounts(bounds).items()):
            begin = f"{word} {key} usage per PersistentVolumeClaim is {bound}"
            if key not in asked:
                yield f"{begin}.  No request is specified"
            elif asked[key] < bound if word == "minimum" else asked[key] > bound:
                yield f"{begin}, but request is {asked[key]}"
