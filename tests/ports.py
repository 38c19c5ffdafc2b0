# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def kept_port() -> Iterator[int]:
    """A free port of 127.0.0.1 that nobody else is given meanwhile.

    It is bound here, by a socket that does not listen. So a server that sets SO_REUSEADDR, as they all do, can take it;
    whoever asks the kernel for any port gets another one. Where it is let go of before the server has it, the next one
    to ask may get it.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
