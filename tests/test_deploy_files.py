"""The files in deploy/ and bentofile.yaml agree with the service and with the tested image."""

from typing import Any

import yaml

from blip2_serve.config import Settings
from support.serving import ROOT

BENTO = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
CLOUD = yaml.safe_load((ROOT / "deploy/bentocloud.yaml").read_text())
KUBERNETES = {item["kind"]: item for item in yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())}
POD = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]


def values(variables: list[dict[str, Any]]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in variables if "value" in variable}


def test_every_setting_in_them_is_one_of_ours() -> None:
    for variables in (BENTO["envs"], CLOUD["envs"], CONTAINER["env"]):
        assert Settings.from_env(values(variables)).model == "Salesforce/blip2-opt-2.7b"


def test_the_names_of_the_service_agree() -> None:
    name = "blip2"
    assert f'name="{name}"' in (ROOT / "blip2_serve/service.py").read_text()
    assert list(CLOUD["services"]) == [name]
    assert CLOUD["bento"].partition(":")[0] == CONTAINER["image"].partition(":")[0] == name


def test_the_pod_is_as_strict_as_the_image_was_tried() -> None:
    assert POD["securityContext"]["runAsUser"] == 1034
    strict = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert CONTAINER["securityContext"] == strict


def test_everything_the_pod_writes_is_on_a_mount() -> None:
    mounts = tuple(mount["mountPath"] for mount in CONTAINER["volumeMounts"])
    variables = values(CONTAINER["env"])
    assert all(variables[name].startswith(mounts) for name in ("BENTOML_HOME", "HF_HOME"))
    assert "/tmp" in mounts


def test_the_service_reaches_the_pod() -> None:
    service = KUBERNETES["Service"]["spec"]
    assert service["selector"].items() <= KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert service["ports"][0]["targetPort"] in {port["name"] for port in CONTAINER["ports"]}
