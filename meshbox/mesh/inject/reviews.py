# SPDX-License-Identifier: Apache-2.0
"""The injector's answer to an AdmissionReview that somebody sends it by himself, as `istioctl kube-inject` does.

No webhook's selectors count then, since nobody writes a pod: whoever asks wants to see it.
"""

from __future__ import annotations

import base64
import copy
import json

from meshbox.contracts import AdmissionRequest, Obj, Objects
from meshbox.mesh.inject import Template, fill, wanted
from meshbox.settings import SandboxSettings

__all__ = ["reviewed"]


def reviewed(objects: Objects, settings: SandboxSettings, review: Obj) -> Obj:
    """The review with its response: a patch where the pod gets a sidecar, or why it cannot have one.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
        review: An AdmissionReview (v1 or v1beta1) of a pod.

    Raises:
        KeyError, TypeError, AttributeError: It is none.
    """
    request = review["request"]
    pod = copy.deepcopy(request["object"])
    namespace = str(request.get("namespace") or pod["metadata"].get("namespace") or "default")
    response: Obj = {"uid": str(request.get("uid") or ""), "allowed": True}
    template = Template.of(objects, settings.release)
    if wanted(pod, namespace, template, legacy=settings.legacy):
        asked = AdmissionRequest("CREATE", "pods", namespace, str(pod["metadata"].get("name") or ""), pod)
        try:
            fill(objects, asked, template, legacy=settings.legacy)
        except ValueError as error:
            response |= {"allowed": False, "status": {"message": f"failed to run injection template: {error}"}}
        else:
            steps = [{"op": "add", "path": f"/{part}", "value": pod[part]} for part in ("metadata", "spec")]
            response |= {"patch": base64.b64encode(json.dumps(steps).encode()).decode(), "patchType": "JSONPatch"}
    return {"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response}
