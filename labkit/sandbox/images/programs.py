"""Images that bring general programs: those run as the machine's own, where it has them."""

from __future__ import annotations

from labkit.sandbox.images.context import ContainerContext, Image, Launch
from labkit.sandbox.images.registry import machine_program

__all__ = ["IMAGES"]


def _kubectl(context: ContainerContext) -> Launch:
    """kubectl with the sandbox's own kubeconfig, in place of the pod's service account."""
    launch = machine_program(context)
    return Launch(argv=launch.argv, env={"KUBECONFIG": str(context.settings.home / "kubeconfig")})


def _shell(context: ContainerContext) -> Launch:
    """A shell whose commands may call kubectl."""
    launch = machine_program(context)
    return Launch(argv=launch.argv, env={"KUBECONFIG": str(context.settings.home / "kubeconfig")})


IMAGES = (
    Image(
        repositories=("library/nginx", "nginxinc/nginx-unprivileged", "library/httpd"),
        entrypoint=("nginx",),
        programs=dict.fromkeys(("nginx", "httpd", "nginx-unprivileged"), "labkit.sandbox.images.static:main"),
        size=190_000_000,
        stands_in="a small server of static files, written in Python",
    ),
    Image(
        repositories=("curlimages/curl", "curl/curl", "governmentpaas/curl-ssl", "tutum/curl", "pstauffer/curl"),
        entrypoint=("curl",),
        size=9_500_000,
        stands_in="runs this machine's programs",
    ),
    Image(
        repositories=("library/busybox", "library/alpine"),
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
        programs={"kubectl": _kubectl, "bash": _shell, "sh": _shell},
        size=50_000_000,
        stands_in="runs this machine's kubectl",
    ),
)
