# SPDX-License-Identifier: Apache-2.0
"""What each container image runs as.

An image is looked up by its repository, whatever its registry and tag, and gives what a real image gives: an
entrypoint, default arguments, variables and the programs inside it. A program is one of

    "module:function"   a Python function, run in a fork of the node's keeper; `sys.argv` is the command line
    a `Runner`          a function that decides from the `ContainerContext` what to launch

An image that a learner added (`own`) runs the program that they named.
Any other command runs the machine's own program of that name, so ``/bin/sleep infinity`` is the real sleep.

What a container's process finds in its environment besides the pod's own variables:

    LABKIT_SANDBOX         the sandbox's folder; marks every process of the sandbox
    LABKIT_CONTAINER       the container's id (64 hexadecimal digits)
    LABKIT_IMAGE           the image's full name
    LABKIT_ROOT            the folder that plays the container's "/": a mount at /etc/x is at $LABKIT_ROOT/etc/x
    LABKIT_POD_IP          the pod IP
    LABKIT_LOCAL_IP        the address that stands for the pod's own localhost
    LABKIT_BIND            the address an application binds: the pod's localhost behind a sidecar, else the pod IP
    LABKIT_CAPTURE         where a sidecar is an HTTP proxy ("<local IP>:15001"); absent without a sidecar
    LABKIT_CAPTURE_SOCKET  the Unix socket where a sidecar captures outbound calls; absent without a sidecar
    LABKIT_INTERCEPTION    what the sidecar leaves alone (`meshbox.interception`); absent where it takes everything
    LABKIT_NAMESPACE       the pod's namespace
    LABKIT_DNS             the file with the cluster's names (see `meshbox.node.names`)
    LABKIT_SHIM            the folder with the sitecustomize that makes Services' names known to Python programs
    LABKIT_LOW_PORT_SHIFT  what to add to a port below 1024 before binding it: "0", or "20000" without privilege
"""

from __future__ import annotations

from meshbox.images.context import ContainerContext, Image, ImageName, Launch, Runner
from meshbox.images.references import ProgramNotFoundError, find, known, known_as, launch, modules, near

__all__ = [
    "ContainerContext",
    "Image",
    "ImageName",
    "Launch",
    "ProgramNotFoundError",
    "Runner",
    "find",
    "known",
    "known_as",
    "launch",
    "modules",
    "near",
]
