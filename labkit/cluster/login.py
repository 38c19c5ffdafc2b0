# SPDX-License-Identifier: Apache-2.0
"""The official client, made from a kubeconfig. Its import takes its time: this is loaded with the first question.

A kubeconfig may name a program that logs in, an exec plugin. It may hang, and the official client would wait for it. So
the client is told to run another program, which runs the plugin, passes on what it says, and ends it when it has had
its time. kubectl runs the plugin itself.
"""

from __future__ import annotations

import ipaddress
import logging
import shlex
import ssl
import sys
import threading
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import urllib3
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.rest import should_bypass_proxies
from kubernetes.config import ConfigException, load_kube_config, load_kube_config_from_dict

from labkit.cluster import kubeconfig
from labkit.cluster.explain import explain
from labkit.ground.errors import ClusterError

__all__ = ["api_client", "websocket_options"]

Parts = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]

PATIENCE = 120.0
"""Seconds that a plugin has: some of them wait until somebody has typed a password into a browser."""

# What the plugin has started may hold its output open: so the whole tree ends, and nothing is read to its end.
_PROGRAM = """
import subprocess, sys, psutil
seconds, ended, *command = sys.argv[1:]
shown = None if sys.stderr.isatty() else subprocess.PIPE
try:
    plugin = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=shown, text=True)
except OSError as error:
    sys.exit(str(error))
try:
    said, errors = plugin.communicate(timeout=float(seconds))
except subprocess.TimeoutExpired:
    for one in [*psutil.Process(plugin.pid).children(recursive=True), plugin]:
        one.kill()
    open(ended, "w").close()
    sys.exit("it was ended")
sys.stdout.write(said)
sys.stderr.write(errors or "")
sys.exit(plugin.returncode)
"""


def api_client(file: Path, parts: Parts, shown: str) -> tuple[Any, list[str]]:
    """The official client for a kubeconfig of our own, and what was said while it looked for a way to log in.

    Args:
        file: The kubeconfig.
        parts: Its current context, its cluster and its user.
        shown: What the cluster is called in an error.

    Raises:
        ClusterError: It cannot be used, or its plugin had to be ended.
    """
    _context, cluster, user = parts
    # The package says its types for its models only.
    load: Callable[..., None] = load_kube_config
    content: Any = str(file)
    ended = kubeconfig.temporary() / f"plugin-{threading.get_ident()}-ended"
    ended.unlink(missing_ok=True)
    if user.get("exec"):
        load, content = load_kube_config_from_dict, _limited(parts, ended)
    # Not the client's default, which is everybody's in this process.
    settings = type.__call__(Configuration)
    settings.retries = False
    said = _Said()
    logging.getLogger().addHandler(said)
    try:
        load(content, client_configuration=settings, temp_file_path=str(kubeconfig.temporary()))
    except (ConfigException, OSError, ValueError) as error:
        raise explain("kubectl get", f"error: {error}", 1, shown) from None
    finally:
        logging.getLogger().removeHandler(said)
    if ended.exists():
        raise _hung(user["exec"], shown)
    if not settings.verify_ssl:
        # As the kubeconfig wants it; a warning at every question would tell nobody anything.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    server = urlsplit(cluster["server"])
    if "proxy-url" in cluster:
        settings.no_proxy = ""
    elif _local(server.hostname or "") or server.scheme not in getproxies():
        # Unlike the client, Go knows no $ALL_PROXY.
        settings.proxy = None
    return ApiClient(settings), said.words


def websocket_options(settings: Any) -> dict[str, Any]:
    """How websocket-client goes the way that the official client goes with these settings."""
    tls = {
        "cert_reqs": ssl.CERT_REQUIRED if settings.verify_ssl else ssl.CERT_NONE,
        "ca_certs": settings.ssl_ca_cert,
        "certfile": settings.cert_file,
        "keyfile": settings.key_file,
        "server_hostname": settings.tls_server_name,
    }
    options: dict[str, Any] = {"sslopt": {name: value for name, value in tls.items() if value is not None}}
    if not settings.proxy or should_bypass_proxies(settings.host, settings.no_proxy or ""):
        return {**options, "http_no_proxy": ["*"]}
    proxy = urlsplit(settings.proxy)
    login = (unquote(proxy.username), unquote(proxy.password or "")) if proxy.username else None
    way = {"http_proxy_host": proxy.hostname, "http_proxy_port": proxy.port, "http_proxy_auth": login}
    kind = proxy.scheme if proxy.scheme.startswith("socks") else "http"
    # Whom it passes by was decided above.
    return {**options, **way, "proxy_type": kind, "http_no_proxy": ["-"]}


class _Said(logging.Handler):
    """Keeps what the client logs while it looks for a way to log in, such as why a plugin failed."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(record.getMessage())


def _limited(parts: Parts, ended: Path) -> dict[str, Any]:
    """The kubeconfig with which the official client runs a plugin for `PATIENCE` seconds at most.

    Args:
        parts: Of the kubeconfig.
        ended: A file that is made when the plugin had to be ended.
    """
    context, cluster, user = parts
    # Without -P a file of the folder one works in could stand in for a module.
    words = ["-P", "-c", _PROGRAM, f"{PATIENCE:g}", str(ended), *_command(user["exec"])]
    limited = {**user["exec"], "command": sys.executable, "args": words}
    names = context["context"]
    return {
        "current-context": context["name"],
        "contexts": [context],
        "clusters": [{"name": names["cluster"], "cluster": cluster}],
        "users": [{"name": names["user"], "user": {**user, "exec": limited}}],
    }


def _command(plugin: dict[str, Any]) -> list[str]:
    return [str(word) for word in (plugin.get("command", ""), *(plugin.get("args") or ()))]


def _hung(plugin: dict[str, Any], shown: str) -> ClusterError:
    command = _command(plugin)
    # What follows a flag may be a secret.
    words = list(takewhile(lambda word: not word.startswith("-"), command))
    typed = shlex.join(words) + (" …" if len(words) < len(command) else "")
    return ClusterError(
        f"`{typed}`, by which {shown} logs in, did not end within {PATIENCE:g} s",
        next_step="Run it in a terminal: it may ask for something there, or wait for a network that is not there."
        " Then run the lesson's first cell again.",
    )


def _local(host: str) -> bool:
    """Whether Go goes there without a proxy whatever the environment says: to this machine itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
