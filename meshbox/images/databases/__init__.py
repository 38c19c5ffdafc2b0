# SPDX-License-Identifier: Apache-2.0
"""BookInfo's databases: a MongoDB and a MySQL that hold its two ratings, and answer what asks for them.

Both speak their own protocol over the wire, so that the mesh carries what it carries elsewhere: bytes of TCP, and in
MySQL's case a server that speaks first.
"""

from __future__ import annotations

from meshbox.images.context import Image

__all__ = ["IMAGES"]


def _image(name: str, program: str) -> Image:
    return Image(
        repositories=tuple(
            f"{organization}/examples-bookinfo-{name}"
            for organization in ("istio", "istio-release", "istio-testing", "release")
        ),
        entrypoint=(program,),
        programs={program: f"{__name__}.{name}:main"},
        size=600_000_000,
        stands_in="holds BookInfo's two ratings, and answers what asks for them; written in Python",
    )


IMAGES = (_image("mongodb", "mongod"), _image("mysqldb", "mysqld"))
