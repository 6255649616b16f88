"""What we ship is accepted by the programs that read it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.dashboards.queries import TRACE_ID, filled_in, of_panels

ROOT = Path(__file__).parent.parent.parent
OTEL = ROOT / "otel"
PROGRAMS = Path(os.environ["TEST_STACK"])
LAYERS = {
    "base": ["collector.yaml"],
    "stack": ["collector.yaml", "collector.stack.yaml", "collector.extras.yaml"],
    "tail sampling": [
        "collector.yaml",
        "collector.stack.yaml",
        "collector.tail-sampling.yaml",
        "collector.extras.yaml",
    ],
}
# Both: what we build, and the oldest that our rules are for, as Debian has it.
PROMTOOLS = {"built": str(PROGRAMS / "promtool"), "debian": "/usr/bin/promtool"}
every_promtool = pytest.mark.parametrize("promtool", PROMTOOLS.values(), ids=PROMTOOLS)


def run(*command: str, **variables: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_the_collector_accepts_every_combination_of_layers(layers: list[str], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    configs = [part for layer in layers for part in ("--config", str(OTEL / layer))]

    run(
        str(PROGRAMS / "otelcol"),
        "validate",
        *configs,
        COLLECTOR_REDIS_PASSWORD_FILE=str(tmp_path / "password"),
        COLLECTOR_QUEUES=str(tmp_path),
    )


def test_prometheus_accepts_its_configuration() -> None:
    run(
        PROMTOOLS["built"], "check", "config", "--lint=all", "--lint-fatal", str(OTEL / "prometheus" / "prometheus.yml")
    )


@every_promtool
def test_the_rules_are_accepted(promtool: str) -> None:
    rules = sorted(str(path) for path in (OTEL / "prometheus" / "rules").glob("*.yml"))

    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *rules)


@every_promtool
def test_every_alert_fires_when_it_should_and_is_silent_when_it_should(promtool: str) -> None:
    tests = sorted(str(path) for path in (ROOT / "tests" / "rules").glob("*_test.yml"))
    assert tests

    run(promtool, "test", "rules", *tests)


AMTOOL = str(PROGRAMS / "amtool")
ALERTMANAGER = str(OTEL / "alertmanager" / "alertmanager.yml")


def test_alertmanager_accepts_its_configuration() -> None:
    run(AMTOOL, "check-config", ALERTMANAGER)


@pytest.mark.parametrize(
    ("alert", "receiver"),
    [
        (("ToolspanNoLiveWorkers", "critical"), "page"),
        (("ToolspanSaturated", "warning"), "ticket"),
        (("ToolspanWatchdog", "none"), "watchdog"),
    ],
)
def test_pages_tickets_and_the_watchdog_go_their_own_ways(alert: tuple[str, str], receiver: str) -> None:
    name, severity = alert
    labels = (f"alertname={name}", f"severity={severity}", "service=toolspan")

    run(AMTOOL, "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"--verify.receivers={receiver}", *labels)


def test_an_image_built_as_the_dockerfile_says_can_do_what_the_services_are_told_to_do(tmp_path: Path) -> None:
    build = re.findall(r"uv ((?:venv|sync|build|pip)[^\n\\&]*)", (ROOT / "Dockerfile").read_text())
    home, wheels = tmp_path / "home", tmp_path / "wheels"
    uv = str(Path(sys.executable).parent / "uv")
    for words in build:
        told = words.strip().replace("/opt/toolspan", str(home)).replace("/dist/*.whl", f"{wheels}/*.whl")
        command = f"{uv} {told.replace('--out-dir /dist', f'--out-dir {wheels}')}"
        done = subprocess.run(  # noqa: S602 - as the image's shell does
            command,
            shell=True,
            cwd=ROOT,
            env={
                **os.environ,
                "UV_PROJECT_ENVIRONMENT": str(home),
                "UV_PYTHON": str(home if home.exists() else sys.executable),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert len(build) == 4
    for name in ("gateway", "worker", "monitor", "telemetry-ready"):
        run(str(home / "bin" / "toolspan"), services[name]["command"][0], "--help")
    for name in ("traffic", "pager"):
        run(str(home / "bin" / "python"), *services[name]["entrypoint"][1:], "--help")


def test_debians_promtool_is_the_oldest_that_the_rules_are_for() -> None:
    assert shutil.which(PROMTOOLS["debian"])

    assert "version 2.4" in run(PROMTOOLS["debian"], "--version")


def test_every_query_of_logs_and_traces_is_accepted_by_grafanas_own_grammars() -> None:
    asked = [(kind, filled_in(query.text)) for kind in ("loki", "tempo") for query in of_panels(kind)]
    asked = [(kind, query) for kind, query in asked if query != TRACE_ID]

    assert {kind for kind, _ in asked} == {"loki", "tempo"}
    assert refused(asked) == []


@pytest.mark.parametrize(("kind", "query"), [("loki", '{service_name="x"} | json | ='), ("tempo", "{ span.x == 1 ")])
def test_the_grammars_notice_what_is_wrong(kind: str, query: str) -> None:
    assert len(refused([(kind, query)])) == 1


def refused(queries: list[tuple[str, str]]) -> list[str]:
    """The queries that their grammar does not accept."""
    lines = "".join(json.dumps(query) + "\n" for query in queries)
    parse = str(PROGRAMS / "grammars" / "parse.mjs")
    node = shutil.which("node")
    assert node
    return subprocess.run([node, parse], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
