# SPDX-License-Identifier: Apache-2.0
"""TLS as a client sees it at the gateway: which certificate is shown for a name, whether to trust it, what is answered.

A name leads to the gateway whatever DNS says of it; it is what the client asks for in the handshake (SNI), what it
wants to read in the certificate, and the request's Host.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from labkit.cluster.target import ends_with_lesson, ends_with_target, require_no_refusal
from labkit.ground.errors import SettingError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Following", "shake"]

Way: TypeAlias = tuple[str, int]
"""Where the gateway speaks TLS: address and port, as `istio.ingress()` has them."""

_LONGEST = 5.0
"""Seconds that a connection may be silent."""

_PAUSE = 0.02
"""Seconds between two handshakes that follow each other."""


class _Seen(NamedTuple):
    """One connection: what was answered, and of the certificate that was shown its names and serial number."""

    answer: str
    shown: str = ""
    serial: str = ""


def shake(urls: Sequence[str], way: Way, *, trust: Path, client: Path | None = None) -> pd.DataFrame:
    """Ask for each URL over a connection of its own, as a client that trusts one authority.

    Args:
        urls: https://NAME/PATH.
        way: Where the gateway speaks TLS: its address and port.
        trust: The authority's certificate, PEM.
        client: The certificate that the client shows if it is asked, PEM, with its key beside it (`.key`); None: none.

    Returns:
        One row a URL (index "url"), all str. answer: the status, "200"; or why there is none, such as "reset" (nobody
        shook hands), "wrong name" (the certificate is not this name's), "not trusted: …", "certificate required" or
        "refused" (nobody listens). shown: the names in the certificate; serial: its number, hexadecimal; both ""
        where no certificate was shown that the authority has signed.

    Raises:
        NoTargetError: Choosing a cluster has failed: the address may be the one of a cluster that was chosen before.
        SettingError: A URL is not https, or a file is not there or no certificate.
    """
    import pandas as pd

    require_no_refusal()
    context = _context(trust, client)
    index = pd.Index(urls, name="url", dtype="str")
    rows = [_ask(_checked(url), way, context) for url in urls]
    return pd.DataFrame(rows, index, list(_Seen._fields), dtype="str")


class Following:
    """Shakes hands again and again, each time over a new connection, until it is stopped or its lesson ends.

    Args:
        url: https://NAME/PATH.
        way: Where the gateway speaks TLS.
        trust: The authority's certificate, PEM.

    Raises:
        NoTargetError, SettingError: As `shake`.
    """

    def __init__(self, url: str, way: Way, *, trust: Path) -> None:
        require_no_refusal()
        self._url, self._way, self._context = _checked(url), way, _context(trust, None)
        self._rows: list[tuple[float, _Seen]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"handshakes: {url}", daemon=True)
        ends_with_target(self)
        ends_with_lesson(self)
        self._thread.start()

    def stop(self) -> None:
        """Shake hands no more; what was seen is still there."""
        self.end()
        self._thread.join()

    def end(self) -> None:
        """The same, without waiting for the last answer."""
        self._over.set()

    @property
    def serials(self) -> list[str]:
        """The certificates that were shown so far, each once, by their serial numbers, in the order they came."""
        return list(dict.fromkeys(seen.serial for _, seen in list(self._rows) if seen.serial))

    @property
    def seen(self) -> pd.DataFrame:
        """All so far, a row each: time (datetime64[ns, UTC], when it began), and the columns of `shake`."""
        import pandas as pd

        columns = ["time", *_Seen._fields]
        frame = pd.DataFrame([(at, *seen) for at, seen in list(self._rows)], columns=columns)
        frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True).astype("datetime64[ns, UTC]")
        return frame

    def _work(self) -> None:
        while not self._over.wait(_PAUSE):
            self._rows.append((time.time(), _ask(self._url, self._way, self._context)))


def _context(trust: Path, client: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The name is compared below: a certificate with another one is to be seen as well.
    context.check_hostname = False
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(trust)
        if client is not None:
            context.load_cert_chain(client, client.with_suffix(".key"))
    except OSError as error:
        file = trust if client is None or not trust.is_file() else client
        raise SettingError(f"{file} cannot be used: {error}", next_step="Run the cell that makes it again.") from None
    return context


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise SettingError(f"{url!r} is no https:// address", next_step="Give it as https://NAME/PATH.")
    return url


def _ask(url: str, way: Way, context: ssl.SSLContext) -> _Seen:
    parts, seen = urlsplit(url), _Seen("")
    name = parts.hostname or ""
    try:
        with (
            socket.create_connection(way, timeout=_LONGEST) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            shown = secured.getpeercert() or {}
            names = [str(one[1]) for one in shown.get("subjectAltName", ()) if one[0] == "DNS"]
            seen = _Seen("", ", ".join(names), str(shown.get("serialNumber", "")))
            if not any(_is_named(name, one) for one in names):
                return seen._replace(answer="wrong name")
            request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
            with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
                # Who is refused for want of a certificate may have been hung up on by now; why is still to be read.
                secured.sendall(request.encode())
            answer = http.client.HTTPResponse(secured)
            answer.begin()
            answer.read()
            return seen._replace(answer=str(answer.status))
    except (OSError, http.client.HTTPException) as error:
        return seen._replace(answer=_why(error))


def _is_named(name: str, pattern: str) -> bool:
    """Whether a certificate's name is `name`, or a wildcard for one more word before a dot."""
    return name == pattern or (pattern.startswith("*.") and name.partition(".")[2] == pattern[2:])


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"not trusted: {error.verify_message}"
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, http.client.HTTPException)):
        return "reset"
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        # What the other side says: "TLSV13_ALERT_CERTIFICATE_REQUIRED".
        return error.reason.partition("ALERT_")[2].replace("_", " ").lower()
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return "timeout" if isinstance(error, TimeoutError) else str(error)
