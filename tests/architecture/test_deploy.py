"""What runs under Docker agrees with the code: compose.yaml, the Dockerfile, and what Prometheus and Grafana read."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from schemas.settings import Settings
from service.metrics import ServiceMetrics
from steadyrank import _COMMANDS
from trainer.metrics import IngestMetrics, LearnerMetrics

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "steadyrank.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]] + [
    rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]
]

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def image_environment() -> dict[str, str]:
    return dict(
        setting.split("=", 1)
        for line in re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)
        for setting in line.split()
    )


def settings_of(name: str) -> Settings:
    """As its process finds them: the image's variables under those of the service. Raises `SettingsError`."""
    return Settings.from_environment(image_environment() | SERVICES[name]["environment"])


def mounts(name: str) -> dict[str, str]:
    """What is mounted into a service: source by path, both without the mode."""
    return {entry.split(":")[1]: entry.split(":")[0] for entry in SERVICES[name]["volumes"]}


def samples() -> dict[str, set[str]]:
    """The labels of every sample that our processes answer with, by the sample's name."""
    registry = CollectorRegistry()
    for metrics in (ServiceMetrics, IngestMetrics, LearnerMetrics):
        metrics(registry)
    metrics_of_ours = [each for each in registry._collector_to_names if isinstance(each, MetricWrapperBase)]
    return {
        metric._name + suffix: {*metric._labelnames, *(["le"] if suffix == "_bucket" else [])}
        for metric in metrics_of_ours
        for suffix in SUFFIXES[str(metric._type)]
    }


SAMPLES = samples()


def test_it_has_the_parts_that_the_readme_promises() -> None:
    commands = [service["command"][0] for service in OURS.values() for _ in range(service.get("scale", 1))]
    assert sorted(commands) == ["ingest", "ingest", "serve", "serve", "train"]
    assert set(SERVICES) - set(OURS) == {"kafka", "postgres", "prometheus", "grafana"}


@pytest.mark.parametrize("name", OURS)
def test_a_service_builds_a_target_of_the_dockerfile_and_runs_a_command_of_ours(name: str) -> None:
    service = OURS[name]
    target = service["build"]["target"]
    assert re.search(rf"^FROM base AS {target}$", DOCKERFILE, re.MULTILINE)
    assert service["image"] == f"steadyrank:{target}"
    [command] = service["command"]
    assert command in {each for each, *_ in _COMMANDS}
    assert target == ("train" if command == "train" else "serve"), "torch where the learner runs, and only there"


def test_every_variable_of_ours_is_a_setting_and_its_value_is_good() -> None:
    for name in OURS:
        settings = settings_of(name)
        assert settings.host == "0.0.0.0", "of another container"
        assert settings.store_url.startswith("postgresql+psycopg://")
    assert len({settings_of(name) for name in OURS}) == 1, "they meet in one store, log and folder layout"


def test_the_addresses_of_the_parts_are_those_that_the_parts_have() -> None:
    settings, kafka = settings_of("ingest"), SERVICES["kafka"]["environment"]
    user = SERVICES["postgres"]["environment"]
    login = f"{user['POSTGRES_USER']}:{user['POSTGRES_PASSWORD']}"
    assert settings.database_url == f"postgresql+psycopg://{login}@postgres/{user['POSTGRES_DB']}"
    assert f"PLAINTEXT://{settings.kafka}" in kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    outside = SERVICES["kafka"]["ports"][0].removeprefix("127.0.0.1:").split(":")[0]
    assert f"HOST://localhost:{outside}" in kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    pom = (ROOT / "loadtest" / "parts" / "kafka.pom.xml").read_text()
    assert f"<version>{SERVICES['kafka']['image'].split(':')[1]}</version>" in pom, "the release that is tested"
    assert kafka["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"] == settings.kafka_replication == 1


def test_a_service_waits_for_parts_that_say_when_they_are_ready() -> None:
    for service in OURS.values():
        assert set(service["depends_on"]) == {"kafka", "postgres"}
        for part, wait in service["depends_on"].items():
            assert wait == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[part]


def test_every_health_check_asks_a_port_that_its_process_has() -> None:
    port, metrics_port = settings_of("serve-1").port, settings_of("ingest").metrics_port
    image_check = re.search(r"^HEALTHCHECK .*:(\d+)/livez", DOCKERFILE, re.MULTILINE)
    assert image_check is not None
    assert int(image_check[1]) == port
    assert f"EXPOSE {port}" in DOCKERFILE
    for name, service in OURS.items():
        assert ("healthcheck" in service) == (not name.startswith("serve")), "the image's own is the ranker's"
        assert f":{metrics_port}/metrics" in str(service.get("healthcheck", f":{metrics_port}/metrics"))


def test_rankers_share_the_policies_of_the_learner_and_have_a_spool_each() -> None:
    settings = settings_of("serve-1")
    policies, spool, training = (
        str(f) for f in (settings.policies_folder, settings.spool_folder, settings.training_folder)
    )
    first, second = mounts("serve-1"), mounts("serve-2")
    assert first[policies] == second[policies] == mounts("train")[policies]
    assert first[spool] != second[spool]
    assert training in mounts("train")
    for folder in (policies, spool, training):  # else a volume there would be root's
        assert re.search(rf"install -d -o steadyrank .*{folder}\b", DOCKERFILE)


def test_every_volume_is_declared_and_every_file_mounted_is_there() -> None:
    used = {source for name in SERVICES for source in mounts(name).values()}
    files = {source for source in used if source.startswith("./")}
    assert used - files == set(COMPOSE["volumes"])
    for source in files:
        assert (ROOT / source).exists(), source
    for name in OURS:
        assert mounts(name)[str(settings_of(name).loop)] == "./loop.toml"


def test_ports_are_for_this_machine_alone_and_none_is_taken_twice() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def scraped() -> Iterator[tuple[str, str, int]]:
    """Job, service and port of everything that Prometheus asks."""
    for config in PROMETHEUS["scrape_configs"]:
        for static in config.get("static_configs", []):
            for target in static["targets"]:
                yield config["job_name"], target.split(":")[0], int(target.split(":")[1])
        for found in config.get("dns_sd_configs", []):
            yield from ((config["job_name"], name, found["port"]) for name in found["names"])


def test_prometheus_asks_every_process_of_ours_where_it_answers() -> None:
    assert {service for _, service, _ in scraped()} == set(OURS)
    for job, service, port in scraped():
        settings = settings_of(service)
        assert [job] == OURS[service]["command"]
        assert port == (settings.port if job == "serve" else settings.metrics_port)


def test_prometheus_and_grafana_find_their_files() -> None:
    [rules] = PROMETHEUS["rule_files"]
    assert mounts("prometheus")[f"/etc/prometheus/{rules}"] == "./deploy/alerts.yml"
    grafana = ROOT / "deploy" / "grafana"
    [source] = yaml.safe_load((grafana / "datasources.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    [provider] = yaml.safe_load((grafana / "dashboards.yml").read_text())["providers"]
    assert mounts("grafana")[provider["options"]["path"]] == "./deploy/grafana/dashboards"


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_of_a_panel_or_an_alert_is_one_of_ours(expression: str) -> None:
    names = set(re.findall(r"\b(?:steadyrank_\w+|up\b)", expression))
    assert names
    assert names <= {*SAMPLES, "up"}
    labels = {"job", "instance"}.union(*(SAMPLES.get(name, set()) for name in names))
    used = [re.findall(r"\w+", group) for group in re.findall(r"\bby \(([^)]*)\)", expression)]
    used += [re.findall(r"(\w+)\s*=", group) for group in re.findall(r"{([^}]*)}", expression)]
    assert {label for group in used for label in group} <= labels


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_counters_are_read_as_rates(expression: str) -> None:
    for name in re.findall(r"\bsteadyrank_\w+(?:_total|_bucket)\b", expression):
        assert re.search(rf"(?:rate|increase)\({name}[\[{{]", expression)
