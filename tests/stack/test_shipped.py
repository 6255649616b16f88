"""What we ship is accepted by the programs that read it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.dashboards.queries import TRACE_ID, filled_in, of_panels
from tests.stack.process import until
from tests.support.ports import free_port

ROOT = Path(__file__).parent.parent.parent
OTEL = ROOT / "otel"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
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


RULE_TESTS = sorted((ROOT / "tests" / "rules").glob("*_test.yml"))


@every_promtool
@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name.removesuffix("_test.yml"))
def test_every_alert_fires_when_it_should_and_is_silent_when_it_should(promtool: str, path: Path) -> None:
    run(promtool, "test", "rules", str(path))


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


STAGES = {
    found.split("\n")[0].split(" AS ")[-1]: found for found in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
}
"""The stages of the image by their names; the last has none."""


def build(stage: str, folder: Path, moved: dict[str, str]) -> None:
    """Do in *folder* what a stage does in its image, with the files that it has there, to other places."""
    for names in re.findall(r"^COPY (?!--)(.+) \S+$", STAGES["base"] + STAGES[stage], re.MULTILINE):
        for name in names.split():
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    for commands in re.findall(r"^RUN ((?:.*\\\n)*.+)", STAGES[stage], re.MULTILINE):
        command = commands.replace("\\\n", "")
        for there, here in moved.items():
            command = command.replace(there, here)
        done = subprocess.run(  # noqa: S602 - as the image's shell does
            command, shell=True, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def uv(monkeypatch: pytest.MonkeyPatch) -> None:
    """`uv`, and the interpreter that the images have."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("UV_PYTHON", sys.executable)


@pytest.mark.usefixtures("uv")
def test_an_image_built_as_the_dockerfile_says_can_do_what_the_services_are_told_to_do(tmp_path: Path) -> None:
    home = tmp_path / "home"
    build("build", tmp_path, {"/opt/toolspan": str(home), "/dist": str(tmp_path / "wheels")})

    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("gateway", "worker", "monitor", "telemetry-ready"):
        run(str(home / "bin" / "toolspan"), services[name]["command"][0], "--help")
    for name in ("traffic", "pager"):
        run(str(home / "bin" / "python"), *services[name]["entrypoint"][1:], "--help")


@pytest.mark.usefixtures("uv")
def test_the_image_of_the_pages_has_every_page_that_an_alert_leads_to(tmp_path: Path) -> None:
    site, port = tmp_path / "site", free_port()
    build("site", tmp_path, {"/opt/site": str(tmp_path / "home"), "--site-dir /site": f"--site-dir {site}"})
    moved = {"/site": str(site), "8000": str(port), "python": sys.executable, "0.0.0.0": "127.0.0.1"}  # noqa: S104
    started, healthy = (
        [moved.get(word, word) for word in json.loads(found)]
        for found in (
            re.findall(rf"^{what} (\[.+\])$", STAGES["docs"], re.MULTILINE)[0] for what in ("ENTRYPOINT", " +CMD")
        )
    )

    # Whatever started these tests may ignore that signal, and hand this on.
    with subprocess.Popen(
        ["/usr/bin/env", "--default-signal=INT", *started], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            asked = [*healthy[:-1], healthy[-1].replace("8000", str(port))]
            until(
                lambda: subprocess.run(asked, capture_output=True, check=False).returncode == 0, "it serves", within=20
            )
            rules = yaml.safe_load((OTEL / "prometheus" / "rules" / "alerts.yml").read_text())["groups"][0]["rules"]
            for rule in rules:
                url = rule["annotations"]["runbook_url"].replace("localhost:8000", f"127.0.0.1:{port}")
                with urllib.request.urlopen(url) as response:
                    assert rule["alert"] in response.read().decode()
        finally:
            # As the image says that it be ended.
            server.send_signal(signal.SIGINT)
            server.wait(10)
    assert "\nSTOPSIGNAL SIGINT\n" in STAGES["docs"]


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
