# SPDX-License-Identifier: Apache-2.0
"""Objects in the form in which the API server itself holds them, as a real 1.35.4 printed it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.api.builtin.internal import difference, internal

CORE = "api.core.v1."


def test_a_template_shows_all_its_fields_whether_set_or_not() -> None:
    template = {
        "metadata": {"labels": {"a": "b"}, "creationTimestamp": None},
        "spec": {"containers": [{"name": "c", "resources": {}}], "hostNetwork": True, "serviceAccount": "x"},
    }
    made = internal(f"{CORE}PodTemplateSpec", template)
    assert list(made) == ["labels", "Spec"]
    [container] = made["Spec"]["Containers"]
    assert list(container)[:8] == ["Name", "Image", "Command", "Args", "WorkingDir", "Ports", "EnvFrom", "Env"]
    assert container["Resources"] == {"Limits": None, "Requests": None, "Claims": None}
    assert (container["Image"], container["RestartPolicy"], container["TTY"]) == ("", None, False)
    # What a pod shares with its node is in its security context there, which each pod has.
    security = made["Spec"]["SecurityContext"]
    assert list(security)[:6] == [
        "HostNetwork", "HostPID", "HostIPC", "ShareProcessNamespace", "HostUsers", "SELinuxOptions",
    ]  # fmt: skip
    assert (security["HostNetwork"], security["HostPID"], security["HostUsers"]) == (True, False, None)
    assert "ServiceAccount" not in made["Spec"]
    assert list(made["Spec"])[-3:] == ["Resources", "HostnameOverride", "WorkloadRef"]


@pytest.mark.parametrize(
    ("message", "given", "wanted"),
    [
        ("KeyToPath", {"key": "a", "path": "b"}, {"Key": "a", "Path": "b", "Mode": None}),
        ("ResourceRequirements", {"limits": {"b": "1", "a": "2"}},
         {"Limits": {"a": "2", "b": "1"}, "Requests": None, "Claims": None}),
        ("ConfigMapKeySelector", {"name": "a", "key": "k"}, {"Name": "a", "Key": "k", "Optional": None}),
        ("HTTPGetAction", {"port": "http"},
         {"Path": "", "Port": "http", "Host": "", "Scheme": "", "HTTPHeaders": None}),
        ("ResourceFieldSelector", {"resource": "limits.cpu"},
         {"ContainerName": "", "Resource": "limits.cpu", "Divisor": "0"}),
        ("PodAffinityTerm", {"topologyKey": "k", "labelSelector": {"matchLabels": {"a": "b"}}},
         {"LabelSelector": {"matchLabels": {"a": "b"}}, "Namespaces": None, "TopologyKey": "k",
          "NamespaceSelector": None, "MatchLabelKeys": None, "MismatchLabelKeys": None}),
        ("ISCSIVolumeSource", {"iqn": "i"},
         {"TargetPortal": "", "IQN": "i", "Lun": 0, "ISCSIInterface": "", "FSType": "", "ReadOnly": False,
          "Portals": None, "DiscoveryCHAPAuth": False, "SessionCHAPAuth": False, "SecretRef": None,
          "InitiatorName": None}),
    ],
)  # fmt: skip
def test_names_and_zero_values_are_gos(message: str, given: Any, wanted: Any) -> None:
    assert internal(CORE + message, given) == wanted


def test_a_volume_stands_with_its_source_in_one() -> None:
    made = internal(f"{CORE}Volume", {"name": "v", "emptyDir": {}})
    assert list(made)[:5] == ["Name", "HostPath", "EmptyDir", "GCEPersistentDisk", "AWSElasticBlockStore"]
    assert list(made)[-6:] == ["PortworxVolume", "ScaleIO", "StorageOS", "CSI", "Ephemeral", "Image"]
    assert made["EmptyDir"] == {"Medium": "", "SizeLimit": None}
    assert len(made) == 31


def test_only_lines_that_differ_are_told_and_three_around_them() -> None:
    told = difference(f"{CORE}Toleration", {"key": "a", "tolerationSeconds": 1}, {"key": "a", "tolerationSeconds": 2})
    assert told == (
        '@@ -3,5 +3,5 @@\n   "Operator": "",\n   "Value": "",\n   "Effect": "",\n'
        '-  "TolerationSeconds": 1\n+  "TolerationSeconds": 2\n }\n'
    )
    assert difference(f"{CORE}Toleration", {}, None) == ""
    assert json.dumps(internal(f"{CORE}Toleration", None)).startswith('{"Key": "", "Operator": ""')
