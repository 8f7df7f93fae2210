"""The files that put LipService on servers of its own: what they start, as whom, and that they agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner
from dagster._core.instance.config import dagster_instance_config

from lipservice_dagster.cli import cli
from lipservice_dagster.local.stack import write_dagster_yaml
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.clickhouse import connect

PROJECT = Path(__file__).parents[1]


def read(path: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROJECT / path).read_text())
    return found


def test_every_service_is_non_root_and_those_that_stay_say_whether_they_are_well() -> None:
    services = read("docker-compose.yml")["services"]
    assert set(services) == {"postgres", "clickhouse", "migrate", "code", "webserver", "daemon", "api"}
    for name, service in services.items():
        assert service["user"] not in ("", "root", "0", "0:0"), name
        assert name == "migrate" or service["healthcheck"]["test"], name
    ours = [s for s in services.values() if "build" in s]
    assert len(ours) == 5
    assert len({s["image"] for s in ours}) == 1
    assert all(s["read_only"] and s["cap_drop"] == ["ALL"] for s in ours)


def test_what_is_mounted_is_there() -> None:
    compose = read("docker-compose.yml")
    for service in compose["services"].values():
        for mount in service["volumes"]:
            origin = mount.split(":")[0]
            assert origin in compose["volumes"] or (PROJECT / origin).exists(), mount


def test_no_password_stands_in_a_file() -> None:
    compose = (PROJECT / "docker-compose.yml").read_text()
    assert "${POSTGRES_PASSWORD:?" in compose
    assert "${CLICKHOUSE_PASSWORD:?" in compose
    profile = read("dbt_models/profiles.yml")["lipservice"]["outputs"]["postgres"]
    assert profile["password"] == "{{ env_var('DBT_ENV_SECRET_LIPSERVICE_PASSWORD', '') }}"
    deployment = read("deploy/helm/values.yaml")["dagster-user-deployments"]["deployments"][0]
    assert deployment["envSecrets"] == [{"name": "lipservice"}]


def test_the_log_stores_address_is_one_that_is_understood() -> None:
    dsn = read("docker-compose.yml")["x-lipservice"]["environment"]["LIPSERVICE_LOGS_DSN"]
    connect(dsn.replace("${CLICKHOUSE_PASSWORD:?set CLICKHOUSE_PASSWORD}", "secret"))
    assert "posthog.logs\n" in (PROJECT / "deploy/clickhouse/single/0001_logs.sql").read_text()


def test_runs_on_kubernetes_have_a_pod_of_their_own_and_are_not_root() -> None:
    values = read("deploy/helm/values.yaml")
    deployment = values["dagster-user-deployments"]["deployments"][0]
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    assert launcher["runK8sConfig"]["podSpecConfig"]["securityContext"]["runAsNonRoot"]
    assert deployment["podSecurityContext"]["runAsNonRoot"]
    assert "memory" in launcher["resources"]["limits"]
    assert deployment["includeConfigInLaunchedRuns"]["enabled"]


def test_the_command_marts_says_what_is_wrong_with_its_days() -> None:
    done = CliRunner().invoke(cli, ["marts", "--from", "2026-09-10", "--to", "2026-09-09"])
    assert done.exit_code == 2
    assert "--to lies before --from" in done.output


def test_compose_and_helm_limit_and_recover_runs_as_the_embedded_stack_does(tmp_path: Path) -> None:
    embedded = yaml.safe_load((write_dagster_yaml(Settings(home=tmp_path)) / "dagster.yaml").read_text())
    compose = read("deploy/dagster/dagster.yaml")
    same = ("storage", "run_launcher", "run_retries", "run_monitoring")
    assert {k: compose[k] for k in same} == {k: embedded[k] for k in same}
    limits = embedded["concurrency"]["runs"]["tag_concurrency_limits"]
    assert compose["concurrency"]["runs"]["tag_concurrency_limits"] == limits
    assert compose["concurrency"]["pools"] == embedded["concurrency"]["pools"]
    dagster_instance_config(str(PROJECT / "deploy/dagster"))  # what Dagster itself says of the file
    daemon = read("deploy/helm/values.yaml")["dagsterDaemon"]
    assert daemon["runCoordinator"]["config"]["queuedRunCoordinator"]["tagConcurrencyLimits"] == limits
    retries = embedded["run_retries"]
    assert daemon["runRetries"] == {
        "enabled": True,
        "maxRetries": retries["max_retries"],
        "retryOnAssetOrOpFailure": retries["retry_on_asset_or_op_failure"],
    }
