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


POD = {
    *("affinity", "annotations", "deploymentLabels", "env", "envConfigMaps", "envSecrets", "image"),
    *("labels", "livenessProbe", "nodeSelector", "podSecurityContext", "readinessProbe"),
    *("resources", "schedulerName", "securityContext", "startupProbe", "tolerations"),
    *("volumeMounts", "volumes"),
}
CHART: dict[str, set[str]] = {
    "": {
        *("additionalInstanceConfig", "busybox", "computeLogManager", "concurrency"),
        *("dagster-user-deployments", "dagsterDaemon", "dagsterWebserver", "flower"),
        *("generateCeleryConfigSecret", "generatePostgresqlPasswordSecret", "global"),
        *("imagePullSecrets", "ingress", "migrate", "postgresql", "pythonLogs", "rabbitmq"),
        *("redis", "retention", "runLauncher", "scheduler", "serviceAccount", "telemetry"),
    },
    "global": {
        *("celeryConfigSecretName", "dagsterHome", "dagsterInstanceConfigMap"),
        *("postgresqlSecretName", "serviceAccountName"),
    },
    "postgresql": {
        *("enabled", "image", "postgresqlDatabase", "postgresqlHost", "postgresqlParams"),
        *("postgresqlPassword", "postgresqlScheme", "postgresqlUsername", "service"),
    },
    "runLauncher": {"config", "type"},
    "runLauncher.config": {"celeryK8sRunLauncher", "customRunLauncher", "k8sRunLauncher"},
    "runLauncher.config.customRunLauncher": {"class", "config", "module"},
    "concurrency": {"enabled", "pools", "runs"},
    "concurrency.pools": {"defaultLimit", "granularity", "opGranularityRunBuffer"},
    "concurrency.runs": {"maxConcurrentRuns", "tagConcurrencyLimits"},
    "dagsterDaemon": {
        *("enabled", "heartbeatTolerance", "runCoordinator", "runMonitoring", "runRetries"),
        *("schedules", "sensors"),
        *POD,
    },
    "dagsterDaemon.runCoordinator": {"config", "enabled", "type"},
    "dagsterDaemon.runCoordinator.config": {"customRunCoordinator", "queuedRunCoordinator"},
    "dagsterDaemon.runCoordinator.config.customRunCoordinator": {"class", "config", "module"},
    "dagsterDaemon.runMonitoring": {
        *("cancelTimeoutSeconds", "enabled", "freeSlotsAfterRunEndSeconds"),
        *("maxResumeRunAttempts", "maxRuntimeSeconds", "pollIntervalSeconds"),
        "startTimeoutSeconds",
    },
    "dagsterDaemon.runRetries": {"enabled", "maxRetries", "retryOnAssetOrOpFailure"},
    "dagsterWebserver": {
        *("dbPoolRecycle", "dbStatementTimeout", "enableReadOnly", "logLevel", "nameOverride"),
        *("pathPrefix", "replicaCount", "service", "workspace"),
        *POD,
    },
    "dagster-user-deployments": {"deployments", "enableSubchart", "enabled", "imagePullSecrets"},
    "dagster-user-deployments.deployments": {
        *("codeServerArgs", "dagsterApiGrpcArgs", "includeConfigInLaunchedRuns", "name", "port"),
        *POD,
    },
    "telemetry": {"enabled"},
}
"""The names that Dagster's chart has a use for, as its schema and its templates have them (of 2026;
``concurrency`` came in January). What it has no use for it refuses, or leaves out in silence."""


def unknown_names(found: Any, path: str = "") -> list[str]:
    """Return which of some values the chart has no use for."""
    if isinstance(found, list):
        return [name for item in found for name in unknown_names(item, path)]
    if path not in CHART:
        return []
    below = {key: f"{path}.{key}".lstrip(".") for key in found}
    unknown = [below[key] for key in found if key not in CHART[path]]
    return unknown + [name for key in found for name in unknown_names(found[key], below[key])]


def test_the_chart_has_a_use_for_all_values() -> None:
    found = values()
    assert unknown_names(found) == []
    found["dagsterDaemon"]["runCoordinator"]["maxConcurrentRuns"] = 1
    found["concurency"] = found.pop("concurrency")
    found["dagster-user-deployments"]["deployments"][0]["envFrom"] = []
    assert set(unknown_names(found)) == {
        "concurency",
        "dagsterDaemon.runCoordinator.maxConcurrentRuns",
        "dagster-user-deployments.deployments.envFrom",
    }


def instance_of_chart(found: dict[str, Any]) -> dict[str, Any]:
    """Return the instance's settings as the chart writes them, but for the storage."""
    daemon = found["dagsterDaemon"]
    assert found["runLauncher"]["type"] == "CustomRunLauncher"
    assert daemon["runCoordinator"]["type"] == "CustomRunCoordinator"
    written = {
        "run_launcher": found["runLauncher"]["config"]["customRunLauncher"],
        "run_coordinator": daemon["runCoordinator"]["config"]["customRunCoordinator"],
        "run_monitoring": snake(daemon["runMonitoring"]),
        "run_retries": snake(daemon["runRetries"]),
        "telemetry": found["telemetry"],
    }
    concurrency = snake(found["concurrency"])
    return written | ({"concurrency": concurrency} if concurrency.pop("enabled", False) else {})


def test_the_chart_says_what_the_shared_instance_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_ray")
    monkeypatch.setenv("DEFECT_DEPLOY", "ray")
    home = Home(tmp_path)
    home.prepare()
    ours = yaml.safe_load((home.dagster / "dagster.yaml").read_text())
    written = instance_of_chart(values())
    assert written.pop("run_coordinator")["config"] == ours["run_queue"]
    assert written == {name: ours[name] for name in written}
    (tmp_path / "chart").mkdir()
    (tmp_path / "chart" / "dagster.yaml").write_text(yaml.safe_dump(instance_of_chart(values())))
    for folder in (home.dagster, tmp_path / "chart"):
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            assert type(instance.run_launcher).__name__ == "ClusterRunLauncher"
            concurrency = instance.get_concurrency_config()
            queue, pools = concurrency.run_queue_config, concurrency.pool_config
            assert queue is not None
            assert queue.max_concurrent_runs == 32
            assert queue.max_user_code_failure_retries == 90
            assert pools.default_pool_limit == 4
            assert instance.run_monitoring_enabled


def snake(value: Any) -> Any:
    """Return settings by Dagster's own names, from the chart's."""
    if not isinstance(value, dict):
        return value
    return {re.sub("([A-Z])", lambda c: f"_{c[1].lower()}", k): snake(v) for k, v in value.items()}
