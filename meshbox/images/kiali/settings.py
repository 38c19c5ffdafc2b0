# SPDX-License-Identifier: Apache-2.0
"""What the release's ConfigMap and Secret say to Kiali."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.ground import reading

__all__ = ["Settings", "read"]

Json = dict[str, Any]
_TOLERANCES = (
    ("5XX", 0, 10, "http"),
    ("4XX", 10, 20, "http"),
    ("^[1-9]$|^1[0-6]$", 0, 10, "grpc"),
    ("^-$", 0, 10, "http|grpc"),
)


@dataclass(frozen=True)
class Settings:
    """Kiali's settings.

    Args:
        version: Kiali's own version, e.g. "v0.20".
        release: Istio's.
        scrape: Seconds between Prometheus' scrapes; decides the step of charts.
        prometheus: Prometheus' address.
        tracing: Where Jaeger may be.
        login: Whether a password is asked for.
        secret: The folder with `username` and `passphrase`.
        root: The path that the console is served below, e.g. "/kiali".
        port: Where to listen.
        metrics_port: Where to tell metrics.
        view_only: Whether nothing may be written (`deployment.view_only_mode`).
    """

    version: str = "v1.31.0"
    release: str = "1.30.3"
    scrape: int = 5
    prometheus: str = "http://prometheus:9090"
    tracing: tuple[str, ...] = ()
    login: bool = False
    secret: Path | None = None
    root: str = "/kiali"
    port: int = 20001
    metrics_port: int = 9090
    view_only: bool = False

    def credentials(self) -> tuple[str, str] | None:
        """The user and password of the Secret as it is now; None without a Secret."""
        if self.secret is None:
            return None
        try:
            return (self.secret / "username").read_text().strip(), (self.secret / "passphrase").read_text().strip()
        except OSError:
            return None

    def console(self, injects: bool) -> Json:
        """What the console asks for first.

        Args:
            injects: Whether it offers to switch sidecars on and off; a workload's menu, with its proxy, hangs on that.
        """
        tolerances = [
            {"code": code, "degraded": degraded, "failure": failure, "protocol": protocol, "direction": ".*"}
            for code, degraded, failure, protocol in _TOLERANCES
        ]
        labels = {"appLabelName": "app", "injectionLabelName": "istio-injection", "versionLabelName": "version"}
        defaults = {"metricsPerRefresh": "1m", "namespaces": ["bookinfo"], "refreshInterval": "15s"}
        return {
            "extensions": {"iter8": {"enabled": False, "namespace": ""}},
            "healthConfig": {"rate": [{"tolerance": tolerances}]},
            "installationTag": "Kiali",
            "istioAnnotations": {"istioInjectionAnnotation": "sidecar.istio.io/inject"},
            "istioStatusEnabled": True,
            "istioIdentityDomain": "svc.cluster.local",
            "istioNamespace": "istio-system",
            "istioComponentNamespaces": {},
            "istioLabels": labels,
            "istioConfigMap": "istio",
            "kialiFeatureFlags": {"istioInjectionAction": injects, "uiDefaults": defaults},
            "prometheus": {"globalScrapeInterval": self.scrape, "storageTsdbRetention": 21600},
        }

    def status(self) -> Json:
        """What the page About shows."""
        about = {
            "Kiali core version": f"{self.version} (the workshop's stand-in)",
            "Kiali console version": "1.31.0",
            "Kiali state": "running",
        }
        services = [{"name": "Istio", "version": self.release}, {"name": "Prometheus", "url": self.prometheus}]
        return {"status": about, "externalServices": services, "warningMessages": []}


def read(config: Path, environment: Mapping[str, str], secret: Path, version: str) -> Settings:
    """The settings in the file at `config`; defaults where it or a part of it is missing.

    Args:
        config: The ConfigMap's config.yaml.
        environment: LABKIT_RELEASE and LABKIT_CLOCKS are looked at.
        secret: Where the Secret is mounted.
        version: Kiali's version.

    Raises:
        ReadingError: the file is no YAML, or a port in it is none.
    """
    try:
        content = _map(reading.yaml_value(config.read_bytes()))
    except OSError:
        content = {}
    external = _map(content.get("external_services"))
    server = _map(content.get("server"))
    release = environment.get("LABKIT_RELEASE", "1.30.3")
    tracing = _map(external.get("tracing"))
    named = str(tracing.get("internal_url") or tracing.get("in_cluster_url") or "").rstrip("/")
    usual = ("http://tracing/jaeger", "http://tracing")
    observability = _map(_map(server.get("observability")).get("metrics"))
    return Settings(
        version=version,
        release=release,
        scrape=15 if environment.get("LABKIT_CLOCKS") == "istio" else 1,
        prometheus=str(_map(external.get("prometheus")).get("url") or "http://prometheus:9090"),
        tracing=(named,) if named else usual,
        login=_map(content.get("auth")).get("strategy") == "login",
        secret=secret,
        root="/" + str(server.get("web_root") or "/kiali").strip("/"),
        port=_port(server, 20001),
        metrics_port=_port(observability, 9090),
        view_only=_map(content.get("deployment")).get("view_only_mode") is True,
    )


def _map(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _port(settings: Json, usual: int) -> int:
    port = settings.get("port") or usual
    if type(port) is not int or not 0 < port < 65536:
        raise reading.ReadingError(f"{port!r} is not a port")
    return port
