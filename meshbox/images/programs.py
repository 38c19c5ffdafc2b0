# SPDX-License-Identifier: Apache-2.0
"""Images that bring general programs: those run as the machine's own, where it has them."""

from __future__ import annotations

import dataclasses
import shutil

from meshbox.images.context import ContainerContext, Image, Launch
from meshbox.images.references import machine_program

__all__ = ["IMAGES"]


def _with_kubectl(context: ContainerContext) -> Launch:
    """kubectl, or a shell that may call it, with the sandbox's own kubeconfig in place of the pod's service account."""
    home = context.settings.home
    # What kubectl learns of the API fills a hundred small files, which each pod would write anew.
    env = {"KUBECONFIG": str(home / "kubeconfig"), "KUBECACHEDIR": str(home / "kubectl-cache")}
    return Launch(argv=machine_program(context).argv, env=env)


def _curl(context: ContainerContext) -> Launch:
    """The curl image's entrypoint: its arguments are a command if they begin with a program, else they are curl's."""
    arguments = context.argv[1:]
    first = arguments[0] if arguments else ""
    command = first and not first.startswith("-") and shutil.which(first, path=context.env.get("PATH"))
    argv = arguments if command else ("curl", *arguments)
    return machine_program(dataclasses.replace(context, argv=argv))


def _python(context: ContainerContext) -> Launch:
    """The machine's Python, whichever of its names is called."""
    return machine_program(dataclasses.replace(context, argv=("python3", *context.argv[1:])))


IMAGES = (
    Image(
        repositories=("curlimages/curl", "curl/curl", "governmentpaas/curl-ssl", "tutum/curl", "pstauffer/curl"),
        entrypoint=("/entrypoint.sh",),
        programs={"entrypoint.sh": _curl},
        size=9_500_000,
        stands_in="runs this machine's programs",
    ),
    Image(
        repositories=("library/python",),
        cmd=("python3",),
        programs=dict.fromkeys(("python", "python3"), _python),
        size=45_000_000,
        stands_in="runs this machine's Python",
    ),
    Image(
        repositories=("library/busybox", "library/alpine", "busybox", "e2e-test-images/busybox"),
        cmd=("sh",),
        size=2_200_000,
        stands_in="runs this machine's programs",
    ),
    Image(
        repositories=(
            "istio/kubectl",
            "istio-release/kubectl",
            "bitnami/kubectl",
            "bitnamilegacy/kubectl",
            "release/kubectl",
        ),
        entrypoint=("kubectl",),
        programs=dict.fromkeys(("kubectl", "bash", "sh"), _with_kubectl),
        size=50_000_000,
        stands_in="runs this machine's kubectl",
    ),
)
