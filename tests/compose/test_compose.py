"""The compose file and what it mounts: no Docker is needed to see whether the parts fit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.source.build import BOARDS
from dashboards.source.dashboard import DOCS
from toolspan.settings import Settings
from toolspan.store.permissions import ROLES

ROOT = Path(__file__).parent.parent.parent
OTEL = ROOT / "otel"
BIN = Path(sys.executable).parent
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
by_service = pytest.mark.parametrize("name", SERVICES)
PORTS = {
    "redis": {6379}, "gateway": {8080}, "otel-collector": {4317, 4318, 8888, 13133}, "prometheus": {9090},
    "alertmanager": {9093}, "tempo": {3200, 4318}, "loki": {3100}, "grafana": {3000}, "pager": {9095},
    "docs": {8000},
}  # fmt: skip
CONFIGS = [ROOT / "docker-compose.yml", *(path for path in OTEL.rglob("*") if path.suffix in {".yaml", ".yml", ".url"})]


def settings_of(command: Any) -> str:
    return " ".join(command) if isinstance(command, list) else str(command)


@pytest.mark.parametrize(
    "profile", [[], ["--profile", "demo"], ["--profile", "cli"]], ids=lambda p: "".join(p) or "none"
)
def test_compose_accepts_the_file_with_no_variable_set(profile: list[str]) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(
        [str(BIN / "docker-compose"), "--project-directory", str(ROOT), "-f", str(ROOT / "docker-compose.yml"),
         *profile, "config", "--quiet"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


def test_hadolint_has_nothing_to_say_about_the_image() -> None:
    done = subprocess.run(
        [str(BIN / "hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "")


@by_service
def test_every_image_is_pinned_by_version(name: str) -> None:
    image = SERVICES[name]["image"]

    # Those that are built here need no version, for they are built anew.
    ours = SERVICES[name].get("pull_policy") == "build" and image in {"toolspan:local", "toolspan-docs:local"}
    assert ours or re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+(-alpine)?", image)


@by_service
def test_every_port_is_published_on_loopback_alone(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@by_service
def test_every_container_is_hardened_and_bounded(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert not service.get("privileged")


@by_service
def test_everything_that_is_mounted_exists(name: str) -> None:
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    for mount in SERVICES[name].get("volumes", ()):
        source = mount["source"] if isinstance(mount, dict) else mount.split(":")[0]

        assert (ROOT / source).exists() if source.startswith("./") else source in volumes, source
        assert not source.startswith("/"), "nothing of the host but this folder"


def test_every_address_is_that_of_a_service_and_of_a_port_that_it_listens_on() -> None:
    known = "|".join(map(re.escape, PORTS))
    found = {
        (host, int(port))
        for path in CONFIGS
        for host, port in re.findall(rf"(?<![\w.@-])({known}):(\d{{4,5}})\b", path.read_text())
    }

    assert {host for host, _ in found} >= {"redis", "gateway", "otel-collector", "prometheus", "tempo", "loki"}
    assert [(host, port) for host, port in found if port not in PORTS[host]] == []


def test_workers_are_given_longer_to_stop_than_they_take_to_drain() -> None:
    worker = SERVICES["worker"]
    drain = float(worker["environment"].get("TOOLSPAN_DRAIN_SECONDS") or Settings().drain_seconds)

    assert float(worker["stop_grace_period"].removesuffix("s")) > drain


@by_service
def test_the_settings_of_our_services_exist(name: str) -> None:
    environment = SERVICES[name].get("environment") or {}
    ours = {variable.removeprefix("TOOLSPAN_").lower() for variable in environment if variable.startswith("TOOLSPAN_")}

    assert ours <= Settings.model_fields.keys()


def test_the_pages_are_served_where_alerts_dashboards_and_commands_lead() -> None:
    [port] = SERVICES["docs"]["ports"]

    assert port == "127.0.0.1:8000:8000"
    assert SERVICES["cli"]["environment"]["TOOLSPAN_DOCS_URL"] == DOCS == "http://localhost:8000"


def test_the_images_are_built_from_stages_that_exist_and_from_files_that_are_sent() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE))
    copied = {name for line in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()}
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}

    assert SERVICES["docs"]["build"]["target"] in stages
    # Whoever says no target gets ours, which comes last.
    assert re.findall(r"^FROM (.+)$", dockerfile, re.MULTILINE)[-1] == "python:3.13-slim-bookworm"
    assert copied == sent
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_nothing_of_ours_but_the_maker_of_passwords_runs_as_root() -> None:
    final = [stage for stage in (ROOT / "Dockerfile").read_text().split("\nFROM ") if "ENTRYPOINT" in stage]

    assert len(final) == 2
    assert all("\nUSER 10001:10001\n" in stage for stage in final)
    own = {name for name, service in SERVICES.items() if "build" in service and "user" in service}
    assert own == {"secrets"}


@by_service
def test_health_checks_use_nothing_that_the_image_lacks(name: str) -> None:
    # Collector, Tempo and Loki have neither shell nor client; `telemetry-ready` asks them.
    bare = name in {"otel-collector", "tempo", "loki"}
    check = SERVICES[name].get("healthcheck", {}).get("test")

    assert not (bare and check)
    if check:
        assert check[0] == "CMD"
    if bare:
        assert name in settings_of(SERVICES["telemetry-ready"]["command"])


def test_nobody_is_admin_and_there_is_no_password() -> None:
    grafana = SERVICES["grafana"]["environment"]

    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    named = {name for service in SERVICES.values() for name in service.get("environment") or {}}
    assert not [name for name in named if "PASSWORD" in name or "SECRET_KEY" in name]


def test_redis_keeps_what_it_is_given() -> None:
    command = settings_of(SERVICES["redis"]["command"])

    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert "--aclfile" in command


def test_every_datasource_that_something_refers_to_exists() -> None:
    sources = yaml.safe_load((OTEL / "grafana/provisioning/datasources/datasources.yaml").read_text())["datasources"]
    uids = {source["uid"] for source in sources}
    named = set(re.findall(r'"datasourceUid": "([^"]+)"', json.dumps(sources)))
    kinds = {source["type"] for source in sources}
    asked = {
        variable["query"]
        for board in BOARDS
        for variable in board.json()["templating"]["list"]
        if variable["type"] == "datasource"
    }

    assert named <= uids
    assert asked <= kinds


def test_an_exemplar_leads_to_the_board_of_one_call() -> None:
    text = (OTEL / "grafana/provisioning/datasources/datasources.yaml").read_text()

    for uid in re.findall(r"/d/toolspan-([a-z-]+)", text):
        assert uid in {board.name for board in BOARDS}


def test_the_home_dashboard_is_one_that_is_committed() -> None:
    path = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert (ROOT / "dashboards" / Path(path).name).exists()


def test_the_passwords_are_random_and_made_once(tmp_path: Path) -> None:
    def make(folder: Path) -> dict[str, str]:
        command = [sys.executable, str(OTEL / "redis" / "passwords.py"), str(folder), "redis:6379"]
        subprocess.run(command, check=True, cwd=tmp_path)
        return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}

    first, again, other = make(tmp_path / "a"), make(tmp_path / "a"), make(tmp_path / "b")

    assert first == again
    assert first["worker/password"] != other["worker/password"]
    assert first["worker/password"] in first["worker/.env"]
    roles = {path.split("/")[0] for path in first if path.endswith("/password")}
    assert roles == {*ROLES, "collector"}
    assert all(first[f"{role}/password"] not in first["redis/users.acl"] for role in roles)
    assert "sha256-of" not in first["redis/users.acl"]
