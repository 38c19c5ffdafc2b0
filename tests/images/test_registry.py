# SPDX-License-Identifier: Apache-2.0
"""Images: found by their names, complete for both releases, and honest about what they are."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit.ground.client import send
from meshbox import images
from meshbox.addresses import AddressPlan
from meshbox.images import ContainerContext, ImageName
from meshbox.settings import SandboxSettings
from tests.conftest import REPOSITORY, TOKEN, genuine
from tests.node.conftest import Cluster, running

OWN = REPOSITORY / "labkit" / "istio" / "manifests"
RELEASES = ("1.2.2", "1.30.3")


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("busybox", ("docker.io", "library/busybox", "latest", "")),
        ("busybox:1.28", ("docker.io", "library/busybox", "1.28", "")),
        ("istio/pilot:1.2.2", ("docker.io", "istio/pilot", "1.2.2", "")),
        ("docker.io/istio/pilot", ("docker.io", "istio/pilot", "latest", "")),
        ("localhost:5000/a/b:c", ("localhost:5000", "a/b", "c", "")),
        ("localhost/a", ("localhost", "a", "latest", "")),
        ("gcr.io/istio-release/pilot@sha256:ab", ("gcr.io", "istio-release/pilot", "", "sha256:ab")),
    ],
)
def test_references_are_taken_apart(reference: str, parts: tuple[str, ...]) -> None:
    name = ImageName.parse(reference)
    assert (name.registry, name.repository, name.tag, name.digest) == parts


@pytest.mark.parametrize("reference", ["", "UPPER", "a b", "docker.io/", "x:", "docker.io/library/", ":tag"])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="invalid reference format"):
        ImageName.parse(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "docker.io/istio/examples-bookinfo-reviews-v2:1.12.0",
        "istio/examples-bookinfo-reviews-v2",
        "registry.istio.io/release/examples-bookinfo-reviews-v2:1.20.3",
        "gcr.io/istio-release/examples-bookinfo-reviews-v2@sha256:0123",
        "mirror.example.com:5000/istio/examples-bookinfo-reviews-v2:mine",
    ],
)
def test_registry_and_tag_do_not_matter(reference: str) -> None:
    image = images.find(reference)
    assert image is not None
    assert image.env["STAR_COLOR"] == "black"


@pytest.mark.parametrize(
    "reference",
    [
        "registry.k8s.io/busybox",
        "registry.k8s.io/e2e-test-images/busybox:1.2",
        "docker.io/kiwigrid/k8s-sidecar:1.30.9",
    ],
)
def test_what_samples_and_add_ons_name_besides_is_there(reference: str) -> None:
    assert images.find(reference) is not None


def test_others_are_not_there() -> None:
    assert images.find("example.com/nope") is None
    assert images.find("someone/pilot") is None


def used(folder: Path) -> set[str]:
    """Every image that the manifests below `folder` name."""
    found = set()
    for file in folder.rglob("*.yaml"):
        found |= set(re.findall(r"^\s*(?:- )?image:\s*\"?([\w./:@-]+)\"?\s*$", file.read_text(), re.MULTILINE))
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_every_image_of_our_manifests_has_a_runner(release: str) -> None:
    assert len(used(OWN / release)) >= 15
    assert [name for name in used(OWN / release) if images.find(name) is None] == []


NOT_PLAYED = {
    "docker.io/fortio/fortio",
    "registry.istio.io/release/examples-bookinfo-mongodb",
    "registry.istio.io/release/examples-bookinfo-mysqldb",
    "registry.istio.io/release/examples-helloworld-v1",
    "registry.istio.io/release/examples-helloworld-v2",
    "registry.istio.io/testing/ext-authz",
}
"""Images of samples that no lesson uses; their pods say which images there are."""


@pytest.mark.genuine
@pytest.mark.parametrize("release", RELEASES)
def test_every_other_image_of_the_genuine_manifests_has_a_runner(release: str) -> None:
    unknown = {name.rpartition(":")[0] for name in used(genuine(release)) if images.find(name) is None}
    assert unknown <= NOT_PLAYED


def context(tmp_path: Path, *argv: str, mounts: tuple[str, ...] = (), image: str = "busybox") -> ContainerContext:
    settings = SandboxSettings("t", tmp_path, "1.2.2", AddressPlan(9), TOKEN)
    return ContainerContext(
        pod={"metadata": {"name": "p"}},
        container={"name": "c"},
        image=ImageName.parse(image),
        argv=argv,
        env={"PATH": "/usr/bin:/bin"},
        settings=settings,
        pod_ip="127.9.64.1",
        local_ip="127.9.128.1",
        bind="127.9.64.1",
        root=tmp_path / "root",
        mounts=dict.fromkeys(mounts, tmp_path),
    )


def launched(tmp_path: Path, *argv: str, mounts: tuple[str, ...] = (), image: str = "busybox") -> images.Launch:
    found = images.find(image)
    assert found is not None
    return images.launch(found, context(tmp_path, *argv, mounts=mounts, image=image))


def test_a_program_of_the_machine_gets_real_paths(tmp_path: Path) -> None:
    root = tmp_path / "root"
    mounts = ("/etc/app", "/data", "/")
    launch = launched(tmp_path, "/bin/cat", "/etc/app/x", "--f=/data", "/data2", "/var/data", "a/data", mounts=mounts)
    assert launch.argv[1:] == (f"{root}/etc/app/x", f"--f={root}/data", "/data2", "/var/data", "a/data")
    script = launched(tmp_path, "sh", "-c", "cat /etc/app/a > /data/b; ls /data", mounts=mounts)
    assert script.argv[2] == f"cat {root}/etc/app/a > {root}/data/b; ls {root}/data"


def test_the_longest_mount_path_wins_and_none_is_replaced_twice(tmp_path: Path) -> None:
    root = tmp_path / "root"
    launch = launched(tmp_path, "cat", "/var/lib/x", "/var/lib/y", mounts=("/var/lib", "/var/lib/x"))
    assert launch.argv[1:] == (f"{root}/var/lib/x", f"{root}/var/lib/y")


def test_a_program_may_come_from_a_volume(tmp_path: Path) -> None:
    tool = tmp_path / "root" / "opt" / "tool"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\n")
    with pytest.raises(images.ProgramNotFoundError, match=r'exec: "/opt/tool": permission denied'):
        launched(tmp_path, "/opt/tool", mounts=("/opt",))
    tool.chmod(0o755)
    assert launched(tmp_path, "/opt/tool", mounts=("/opt",)).argv == (str(tool),)


def test_an_absolute_path_falls_back_to_the_programs_name(tmp_path: Path) -> None:
    # Distributions differ in where a program is: /usr/local/bin/sh is still the shell.
    assert launched(tmp_path, "/usr/local/bin/sh").argv[0].endswith("/sh")


def test_kubectl_in_a_pod_finds_the_sandbox(tmp_path: Path) -> None:
    launch = launched(tmp_path, "bash", "-c", "kubectl get pods", image="istio/kubectl:1.2.2")
    cache = str(tmp_path / "kubectl-cache")
    assert launch.env == {"KUBECONFIG": str(tmp_path / "kubeconfig"), "KUBECACHEDIR": cache}


@pytest.mark.parametrize(
    ("command", "args", "line"),
    [
        ([], [], ("/usr/local/bin/mixs", "server")),
        ([], ["--x"], ("/usr/local/bin/mixs", "--x")),
        (["a"], [], ("a",)),
        (["a"], ["b"], ("a", "b")),
    ],
)
def test_command_and_args_override_as_in_kubernetes(command: list[str], args: list[str], line: tuple[str, ...]) -> None:
    image = images.Image(repositories=("x/y",), entrypoint=("/usr/local/bin/mixs",), cmd=("server",))
    assert image.command_line(command, args) == line


def test_every_entry_can_be_imported() -> None:
    import importlib

    for name in images.modules():
        importlib.import_module(name)
    for repository in images.known():
        image = images.find(repository)
        assert image is not None
        assert image.stands_in, f"{repository} does not say what it is"
        for program in image.programs.values():
            if isinstance(program, str):
                module, _, function = program.partition(":")
                assert callable(getattr(importlib.import_module(module), function))


def deployments(release: str) -> list[dict[str, Any]]:
    found = []
    for file in sorted((OWN / release).rglob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document and document["kind"] == "Deployment":
                found.append(document)
    return found


@pytest.mark.parametrize("release", RELEASES)
async def test_every_deployments_stand_ins_pass_their_own_probes(tmp_path: Path, release: str) -> None:
    """The pods of our manifests, with neither sidecars nor volumes: whatever their probes ask is answered."""
    async with running(tmp_path / "home", release) as cluster:
        names = _start_all(cluster, release)
        assert len(names) >= 12
        for name in names:
            await cluster.until(lambda name=name: cluster.ready(name), f"{name} ready")
        restarts = {name: cluster.container(name)["restartCount"] for name in names}
        assert set(restarts.values()) == {0}, restarts


def _start_all(cluster: Cluster, release: str) -> list[str]:
    names: list[str] = []
    for deployment in deployments(release):
        template = deployment["spec"]["template"]
        containers = [item for item in template["spec"]["containers"] if item["name"] != "istio-proxy"]
        # The real Prometheus needs its configuration and the API; it has tests of its own.
        containers = [item for item in containers if "prometheus" not in item["image"]]
        name = f"{deployment['metadata']['name']}-{len(names)}"
        if not containers:
            continue
        for container in containers:
            container["volumeMounts"] = []
            if liveness := container.get("livenessProbe"):
                # Answered it must be, however long a busy machine takes to start so many pods at once.
                container["startupProbe"] = {**liveness, "periodSeconds": 1, "failureThreshold": 1000}
            for probe in (container[name] for name in container if name.endswith("Probe")):
                probe["timeoutSeconds"] = 60
        cluster.pod(name, containers=containers)
        names.append(name)
    return names


async def test_nginx_shows_a_volumes_files_or_says_what_it_is(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as cluster:
        page = {"metadata": {"name": "page"}, "data": {"index.html": "<h1>mine</h1>", "style.css": "p {}"}}
        cluster.objects.create("configmaps", page, "default")
        probe = {"tcpSocket": {"port": 80}}
        mounts = [{"name": "v", "mountPath": "/usr/share/nginx/html"}]
        volumes = [{"name": "v", "configMap": {"name": "page"}}]
        cluster.pod("plain", {"image": "nginx:1.27", "readinessProbe": probe})
        cluster.pod("own", {"image": "nginx:1.27", "readinessProbe": probe, "volumeMounts": mounts}, volumes=volumes)
        answers = {}
        for name in ("plain", "own"):
            await cluster.until(lambda name=name: cluster.ready(name))
            for path in ("/", "/style.css", "/../../../../etc/passwd", "/nope"):
                url = f"http://{cluster.status(name)['podIP']}:{cluster.settings.plan.port(80)}{path}"
                answer = await asyncio.to_thread(send, url, timeout=60.0)
                answers[name, path] = answer.status, answer.body
        # The machine's own, or the stand-in where it has none.
        assert re.search(rb"Welcome to nginx|stand-in</b> for nginx", answers["plain", "/"][1])
        assert answers["own", "/"] == (200, b"<h1>mine</h1>")
        assert answers["own", "/style.css"] == (200, b"p {}")
        assert {answers[name, "/nope"][0] for name in ("plain", "own")} == {404}
        # nginx calls a way out of its folder a bad request.
        assert {answers[name, "/../../../../etc/passwd"][0] for name in ("plain", "own")} <= {400, 404}


def test_the_page_of_images_has_all_of_them() -> None:
    page = (REPOSITORY / "docs" / "images.md").read_text()
    for name in images.known():
        assert f"| `{name}` | {images.known_as(name)} |" in page


@pytest.mark.parametrize(("own", "expected"), [({}, "40"), ({"GOGC": "off"}, "off")])
def test_prometheus_keeps_its_heap_small_unless_its_pod_says_otherwise(
    own: dict[str, str], expected: str, tmp_path: Path
) -> None:
    found = images.find("prom/prometheus:v3.5.0")
    assert found is not None
    made = context(tmp_path, "/bin/prometheus", image="prom/prometheus:v3.5.0")
    launch = images.launch(found, replace(made, env={**made.env, **own}))
    assert {**own, **launch.env}["GOGC"] == expected
