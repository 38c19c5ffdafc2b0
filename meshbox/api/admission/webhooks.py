# SPDX-License-Identifier: Apache-2.0
"""Mutating and validating webhooks of users' own: who is asked about a write, and what becomes of the answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from meshbox.admission_rules import OWN_WEBHOOKS
from meshbox.api import refusals
from meshbox.api.admission.asked import Asked
from meshbox.api.admission.calling import Caller
from meshbox.api.admission.expressions import EvaluationError, Names, conditions_met, unreadable
from meshbox.api.json_patch import json_patch
from meshbox.api.refusals import quoted
from meshbox.api.resources import Served
from meshbox.api.store import Store
from meshbox.api.webhook_answers import Answer, Call, Reviews
from meshbox.contracts import ApiError, Obj
from meshbox.values import clone

__all__ = ["MUTATING", "VALIDATING", "Change", "Webhooks"]

log = logging.getLogger(__name__)

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"

Change = Callable[[Obj, Served], Obj]
"""Turns an object that a webhook has patched, in the version it was shown in, into one as it is kept."""

_HARMLESS = ("None", "NoneOnDryRun")


class Webhooks:
    """Calls them in the API server's order: mutating ones in turn, by name; validating ones all at once.

    Args:
        store: Where they are.
        caller: Calls one.
        legacy: Whether Kubernetes 1.14 speaks.
    """

    def __init__(self, store: Store, caller: Caller, *, legacy: bool) -> None:
        self._store = store
        self._caller = caller
        self._legacy = legacy

    def all(self, resource: str) -> Iterator[tuple[str, Obj]]:
        """Name of the configuration and webhook, of MUTATING or VALIDATING `resource`; none of the mesh's."""
        for entry in self._store.entries(resource):
            for webhook in entry.obj.get("webhooks") or ():
                if not str(webhook.get("name")).endswith(OWN_WEBHOOKS):
                    yield entry.obj["metadata"]["name"], webhook

    def mutate(self, asked: Asked, reviews: Reviews, warnings: list[str], change: Change) -> Obj | None:
        """The object after all who may change it; the same one where nobody does.

        Raises:
            ApiError: One denied it, or could not be asked and says that this refuses the write.
            ReviewNeededError: One is yet to be asked.
        """
        hooks = list(self.all(MUTATING))
        left: dict[int, Obj | None] = {}
        obj = asked.obj
        for again in (False, True):
            for index, (configuration, webhook) in enumerate(hooks):
                stale = index in left and left[index] != obj and webhook.get("reinvocationPolicy") == "IfNeeded"
                if again and not stale:
                    continue
                now = asked.about(obj)
                served = self._chosen(webhook, now)
                if served is None:
                    continue
                call = Call(configuration, webhook, _unborn(now).request(served), mutating=True, again=again)
                answer = self._answers([call], reviews, warnings)[0]
                if answer.patch and obj is not None:
                    obj = change(_patched(now.shown(clone(obj), served) or {}, answer), served)
                left[index] = clone(obj)
        return obj

    def validate(self, asked: Asked, reviews: Reviews, warnings: list[str]) -> None:
        """Ask all who may refuse the write.

        Raises:
            ApiError: One denied it, or could not be asked and says that this refuses the write.
            ReviewNeededError: Some are yet to be asked.
        """
        calls = []
        for configuration, webhook in self.all(VALIDATING):
            served = self._chosen(webhook, asked)
            if served is not None:
                calls.append(Call(configuration, webhook, asked.request(served), mutating=False))
        if calls:
            self._answers(calls, reviews, warnings)

    def _chosen(self, webhook: Obj, asked: Asked) -> Served | None:
        """The version in which to ask a webhook; None where the write is no business of it."""
        served = asked.met(webhook.get("rules") or (), webhook.get("matchPolicy") or "Equivalent")
        if served is None or not asked.selected(webhook):
            return None
        conditions = [one for one in webhook.get("matchConditions") or () if not unreadable(str(one["expression"]))]
        try:
            if not conditions_met(conditions, Names(asked, served)):
                return None
        except EvaluationError as error:
            if webhook.get("failurePolicy") == "Ignore":
                return None
            raise refusals.forbidden(asked.served.resource, asked.name, str(error)) from error
        if asked.dry_run and webhook.get("sideEffects") not in _HARMLESS:
            raise refusals.bad_request(f"admission webhook {quoted(webhook['name'])} does not support dry run")
        return served

    def _answers(self, calls: list[Call], reviews: Reviews, warnings: list[str]) -> list[Answer]:
        answers = reviews.answers(calls, self._caller.ask)
        for call, answer in zip(calls, answers, strict=True):
            name = call.webhook["name"]
            for key, value in answer.audit.items():
                log.info("audit: %s/%s=%s", name, key, value)
            warnings += answer.warnings
        for call, answer in zip(calls, answers, strict=True):
            if answer.failed:
                self._failed(call.webhook, answer.failed)
            elif not answer.allowed:
                raise _denial(call.webhook["name"], answer.status)
        return answers

    def _failed(self, webhook: Obj, why: str) -> None:
        if self._legacy:
            why = why.removeprefix("failed to call webhook: ").replace('Post "', "Post ", 1).replace('": ', ": ", 1)
        cause = f"failed calling webhook {quoted(webhook['name'])}: {why}"
        if webhook.get("failurePolicy") == "Ignore":
            log.warning("failing open: %s", cause)
            return
        message = f"Internal error occurred: {cause}"
        raise ApiError(500, "InternalError", message, {"causes": [{"message": cause}]})


def _unborn(asked: Asked) -> Asked:
    """A write as who may still change it sees it: before a new object has what the server gives it."""
    if asked.operation != "CREATE" or asked.obj is None:
        return asked
    meta = dict(asked.obj["metadata"])
    for field in ("uid", "creationTimestamp", *(() if asked.name else ("name",))):
        meta.pop(field, None)
    return asked.about({**asked.obj, "metadata": meta})


def _patched(obj: Obj, answer: Answer) -> Obj:
    try:
        result = json_patch(obj, list(answer.patch))
    except ApiError as error:
        why = "the JSON patch does not apply" if error.code == 422 else error.message
        raise ApiError(500, "InternalError", f"Internal error occurred: {why}") from error
    if not isinstance(result, dict) or not isinstance(result.get("metadata"), dict):
        raise ApiError(500, "InternalError", "Internal error occurred: the JSON patch leaves no object with metadata")
    return result


def _denial(name: str, status: Obj) -> ApiError:
    """The refusal that a webhook has asked for: never a success, whatever it said."""
    code = status.get("code")
    if not isinstance(code, int) or isinstance(code, bool) or not 400 <= code <= 599:
        code = 400
    reason, said = str(status.get("reason") or ""), str(status.get("message") or "")
    why = f"{': ' if said or reason else ' '}{said or reason or 'without explanation'}"
    details = status.get("details")
    message = f"admission webhook {quoted(name)} denied the request{why}"
    return ApiError(code, reason, message, details if isinstance(details, dict) else None)
