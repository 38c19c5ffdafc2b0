# SPDX-License-Identifier: Apache-2.0
"""BookInfo: the four services of Istio's sample application, in every variant that has an image."""

from __future__ import annotations

from meshbox.images.context import Image

__all__ = ["IMAGES"]

_ORGANIZATIONS = ("istio", "istio-release", "istio-testing", "release")
_SIZES = {"productpage": 206_000_000, "details": 154_000_000, "reviews": 430_000_000, "ratings": 161_000_000}


def _image(service: str, version: str, variant: str = "", **env: str) -> Image:
    name = f"examples-bookinfo-{service}-{variant or version}"
    return Image(
        repositories=tuple(f"{organization}/{name}" for organization in _ORGANIZATIONS),
        entrypoint=(service,),
        programs={service: f"meshbox.images.bookinfo.{service}:main"},
        env={"SERVICE_VERSION": version, **env},
        size=_SIZES[service],
        stands_in="same behaviour, written in Python",
    )


IMAGES = (
    _image("productpage", "v1"),
    _image("productpage", "v1", "v-flooding", FLOOD_FACTOR="100"),
    _image("details", "v1", ENABLE_EXTERNAL_BOOK_SERVICE="false"),
    _image("details", "v2", ENABLE_EXTERNAL_BOOK_SERVICE="true"),
    _image("reviews", "v1", ENABLE_RATINGS="false"),
    _image("reviews", "v2", ENABLE_RATINGS="true", STAR_COLOR="black"),
    _image("reviews", "v3", ENABLE_RATINGS="true", STAR_COLOR="red"),
    _image("ratings", "v1"),
    _image("ratings", "v2"),
    _image("ratings", "v2", "v2-mysql", DB_TYPE="mysql"),
    _image("ratings", "v-faulty", "v-faulty"),
    _image("ratings", "v-delayed", "v-delayed"),
    _image("ratings", "v-unavailable", "v-unavailable"),
    _image("ratings", "v-unhealthy", "v-unhealthy"),
)
