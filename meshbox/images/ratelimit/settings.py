# SPDX-License-Identifier: Apache-2.0
"""The program's settings: variables of its environment, what they are where nobody sets them, what is not played."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["Settings", "SettingsError"]

_DEFAULTS: Mapping[str, str | int | float | bool] = {
    "HOST": "0.0.0.0",
    "PORT": 8080,
    "GRPC_HOST": "0.0.0.0",
    "GRPC_PORT": 8081,
    "DEBUG_HOST": "0.0.0.0",
    "DEBUG_PORT": 6070,
    "LOG_LEVEL": "WARN",
    "LOG_FORMAT": "text",
    "RUNTIME_ROOT": "/srv/runtime_data/current",
    "RUNTIME_SUBDIRECTORY": "",
    "RUNTIME_APPDIRECTORY": "config",
    "RUNTIME_IGNOREDOTFILES": False,
    "RUNTIME_WATCH_ROOT": True,
    "MERGE_DOMAIN_CONFIG": False,
    "REDIS_SOCKET_TYPE": "unix",
    "REDIS_URL": "/var/run/nutcracker/ratelimit.sock",
    "REDIS_AUTH": "",
    "REDIS_POOL_SIZE": 10,
    "EXPIRATION_JITTER_MAX_SECONDS": 300,
    "NEAR_LIMIT_RATIO": 0.8,
    "CACHE_KEY_PREFIX": "",
    "SHADOW_MODE": False,
    "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED": False,
    "LIMIT_RESPONSE_HEADERS_ENABLED": False,
    "LIMIT_LIMIT_HEADER": "RateLimit-Limit",
    "LIMIT_REMAINING_HEADER": "RateLimit-Remaining",
    "LIMIT_RESET_HEADER": "RateLimit-Reset",
}
_ANOTHER = {
    "BACKEND_TYPE": ("redis",),
    "CONFIG_TYPE": ("file",),
    "GRPC_SERVER_USE_TLS": (),
    "GRPC_UDS": (),
    "REDIS_PERSECOND": (),
    "REDIS_TLS": (),
    "REDIS_TYPE": ("single",),
}
"""What would make another program of it, by the values with which it would not; it ends."""

_LEFT_OUT = {
    "LOCAL_CACHE_SIZE_IN_BYTES": "redis is asked each time",
    "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION": "/healthcheck says nothing of redis",
    "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT": "hits over the limit are counted",
    "TRACING_ENABLED": "no spans are sent",
    "USE_DOG_STATSD": "statistics are at /stats only",
    "USE_PROMETHEUS": "statistics are at /stats only",
    "USE_STATSD": "statistics are at /stats only",
}
"""What it does without, and says so."""

_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false", "")


class SettingsError(ValueError):
    """A variable that is refused."""


class Settings:
    """The settings.

    Args:
        env: The environment.

    Raises:
        SettingsError: a variable cannot be read, or asks for what is not played.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._values = {name: _read(name, env[name], value) if env.get(name) else value
                        for name, value in _DEFAULTS.items()}  # fmt: skip
        for name in ("PORT", "GRPC_PORT", "DEBUG_PORT"):
            if not 0 < self.number(name) < 1 << 16:
                raise SettingsError(f"listen tcp: address {self.number(name)}: invalid port")
        for name, without in _ANOTHER.items():
            if env.get(name, "").lower() not in (*_FALSE, *without):
                raise SettingsError(f"{name}={env[name]} is not played by the workshop's stand-in")

    def left_out(self) -> Iterator[str]:
        """What is asked for and not played, in words."""
        for name, instead in _LEFT_OUT.items():
            if self._env.get(name, "").lower() not in _FALSE:
                yield f"{name}={self._env[name]} is not played by the workshop's stand-in: {instead}"

    def text(self, name: str) -> str:
        """A text."""
        return str(self._values[name])

    def number(self, name: str) -> int:
        """A whole number."""
        return int(self._values[name])

    def ratio(self, name: str) -> float:
        """A number."""
        return float(self._values[name])

    def flag(self, name: str) -> bool:
        """A boolean."""
        return bool(self._values[name])


def _read(name: str, given: str, default: str | float | bool) -> str | int | float | bool:
    try:
        if isinstance(default, bool):
            if given.lower() not in (*_TRUE, *_FALSE):
                raise ValueError(given)
            return given.lower() in _TRUE
        return given if isinstance(default, str) else type(default)(given)
    except ValueError:
        wanted = {bool: "bool", int: "int", float: "float32"}[type(default)]
        raise SettingsError(f"envconfig.Process: assigning {name}: converting '{given}' to type {wanted}") from None
