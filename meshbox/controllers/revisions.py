# SPDX-License-Identifier: Apache-2.0
"""ControllerRevisions: which templates a StatefulSet or DaemonSet has had."""

from __future__ import annotations

from msgspec import Struct

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.meta import MANAGER, Context, controller_of, hash_text, owner_reference
from meshbox.controllers.owned import OwnerKind
from meshbox.values import clone

__all__ = ["HASH", "Revision", "current_revision"]

HASH = "controller-revision-hash"
"""The label by which a pod tells its revision."""

_OWN_HASH = {"StatefulSet": "controller.kubernetes.io/hash", "DaemonSet": HASH}
"""The label by which a revision of each kind tells its own hash."""

_RESOURCE = "controllerrevisions.apps"


class Revision(Struct, frozen=True):
    """A template's name: "web-5d8f9c7b4", and the hash in it."""

    name: str
    digest: str


def current_revision(context: Context, owner: Obj, kind: OwnerKind) -> Revision:
    """The revision of the owner's template as it is now; recorded, and older ones forgotten beyond the limit."""
    meta = owner["metadata"]
    template = owner["spec"]["template"]
    digest = hash_text(template)
    revision = Revision(f"{meta['name']}-{digest}", digest)
    known = [
        item
        for item in context.objects.list(_RESOURCE, meta["namespace"])
        if (controller_of(item) or {}).get("uid") == meta["uid"]
    ]
    known.sort(key=lambda item: int(item["revision"]))
    latest = int(known[-1]["revision"]) if known else 0
    same = next((item for item in known if item["metadata"]["name"] == revision.name), None)
    if same is None:
        content = {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": revision.name,
                "namespace": meta["namespace"],
                "labels": {**(template.get("metadata", {}).get("labels") or {}), _OWN_HASH[kind.kind]: digest},
                "annotations": dict(meta.get("annotations") or {}),
                "ownerReferences": [owner_reference(owner, kind.api_version, kind.kind)],
            },
            "data": {"spec": {"template": {**clone(template), "$patch": "replace"}}},
            "revision": latest + 1,
        }
        try:
            known.append(context.objects.create(_RESOURCE, content, meta["namespace"], manager=MANAGER))
        except ApiError as error:
            # Left over from an owner of the same name that is being collected; it goes by itself.
            if error.reason != "AlreadyExists":
                raise
    elif int(same["revision"]) < latest:
        context.objects.update(_RESOURCE, {**same, "revision": latest + 1}, manager=MANAGER)
    limit = owner["spec"].get("revisionHistoryLimit", 10)
    old = [item for item in known if item["metadata"]["name"] != revision.name]
    for item in old[: max(0, len(old) - limit)]:
        context.objects.delete(_RESOURCE, item["metadata"]["name"], meta["namespace"])
    return revision
