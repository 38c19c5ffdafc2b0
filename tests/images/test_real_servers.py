# SPDX-License-Identifier: Apache-2.0
"""nginx and redis are this machine's own, behind a door of ours; where it has none, they say so."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import psutil
import pytest

from labkit.ground.client import send
from meshbox.images.nginx.configuration import ConfigurationError, translate
from tests.conftest import PATIENCE
from tests.node.conftest import Cluster

from .test_samples import probed, written

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
has_nginx = pytest.mark.skipif(shutil.which("nginx", path=PATH) is None, reason="the package nginx-light is not there")
has_redis = pytest.mark.skipif(shutil.which("redis-server", path=PATH) is None, reason="redis-server is not there")

CONFIGURATION = """
server {
    listen 8080 default_server;  # not 80
    listen [::]:8080;
    location /whoami { return 200 "from $remote_addr at {8080}\\n"; }
    location / { root /usr/share/nginx/html; }
}
"""


@has_nginx
async def test_nginx_plays_the_configuration_that_is_mounted(cluster: Cluster) -> None:
    page = {"metadata": {"name": "page"}, "data": {"index.html": "<h1>mine</h1>"}}
    cluster.objects.create("configmaps", page, "default")
    settings = {"metadata": {"name": "conf"}, "data": {"site.conf": CONFIGURATION}}
    cluster.objects.create("configmaps", settings, "default")
    mounts = [{"name": "conf", "mountPath": "/etc/nginx/conf.d"}, {"name": "v", "mountPath": "/usr/share/nginx/html"}]
    volumes = [{"name": "conf", "configMap": {"name": "conf"}}, {"name": "v", "configMap": {"name": "page"}}]
    probe = {"httpGet": {"port": 8080, "path": "/"}}
    cluster.pod("web", {"image": "nginx:1.27", "readinessProbe": probe, "volumeMounts": mounts}, volumes=volumes)
    await cluster.until(lambda: cluster.ready("web"))
    where = f"http://{cluster.status('web')['podIP']}:8080"
    answers = {path: await asyncio.to_thread(send, f"{where}{path}", timeout=PATIENCE) for path in ("/", "/whoami")}
    assert answers["/"].text == "<h1>mine</h1>"
    assert answers["/"].header("server").startswith("nginx/")
    said = answers["/whoami"].text
    assert said.startswith("from 127.")
    assert said.endswith(" at {8080}\n")
    assert await written(cluster, "web", b'"GET /whoami HTTP/1.1" 200')
    code, _, said = await cluster.exec(["nginx", "-t"], "web")
    assert (code, "test is successful" in said) == (0, True)


def ended(process: psutil.Process) -> bool:
    """Whether it has; it may go between two looks at it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@has_nginx
async def test_no_server_outlives_the_door_before_it(cluster: Cluster) -> None:
    cluster.pod("web", probed("nginx:1.27", 80))
    await cluster.until(lambda: cluster.ready("web"))
    home = f"{cluster.settings.home}/"

    def masters() -> list[psutil.Process]:
        found = ((one, " ".join(one.info["cmdline"] or ())) for one in psutil.process_iter(["cmdline"]))
        return [one for one, words in found if home in words and "nginx.pid" in words]

    # The door takes connections before it: a probe of the port says nothing of it yet.
    await cluster.until(lambda: len(masters()) == 1, "nginx itself to run")
    [nginx] = masters()
    door = nginx.parent()
    assert door is not None
    door.kill()
    await cluster.until(lambda: ended(nginx), "nginx ends too")
    await cluster.until(lambda: cluster.container("web")["restartCount"] == 1 and cluster.ready("web"), "a new one")


@has_redis
async def test_redis_keeps_what_it_is_given(cluster: Cluster) -> None:
    cluster.pod("db", {"image": "redis:7", "readinessProbe": {"exec": {"command": ["redis-cli", "ping"]}}})
    cluster.pod("client", {"image": "redis:7", "command": ["sleep", "infinity"]})
    await cluster.until(lambda: cluster.ready("db") and cluster.ready("client"))
    where = cluster.status("db")["podIP"]
    assert await cluster.exec(["redis-cli", "-h", where, "set", "a", "1 2"], "client") == (0, "OK\n", "")
    assert await cluster.exec(["redis-cli", "get", "a"], "db") == (0, "1 2\n", "")
    assert (await cluster.exec(["redis-cli", "nope"], "db"))[1].startswith("(error) ERR unknown command")


def test_ports_become_sockets_and_paths_the_containers(tmp_path: Path) -> None:
    (tmp_path / "etc/nginx/conf.d").mkdir(parents=True)
    (tmp_path / "etc/tls.crt").write_text("")
    (tmp_path / "etc/nginx/conf.d/a.conf").write_text(
        "server { listen 127.0.0.1:8443 ssl; ssl_certificate /etc/tls.crt; root /srv; }"
    )
    file = tmp_path / "etc/nginx/nginx.conf"
    file.write_text(
        "user nginx; http { server { listen *; } include conf.d/*.conf; access_log /var/log/nginx/a.log x; }"
    )
    made = translate(file, tmp_path)
    assert made.ports == {80: "80.sock", 8443: "8443.sock"}
    lines = made.text.splitlines()
    assert "listen unix:8443.sock ssl proxy_protocol;" in lines
    assert f'ssl_certificate "{tmp_path}/etc/tls.crt";' in lines
    assert "root /srv;" in lines
    assert "access_log /dev/stdout x;" in lines
    assert lines[0] == "events { }"
    assert not any(line.startswith("user") for line in lines)


@pytest.mark.parametrize(
    "server", ["server { }", "server { listen [::]:8080; }", 'server { "listen" 80; }', 'server { include "a.conf"; }']
)
def test_no_server_listens_where_nobody_looks(tmp_path: Path, server: str) -> None:
    (tmp_path / "etc/nginx").mkdir(parents=True)
    (tmp_path / "etc/nginx/a.conf").write_text("listen 80;")
    file = tmp_path / "etc/nginx/nginx.conf"
    file.write_text(f"http {{ upstream u {{ server a.test; }} {server} }}")
    made = translate(file, tmp_path)
    assert made.ports == {80: "80.sock"}
    lines = made.text.splitlines()
    assert [line for line in lines if line.startswith("listen ")] == ["listen unix:80.sock proxy_protocol;"]
    assert not any(line.startswith('"listen"') for line in lines)
    assert "server a.test;" in made.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http { server {", "unexpected end of file"),
        ("}", 'unexpected "}"'),
        ("listen 80", "unexpected end of file"),
        ("include /nope.conf;", "No such file or directory"),
        ('a "b', 'unexpected """ in'),
        ("http {" * 30, "too many files or blocks"),
    ],
)
def test_what_is_no_configuration_is_said(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "nginx.conf"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        translate(file, tmp_path)
