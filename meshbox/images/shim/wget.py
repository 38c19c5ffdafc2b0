# SPDX-License-Identifier: Apache-2.0
"""`wget` in a pod: a client of HTTP with BusyBox's options and words, led through the sidecar as every Python here is.

The machine's own finds neither the cluster's names nor the sidecar. However many tries it is given, it asks once.
"""

from __future__ import annotations

import getopt
import http.client
import os
import socket
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import BinaryIO

__all__ = ["main"]

_SHORT = "qSO:P:U:T:t:"
_LONG = (
    "header=", "no-check-certificate", "output-document=", "post-data=", "quiet",
    "server-response", "spider", "timeout=", "tries=", "user-agent=",
)  # fmt: skip
_SAME = {"--output-document": "-O", "--quiet": "-q", "--server-response": "-S", "--timeout": "-T", "--tries": "-t"}
_SAME |= {"--user-agent": "-U"}
_USAGE = (
    "usage: wget [-qS] [-O FILE] [-P DIR] [-U AGENT] [-T SECONDS] [--header 'NAME: VALUE'] [--post-data TEXT] "
    "[--spider] [--no-check-certificate] URL…"
)


class _WgetError(Exception):
    """What wget says of it."""


def main() -> int:
    """The program; its exit code."""
    try:
        options, urls = getopt.gnu_getopt(sys.argv[1:], _SHORT, list(_LONG))
        given = {_SAME.get(name, name): value for name, value in options}
        timeout = float(given.get("-T", 900))
    except (getopt.GetoptError, ValueError) as error:
        print(f"wget: {error}\n{_USAGE}", file=sys.stderr)
        return 1
    if not urls:
        print(f"wget: no URL\n{_USAGE}", file=sys.stderr)
        return 1
    headers = dict(value.split(":", 1) for name, value in options if name == "--header" and ":" in value)
    try:
        for url in urls:
            _fetch(url if "://" in url else f"http://{url}", given, headers, timeout)
    except _WgetError as error:
        print(f"wget: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return 0


def _fetch(url: str, given: dict[str, str], headers: dict[str, str], timeout: float) -> None:
    place = urllib.parse.urlsplit(url)
    if place.scheme not in ("http", "https"):
        raise _WgetError(f"not an http or https URL: {url}")
    try:
        host, port = place.hostname or "", place.port or (443 if place.scheme == "https" else 80)
    except ValueError:
        raise _WgetError(f"bad port spec '{place.netloc}'") from None
    try:
        address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except OSError:
        raise _WgetError(f"bad address '{place.netloc}'") from None

    def say(text: str) -> None:
        if "-q" not in given:
            print(text, file=sys.stderr)

    say(f"Connecting to {place.netloc} ({address}:{port})")
    fields = {"User-Agent": given.get("-U", "Wget"), "Connection": "close"}
    fields |= {name.strip(): value.strip() for name, value in headers.items()}
    data = given["--post-data"].encode() if "--post-data" in given else None
    request = urllib.request.Request(url, data, fields, method="HEAD" if "--spider" in given else None)
    context = ssl.create_default_context()
    if "--no-check-certificate" in given:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _Redirects()
    )
    try:
        with opener.open(request, timeout=timeout) as answer:
            _told(answer, given)
            if "--spider" in given:
                say("remote file exists")
            else:
                _keep(answer, place, given, say)
    except urllib.error.HTTPError as error:
        _told(error, given)
        raise _WgetError(f"server returned error: HTTP/1.1 {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _WgetError(_why(error.reason, f"{host} ({address})")) from None
    except (OSError, http.client.HTTPException) as error:
        raise _WgetError(_why(error, f"{host} ({address})")) from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """As many as BusyBox follows."""

    max_redirections = 5


def _why(reason: object, place: str) -> str:
    if isinstance(reason, TimeoutError):
        return "download timed out"
    if isinstance(reason, http.client.RemoteDisconnected):
        return "error getting response"
    said = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return f"can't connect to remote host {place}: {said}"


def _told(answer: http.client.HTTPResponse | urllib.error.HTTPError, given: dict[str, str]) -> None:
    if "-S" in given:
        status = answer.code if isinstance(answer, urllib.error.HTTPError) else answer.status
        print(f"  HTTP/1.1 {status} {answer.reason}", file=sys.stderr)
        print("".join(f"  {name}: {value}\n" for name, value in answer.headers.items()), end="", file=sys.stderr)


def _keep(
    answer: http.client.HTTPResponse,
    place: urllib.parse.SplitResult,
    given: dict[str, str],
    say: Callable[[str], None],
) -> None:
    name = given.get("-O") or os.path.join(given.get("-P", ""), os.path.basename(place.path) or "index.html")
    if name == "-":
        say("writing to stdout")
        _copy(answer, sys.stdout.buffer)
        say("written to stdout")
        return
    if "-O" not in given and os.path.exists(name):
        raise _WgetError(f"can't open '{name}': File exists")
    say(f"saving to '{name}'")
    try:
        with open(name, "wb") as file:
            _copy(answer, file)
    except OSError as error:
        raise _WgetError(f"can't open '{name}': {error.strerror}") from None
    say(f"'{name}' saved")


def _copy(answer: http.client.HTTPResponse, target: BinaryIO) -> None:
    while data := answer.read(65536):
        target.write(data)
    target.flush()


if __name__ == "__main__":
    sys.exit(main())
