"""The whole chain as real processes on loopback, with the shipped configuration: only addresses are others."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import redis

from tests.stack.backends import keeping
from tests.stack.process import Process, until
from tests.support.ports import free_port
from toolspan.testing.server import _wheel_binary

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).parent.parent.parent
OTEL = ROOT / "otel"
EXPORT_SECONDS = 5
LEASE_MS = 4_000


class Chain:
    """Redis, gateway, workers, monitor → collector → Prometheus → Alertmanager → pager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs = Path(os.environ["TEST_STACK"])
        self._stack = ExitStack()
        self._running: dict[str, Process] = {}
        names = ("redis", "gateway", "otlp", "health", "figures", "prometheus", "alertmanager")
        self._ports = {name: free_port() for name in names}
        self._roles = folder / "roles"
        self.backends = self._stack.enter_context(keeping())

    # ── the parts ──────────────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Self:
        try:
            self._start_redis()
            self.start_pager()
            self._start_alertmanager()
            self._start_prometheus()
            self.start_collector()
            self.start_ours("gateway", "gateway", "--port", str(self._ports["gateway"]))
            self.start_workers()
            self.start_ours("monitor", "monitor")
            until(lambda: self.metric("up", job="otel-collector") == ["1"], "the collector is scraped", within=90)
            until(lambda: self.metric("toolspan_workers", toolspan_state="live") == ["2"], "two workers", within=90)
            gateway = f"http://127.0.0.1:{self._ports['gateway']}/readyz"
            until(lambda: self._reachable(gateway), "the gateway is ready", within=90)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process in reversed(self._running.values()):
            process.send(signal.SIGCONT)
            process.end(within=5)
        self._stack.close()

    def _start(self, name: str, *command: str, cwd: Path | None = None, **variables: str) -> Process:
        log = self.folder / f"{name}.log"
        process = Process(name, list(command), cwd=cwd or self.folder, log=log, variables=variables)
        self._running[name] = process
        return process

    def __getitem__(self, name: str) -> Process:
        return self._running[name]

    def check(self) -> None:
        """Fail if something has ended that we did not end."""
        for process in self._running.values():
            process.check()

    def _start_redis(self) -> None:
        make = runpy.run_path(str(OTEL / "redis" / "passwords.py"))["main"]
        make(self._roles, f"127.0.0.1:{self._ports['redis']}")
        # Beside the users that we ship: one who does what nobody should be able to do.
        with (self._roles / "redis" / "users.acl").open("a") as acl:
            acl.write("user chaos reset on nopass ~* &* +@all\n")
        (self.folder / "data").mkdir()
        self.start_redis()

    def start_redis(self) -> None:
        """Start the server on what is on disk."""
        data = self.folder / "data"
        flags = ["--aclfile", str(self._roles / "redis" / "users.acl"), "--appendonly", "yes", "--dir", str(data)]
        flags += ["--maxmemory", "256mb", "--maxmemory-policy", "noeviction", "--save", ""]
        self._start("redis", _wheel_binary(), "--bind", "127.0.0.1", "--port", str(self._ports["redis"]), *flags)
        until(self._answers, "Redis answers", within=20)

    def _answers(self) -> bool:
        try:
            return bool(redis.Redis(port=self._ports["redis"]).ping())
        except redis.ConnectionError:
            return False

    def redis(self) -> redis.Redis:
        """A client that may do everything."""
        return redis.Redis(port=self._ports["redis"], username="chaos", password="any")  # noqa: S106 - nopass

    def start_ours(self, name: str, *arguments: str, role: str = "") -> Process:
        """Start `toolspan` as one of our services, which finds its Redis in `.env` as in the container."""
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._ports['otlp']}",
            "OTEL_METRIC_EXPORT_INTERVAL": str(EXPORT_SECONDS * 1000),
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "TOOLSPAN_LEASE_MS": str(LEASE_MS),
            "TOOLSPAN_REAP_AFTER_MS": "20000",
            "TOOLSPAN_DRAIN_SECONDS": "2",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "toolspan", *arguments]
        return self._start(name, *command, cwd=self._roles / (role or name), **variables)

    def start_workers(self, count: int = 2, *, name: str = "w") -> None:
        """Some workers, each of which comes back when it dies, as a container does; those of *name* have one parent."""
        tools = ("--tools", "toolspan.demo.tools", "--tools", "tests.stack.misbehaving")
        flags = ("--processes", str(count), "--concurrency", "16", "--name", name)
        self.start_ours(self.workers_named(name), "worker", *tools, *flags, role="worker")

    @staticmethod
    def workers_named(name: str) -> str:
        """Name the process that is the parent of these workers."""
        return "workers" if name == "w" else f"workers {name}"

    def operator(self, *arguments: str) -> None:
        """Run a command as an operator does, to its end."""
        self.start_ours("operator", *arguments, role="operator").end(0, within=60)
        del self._running["operator"]

    def start_collector(self) -> None:
        layers = ("collector.yaml", "collector.stack.yaml", "collector.extras.yaml")
        configs = [part for layer in layers for part in ("--config", str(OTEL / layer))]
        port = {name: f"127.0.0.1:{number}" for name, number in self._ports.items()}
        self._start(
            "collector",
            str(self._programs / "otelcol"),
            *configs,
            COLLECTOR_OTLP_HTTP=port["otlp"],
            COLLECTOR_OTLP_GRPC="127.0.0.1:0",
            COLLECTOR_HEALTH=port["health"],
            COLLECTOR_METRICS_HOST="127.0.0.1",
            COLLECTOR_METRICS_PORT=str(self._ports["figures"]),
            COLLECTOR_REDIS=port["redis"],
            COLLECTOR_REDIS_PASSWORD_FILE=str(self._roles / "collector" / "password"),
            COLLECTOR_QUEUES=str(self.folder / "queues"),
            COLLECTOR_TEMPO=self.backends.endpoint,
            COLLECTOR_LOKI=f"{self.backends.endpoint}/otlp",
            COLLECTOR_PROMETHEUS=f"http://{port['prometheus']}/api/v1/otlp",
        )
        until(lambda: self._reachable(f"http://{port['health']}/"), "the collector is healthy", within=30)

    def _start_prometheus(self) -> None:
        home = self.folder / "prometheus"
        (home / "targets").mkdir(parents=True)
        for shipped in ("prometheus.yml", "rules"):
            (home / shipped).symlink_to(OTEL / "prometheus" / shipped)
        for name, port in (
            ("alertmanager", "alertmanager"),
            ("otel-collector", "figures"),
            ("prometheus", "prometheus"),
        ):
            target = json.dumps([{"targets": [f"127.0.0.1:{self._ports[port]}"]}])
            (home / "targets" / f"{name}.yml").write_text(target)
        self._start(
            "prometheus",
            str(self._programs / "prometheus"),
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._ports['prometheus']}",
            "--web.enable-otlp-receiver",
            "--enable-feature=exemplar-storage",
        )
        until(lambda: self._reachable(f"{self.prometheus}/-/ready"), "Prometheus is ready", within=60)

    def _start_alertmanager(self) -> None:
        home = self.folder / "alertmanager"
        (home / "receivers").mkdir(parents=True)
        (home / "alertmanager.yml").symlink_to(OTEL / "alertmanager" / "alertmanager.yml")
        for shipped in (OTEL / "alertmanager" / "receivers").iterdir():
            path = urllib.parse.urlsplit(shipped.read_text()).path
            (home / "receivers" / shipped.name).write_text(f"http://127.0.0.1:{self.pager_port}{path}")
        self._start(
            "alertmanager",
            str(self._programs / "alertmanager"),
            f"--config.file={home / 'alertmanager.yml'}",
            f"--storage.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._ports['alertmanager']}",
            "--cluster.listen-address=",
            cwd=home,
        )
        url = f"http://127.0.0.1:{self._ports['alertmanager']}/-/ready"
        until(lambda: self._reachable(url), "Alertmanager is ready", within=30)

    def start_pager(self) -> None:
        pager = self._start("pager", sys.executable, "-m", "toolspan.demo.pager", "--port", "0")
        self.pager_port = until(pager.told, "the pager listens", within=20)[0]["port"]

    def start_traffic(self, *, rate: float = 15, deadly_every: float = 0) -> Process:
        gateway = f"http://127.0.0.1:{self._ports['gateway']}"
        flags = ("--gateway", gateway, "--rate", str(rate), "--deadly-every", str(deadly_every))
        return self._start("traffic", sys.executable, "-m", "toolspan.demo.traffic", *flags)

    def start_flood(self, tool: str, args: dict[str, Any], *flags: str) -> Process:
        url, said = f"http://127.0.0.1:{self._ports['gateway']}/v1/tools/{tool}/calls", json.dumps(args)
        return self._start("flood", sys.executable, "-m", "tests.stack.flood", url, said, *flags, PYTHONPATH=str(ROOT))

    def call(self, tool: str, *, seconds: float = 30, **args: Any) -> dict[str, Any]:
        """Call through the gateway; what it answers."""
        body = json.dumps({"args": args, "timeout_ms": int(seconds * 1000)}).encode()
        url = f"http://127.0.0.1:{self._ports['gateway']}/v1/tools/{tool}/calls"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=seconds + 10) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as exc:
            answer = json.load(exc)
        return answer

    def send_and_leave(self, tool: str, **args: Any) -> None:
        """Append a call whose caller does not wait, and which no deadline ends before its fault does."""
        body = json.dumps({"args": args, "detach": True, "timeout_ms": 900_000}).encode()
        url = f"http://127.0.0.1:{self._ports['gateway']}/v1/tools/{tool}/calls"
        with urllib.request.urlopen(
            urllib.request.Request(url, body, {"Content-Type": "application/json"})
        ) as response:
            assert response.status == 202

    # ── what can be asked of them ──────────────────────────────────────────────────────────────────────────────

    @property
    def prometheus(self) -> str:
        return f"http://127.0.0.1:{self._ports['prometheus']}"

    def ask(self, path: str, **parameters: Any) -> Any:
        """What Prometheus answers; its error fails the test."""
        body = urllib.parse.urlencode(parameters, doseq=True).encode()
        try:
            with urllib.request.urlopen(f"{self.prometheus}/api/v1/{path}?{body.decode()}", timeout=30) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as exc:
            raise AssertionError(f"{parameters}: {exc.read().decode()}") from None
        assert answer["status"] == "success", answer
        return answer["data"]

    def metric(self, name: str, **labels: str) -> list[str]:
        """The present values of a metric."""
        chosen = ",".join(f'{label}="{value}"' for label, value in labels.items())
        return [series["value"][1] for series in self.ask("query", query=f"{name}{{{chosen}}}")["result"]]

    def course(self, query: str, *, seconds: float = 1800) -> list[Any]:
        """The series of a query over the last *seconds*."""
        now = time.time()
        found: list[Any] = self.ask("query_range", query=query, start=now - seconds, end=now, step=15)["result"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """What Alertmanager holds, silent or not."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports['alertmanager']}/api/v2/alerts") as response:
            held: list[dict[str, Any]] = json.load(response)
        return held

    def notified(self, status: str, receiver: str = "") -> set[str]:
        """The alerts that the pager was told of, in this state, by this receiver or any."""
        return {
            told["alert"]
            for told in self["pager"].told()
            if told["event"] == f"alert.{status}" and receiver in {"", told["receiver"]}
        }

    def _reachable(self, url: str) -> bool:
        self.check()
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False
