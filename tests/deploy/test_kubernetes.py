"""The manifests are what Kubernetes and KubeRay know, and say what the other deployments say."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from defect_assets.home import CONFIGS, Home
from tests.conftest import PROJECT

FOLDER = CONFIGS / "deploy" / "kubernetes"
KUBERNETES = "1.34"


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def values() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "values-dagster.yaml").read_text()))


def validate(manifest: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def pod_template(template: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": "template"},
        "template": template,
    }


@pytest.mark.parametrize("name", ["home.yaml", "detector.yaml"])
def test_kubernetes_knows_them(name: str) -> None:
    for manifest in manifests(name):
        validate(manifest)
    broken = manifests(name)[0]
    broken["spec"]["acessModes"] = ["ReadWriteMany"]
    with pytest.raises(Exception, match="acessModes"):
        validate(broken)


def test_kuberay_knows_the_cluster() -> None:
    configs = pytest.importorskip("dagster_ray.kuberay.configs")
    [cluster] = manifests("ray.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    # dagster-ray makes such clusters itself, so it knows their fields, by Python's names.
    fields = configs.RayClusterSpec.model_fields
    assert set(spec) <= {re.sub("_([a-z])", lambda c: c[1].upper(), name) for name in fields}
    configs.RayClusterSpec(
        ray_version=spec["rayVersion"], auth_options=configs.AuthOptions(**spec["authOptions"])
    )
    assert set(spec["headGroupSpec"]) <= set(configs.DEFAULT_HEAD_GROUP_SPEC)
    [known] = configs.DEFAULT_WORKER_GROUP_SPECS
    for group in spec["workerGroupSpecs"]:
        assert set(group) <= set(known)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        validate(pod_template(group["template"]))
        for container in group["template"]["spec"]["containers"]:
            assert all(isinstance(v, str) for v in group["rayStartParams"].values())
            assert container["resources"]["limits"] == container["resources"]["requests"]


def test_the_clusters_ray_is_the_locked_one() -> None:
    lock = (PROJECT / "requirements-ray.lock").read_text()
    locked = re.search(r"^ray==(\S+)", lock, re.MULTILINE)
    assert locked is not None
    assert manifests("ray.yaml")[0]["spec"]["rayVersion"] == locked[1]


def test_the_charts_pods_are_kubernetes() -> None:
    found = values()
    deployments = found["dagster-user-deployments"]["deployments"]
    for part in (found["dagsterWebserver"], found["dagsterDaemon"], *deployments):
        container = {
            "name": "one",
            "image": "{repository}:{tag}".format(**part["image"]),
            "env": part["env"],
            "envFrom": [
                *({"configMapRef": source} for source in part["envConfigMaps"]),
                *({"secretRef": source} for source in part["envSecrets"]),
            ],
            "volumeMounts": part["volumeMounts"],
        }
        pod = {"securityContext": part["podSecurityContext"], "volumes": part["volumes"]}
        validate(pod_template({"spec": {"containers": [container], **pod}}))


def test_the_chart_says_what_the_shared_instance_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_ray")
    monkeypatch.setenv("DEFECT_DEPLOY", "ray")
    home = Home(tmp_path)
    home.prepare()
    ours = yaml.safe_load((home.dagster / "dagster.yaml").read_text())
    found = values()
    assert found["runLauncher"]["config"]["customRunLauncher"] == ours["run_launcher"]
    coordinator = found["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]
    assert coordinator["config"] == ours["run_queue"]
    assert snake(found["concurrency"]) == {"enabled": True, **ours["concurrency"]}
    assert snake(found["dagsterDaemon"]["runMonitoring"]) == ours["run_monitoring"]
    assert snake(found["dagsterDaemon"]["runRetries"]) == ours["run_retries"]
    assert found["telemetry"] == ours["telemetry"]
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        assert type(instance.run_launcher).__name__ == "ClusterRunLauncher"
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == found["concurrency"]["runs"]["maxConcurrentRuns"]
        assert queue.max_user_code_failure_retries > 0


def snake(value: Any) -> Any:
    """Return settings by Dagster's own names, from the chart's."""
    if not isinstance(value, dict):
        return value
    return {re.sub("([A-Z])", lambda c: f"_{c[1].lower()}", k): snake(v) for k, v in value.items()}
