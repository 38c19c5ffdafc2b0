# SPDX-License-Identifier: Apache-2.0
"""Istio's sample authorizer in a world of Envoys, and the mesh's settings that name it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from meshbox.images import ContainerContext, ImageName, find, launch

from .bookshop import Bookshop
from .world import Pod

Obj = dict[str, Any]


async def authorizer(shop: Bookshop) -> tuple[Pod, subprocess.Popen[bytes]]:
    """Istio's sample, started as the node starts it."""
    shop.service("ext-authz", [{"name": "http", "port": 8000}, {"name": "grpc", "port": 9000}])
    pod = await shop.pod("ext-authz", {"app": "ext-authz"}, ports=(8000, 9000), role="")
    root = shop.settings.home / "pods" / pod.name
    root.mkdir(parents=True)
    reference = "registry.istio.io/testing/ext-authz:latest"
    image = find(reference)
    assert image is not None
    context = ContainerContext(
        pod=pod.obj,
        container={"name": "ext-authz", "image": reference},
        image=ImageName.parse(reference),
        argv=image.command_line([], []),
        env={},
        settings=shop.settings,
        pod_ip=pod.ip,
        local_ip=pod.local,
        bind=pod.ip,
        root=root,
    )
    started = launch(image, context)
    module, _, function = started.entry.partition(":")
    pod.log = root / "log"
    with open(pod.log, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import {module} as m; raise SystemExit(m.{function}())", *started.argv[1:]],
            env={**os.environ, **started.env, "LABKIT_BIND": pod.ip, "LABKIT_LOCAL_IP": pod.local},
            stdout=log,
            stderr=log,
        )
    for port in (8000, 9000):
        await shop.listening(pod.ip, port)
    return pod, process


def providers(shop: Bookshop) -> None:
    where = "ext-authz.bookinfo.svc.cluster.local"
    http = {
        "service": where,
        "port": 8000,
        "includeRequestHeadersInCheck": ["x-ext-*"],
        "includeAdditionalHeadersInCheck": {"x-ext-authz-additional-header-override": "ours"},
        "includeRequestBodyInCheck": {"maxRequestBytes": 100, "allowPartialMessage": True},
        "headersToUpstreamOnAllow": ["x-ext-authz-*"],
        "headersToDownstreamOnDeny": ["x-ext-authz-check-result"],
        "headersToDownstreamOnAllow": ["x-ext-authz-check-result"],
        "timeout": "60s",
    }
    known = [
        {"name": "http", "envoyExtAuthzHttp": http},
        {"name": "grpc", "envoyExtAuthzGrpc": {"service": where, "port": 9000, "timeout": "60s"}},
        {"name": "gone", "envoyExtAuthzHttp": {"service": "gone.bookinfo.svc.cluster.local", "port": 80}},
    ]
    shop.mesh_config(accessLogFile="/dev/stdout", extensionProviders=known)
