# SPDX-License-Identifier: Apache-2.0
"""`wget` in a pod, with the options and the words of busybox', led through the sidecar as every Python program here is.

A machine's own wget finds no Service: it asks the machine's resolver. Kubernetes' pages test Services with this one. It
asks once, however many tries it is given.
"""

from __future__ import annotations

import getopt
import http.client
import os
import socket
import ssl
import sys
import urllib.parse
from typing import IO

__all__ = ["main"]

_SHORT = "qSO:o:P:T:t:U:"
_LONG = [
    *("quiet", "server-response", "spider", "no-check-certificate", "output-document=", "output-file="),
    *("directory-prefix=", "timeout=", "tries=", "user-agent=", "header=", "post-data=", "post-file="),
]
_LETTERS = {
    "--quiet": "-q", "--server-response": "-S", "--output-document": "-O", "--output-file": "-o",
    "--directory-prefix": "-P", "--timeout": "-T", "--user-agent": "-U",
}  # fmt: skip
_PATIENCE = 900.0
_REDIRECTS = 5
_USAGE = (
    "usage: wget [-qS] [-O FILE] [-o LOGFILE] [-P DIR] [-T SEC] [-U AGENT] [--header STR] [--post-data STR | "
    "--post-file FILE] [--spider] [--no-check-certificate] URL...  (in this sandbox)"
)


class _FailedError(Exception):
    """What is said before the end; an exit code of 1 follows."""


class _Wget:
    """One call of the program.

    Args:
        given: Its options, each by its letter where it has one.
        headers: What is sent with each request.
        body: What is posted; None for a GET.
        log: Where progress is told.
    """

    def __init__(self, given: dict[str, str], headers: dict[str, str], body: bytes | None, log: IO[str]) -> None:
        self._given = given
        self._headers = {"Host": "", "User-Agent": given.get("-U", "Wget"), "Connection": "close", **headers}
        self._body = body
        self._log = log
        self._patience = float(given.get("-T", _PATIENCE))

    def say(self, words: str) -> None:
        """Tell progress, unless it is to be quiet."""
        if "-q" not in self._given:
            print(words, file=self._log, flush=True)

    def fetch(self, url: str) -> None:
        """Get what is at a URL, and write it where it belongs.

        Raises:
            _FailedError: It is not to be had.
        """
        url = url if "://" in url else f"http://{url}"
        target = self._target(url)
        for _ in range(_REDIRECTS + 1):
            connection, answer = self._ask(url)
            try:
                if answer.status in (301, 302, 303, 307, 308) and (where := answer.getheader("Location")):
                    url = urllib.parse.urljoin(url, where)
                    continue
                if answer.status not in (200, 204, 206):
                    raise _FailedError(f"server returned error: HTTP/1.1 {answer.status} {answer.reason}")
                if "--spider" in self._given:
                    self.say("remote file exists")
                else:
                    self._save(answer, target)
                return
            finally:
                connection.close()
        raise _FailedError("too many redirections")

    def _target(self, url: str) -> str:
        if (named := self._given.get("-O")) is not None:
            return named
        last = urllib.parse.urlsplit(url).path.rpartition("/")[2]
        path = os.path.join(self._given.get("-P", ""), last or "index.html")
        if os.path.exists(path) and "--spider" not in self._given:
            raise _FailedError(f"can't open '{path}': File exists")
        return path

    def _ask(self, url: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        parts = urllib.parse.urlsplit(url)
        secure = parts.scheme == "https"
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _FailedError(f"not an http or ftp url: {url}")
        try:
            port = parts.port or (443 if secure else 80)
        except ValueError:
            raise _FailedError(f"bad address '{parts.netloc}'") from None
        connection = self._connected(parts.hostname, port)
        headers = {**self._headers, "Host": self._headers["Host"] or parts.netloc.rpartition("@")[2]}
        where = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            if secure:
                if "--no-check-certificate" not in self._given:
                    self.say("wget: note: TLS certificate validation not implemented")
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                connection.sock = context.wrap_socket(connection.sock, server_hostname=parts.hostname)
            connection.request("GET" if self._body is None else "POST", where, self._body, headers)
            answer = connection.getresponse()
        except TimeoutError:
            raise _FailedError("download timed out") from None
        except ssl.SSLError:
            raise _FailedError("TLS error from peer") from None
        except (OSError, http.client.HTTPException):
            raise _FailedError("error getting response: Connection reset by peer") from None
        if "-S" in self._given:
            lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(": ".join(one) for one in answer.getheaders())]
            print("".join(f"  {line}\n" for line in lines), end="", file=self._log)
        return connection, answer

    def _connected(self, host: str, port: int) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(host, port, timeout=self._patience)
        try:
            address = socket.gethostbyname(host)
        except (OSError, UnicodeError):
            raise _FailedError(f"bad address '{host}'") from None
        self.say(f"Connecting to {host} ({address}:{port})")
        try:
            connection.connect()
        except TimeoutError:
            raise _FailedError("download timed out") from None
        except OSError as error:
            raise _FailedError(f"can't connect to remote host ({address}): {error.strerror or error}") from None
        return connection

    def _save(self, answer: http.client.HTTPResponse, target: str) -> None:
        shown = "stdout" if target == "-" else f"'{target}'"
        self.say("writing to stdout" if target == "-" else f"saving to {shown}")
        try:
            with open(1 if target == "-" else target, "wb", closefd=target != "-") as file:
                while data := answer.read1(65536):
                    file.write(data)
        except TimeoutError:
            raise _FailedError("download timed out") from None
        except http.client.HTTPException:
            raise _FailedError("connection closed prematurely") from None
        except OSError as error:
            raise _FailedError(f"can't open {shown}: {error.strerror or error}") from None
        self.say("written to stdout" if target == "-" else f"{shown} saved")


def main() -> int:
    """The program; its exit code."""
    try:
        options, urls = getopt.gnu_getopt(sys.argv[1:], _SHORT, _LONG)
        given = {_LETTERS.get(name, name): value for name, value in options}
        float(given.get("-T", _PATIENCE))
    except (getopt.GetoptError, ValueError) as error:
        print(f"wget: {error}\n{_USAGE}", file=sys.stderr)
        return 1
    if not urls:
        print(_USAGE, file=sys.stderr)
        return 1
    pairs = [value.partition(":") for name, value in options if name == "--header"]
    headers = {name.strip().title(): value.strip() for name, _, value in pairs}
    try:
        body = given["--post-data"].encode() if "--post-data" in given else None
        if (file := given.get("--post-file")) is not None:
            with open(file, "rb") as opened:
                body = opened.read()
        if body is not None:
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        log = open(given["-o"], "a", encoding="utf-8") if "-o" in given else sys.stderr  # noqa: SIM115
        program = _Wget(given, headers, body, log)
        for url in urls:
            program.fetch(url)
    except _FailedError as error:
        print(f"wget: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"wget: can't open '{error.filename}': {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
