"""How finished spans leave, over HTTP and gRPC: as the standard variables say, tried again, and counted to the last."""

from __future__ import annotations

import gzip
import os
import ssl
import threading
from base64 import b64encode
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import grpc  # type: ignore[import-untyped]
import pytest
import requests
from opentelemetry.exporter.otlp.proto.http import _common
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags
from structlog.testing import capture_logs

from tests.support.certificates import Certificates, made_in
from toolspan.errors import SettingsError
from toolspan.settings import OtlpSettings
from toolspan.telemetry import exporters
from toolspan.telemetry.otlp.outbox import Outbox, made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPANS = 5
PARTIAL = ExportTraceServiceResponse()
PARTIAL.partial_success.rejected_spans = 2
PARTIAL.partial_success.error_message = "too old"
RETRY = "try again"
REFUSE = "never"


@dataclass
class Receiver:
    """Keeps what it is sent. *answers* are what it says, one after the other, and then that all is well."""

    answers: deque[Any] = field(default_factory=deque)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    endpoint: str = ""

    def take(self, body: bytes, headers: dict[str, str]) -> Any:
        """Keep one request, and give the answer."""
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in headers.items()})
        return self.answers.popleft() if self.answers else ExportTraceServiceResponse()

    def spans(self, number: int = -1) -> list[str]:
        """The names of the spans in one request."""
        groups = ExportTraceServiceRequest.FromString(self.bodies[number]).resource_spans
        return [span.name for group in groups for scope in group.scope_spans for span in scope.spans]


@contextmanager
def _http(receiver: Receiver, tls: Certificates | None = None) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = receiver.take(
                gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body, dict(self.headers)
            )
            if isinstance(answer, str):
                self.send_response(503 if answer == RETRY else 400)
                self.send_header("Retry-After", "0")
                self.end_headers()
            else:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer if isinstance(answer, bytes) else answer.SerializeToString())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.endpoint = f"http{'s' if tls else ''}://localhost:{server.server_port}"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@contextmanager
def _grpc(receiver: Receiver, tls: Certificates | None = None) -> Iterator[None]:
    class Servicer(TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - as services are called
            headers = {str(name): str(value) for name, value in context.invocation_metadata()}
            answer = receiver.take(request.SerializeToString(), headers)
            if answer == RETRY:
                # How soon, in the words of google.rpc.RetryInfo: at once.
                context.set_trailing_metadata((("google.rpc.retryinfo-bin", b"\x0a\x00"),))
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
            elif answer == REFUSE:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
            return answer

    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Servicer(), server)  # type: ignore[no-untyped-call]
    if tls:
        secret = grpc.ssl_server_credentials([(tls.key.read_bytes(), tls.certificate.read_bytes())])
        receiver.endpoint = f"https://localhost:{server.add_secure_port('127.0.0.1:0', secret)}"
    else:
        receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield
    server.stop(None)


LISTENING = {"http/protobuf": _http, "grpc": _grpc}


@pytest.fixture(params=list(LISTENING))
def receiver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    listening = Receiver()
    with LISTENING[request.param](listening):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listening.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "5")
        monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
        yield listening


class Exporting:
    """An outbox of the settings of now, and what it counts."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._meters = MeterProvider([self._reader], shutdown_on_exit=False)
        otlp = OtlpSettings()
        self.outbox: Outbox = made(exporters.spans(otlp, self._meters), otlp, self._meters)

    def export(self, count: int = SPANS) -> None:
        """Have that many spans exported, now."""
        for number in range(count):
            self.outbox.on_end(span(f"s{number}"))
        self.outbox.force_flush()

    def counted(self, metric: str) -> dict[str, float]:
        """What a metric of the SDK has come to, by `error.type`."""
        data = self._reader.get_metrics_data()
        assert data is not None
        points: list[Any] = [
            point
            for group in data.resource_metrics
            for scope in group.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]
        return {str((point.attributes or {}).get("error.type", "")): point.value for point in points}


def span(name: str) -> ReadableSpan:
    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return ReadableSpan(name, context, resource=Resource({}))


@pytest.fixture
def exporting(receiver: Receiver) -> Iterator[Exporting]:
    del receiver
    made_now = Exporting()
    yield made_now
    made_now.outbox.shutdown()


# gRPC itself refuses what it cannot read, and does not survive a fork.
BY_HTTP = pytest.mark.parametrize("receiver", ["http/protobuf"], indirect=True)
EXPORTED = "otel.sdk.exporter.span.exported"
PROCESSED = "otel.sdk.processor.span.processed"


def test_a_collector_that_is_busy_is_asked_again_and_gets_all_of_them(receiver: Receiver, exporting: Exporting) -> None:
    receiver.answers += [RETRY, RETRY]
    exporting.export()

    assert len(receiver.bodies) == 3
    assert receiver.spans() == [f"s{number}" for number in range(SPANS)]
    assert exporting.counted(EXPORTED) == {"": SPANS}


def test_a_collector_that_refuses_is_not_asked_again(receiver: Receiver, exporting: Exporting) -> None:
    receiver.answers += [REFUSE]
    exporting.export()
    failed = exporting.counted(EXPORTED)

    assert len(receiver.bodies) == 1
    assert list(failed.values()) == [SPANS]
    assert exporting.counted(PROCESSED) == {"": SPANS}


def test_what_a_collector_rejects_of_a_request_is_counted_as_lost(receiver: Receiver, exporting: Exporting) -> None:
    receiver.answers += [PARTIAL, PARTIAL]
    with capture_logs() as lines:
        exporting.export()
        exporting.export()
        exporting.export(1)

    assert len(receiver.bodies) == 3
    assert exporting.counted(EXPORTED) == {"": 2 * (SPANS - 2) + 1, "rejected": 4}
    # One line for one trouble.
    assert [(line["event"], line["spans"], line["why"]) for line in lines] == [("telemetry.rejected", 2, "too old")]


def test_headers_and_compression_are_as_the_variables_say(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret,x-tenant=7")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    exporting = Exporting()
    exporting.export()
    exporting.outbox.shutdown()
    [headers] = receiver.headers

    assert (headers["authorization"], headers["x-tenant"]) == ("secret", "7")
    assert receiver.spans() == [f"s{number}" for number in range(SPANS)]
    # gRPC unpacks what comes before it hands it on, and hands on that it was packed only here.
    assert headers.get("content-encoding", "gzip") == "gzip"


@BY_HTTP
@pytest.mark.parametrize("given", ["in the url", "in a netrc file", "nowhere"])
def test_credentials_are_used_wherever_they_are_given(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    if given == "in the url":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint.replace("//", "//ada:secret@"))
    elif given == "in a netrc file":
        netrc = tmp_path / "netrc"
        netrc.write_text("machine localhost login ada password secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
    exporting = Exporting()
    exporting.export()
    exporting.outbox.shutdown()

    [headers] = receiver.headers
    basic = b64encode(b"ada:secret").decode()
    assert headers.get("authorization") == (None if given == "nowhere" else f"Basic {basic}")


@BY_HTTP
def test_a_session_that_a_package_lends_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def lent() -> requests.Session:
        session = requests.Session()
        session.headers["x-lent"] = "yes"
        return session

    provider = EntryPoint("lender", f"{__name__}:lent", "opentelemetry_otlp_credential_provider")
    monkeypatch.setattr(EntryPoint, "load", lambda _: lent)
    monkeypatch.setattr(_common, "entry_points", lambda **_: [provider])
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "lender")
    exporting = Exporting()
    exporting.export()
    exporting.outbox.shutdown()

    assert receiver.headers[0]["x-lent"] == "yes"


@BY_HTTP
def test_the_proxy_of_the_environment_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.invalid:4318")
    monkeypatch.setenv("http_proxy", receiver.endpoint)
    monkeypatch.delenv("no_proxy", raising=False)
    exporting = Exporting()
    exporting.export()
    exporting.outbox.shutdown()

    assert receiver.headers[0]["host"] == "collector.invalid:4318"
    assert receiver.spans() == [f"s{number}" for number in range(SPANS)]


@pytest.mark.parametrize("protocol", list(LISTENING))
def test_a_collector_is_known_by_the_authority_that_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: str
) -> None:
    certificates = made_in(tmp_path)
    receiver = Receiver()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    # To the library of the stock exporter these count for more.
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    with LISTENING[protocol](receiver, certificates):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        for authority in (certificates.stranger, certificates.authority):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority))
            exporting = Exporting()
            exporting.export(1 if authority == certificates.stranger else 2)
            exporting.outbox.shutdown()

    assert [receiver.spans(number) for number in range(len(receiver.bodies))] == [["s0", "s1"]]


@BY_HTTP
def test_an_answer_that_is_nonsense_is_a_good_one_all_the_same(receiver: Receiver, exporting: Exporting) -> None:
    receiver.answers += [b"\xff\xff\xff"]
    exporting.export()

    assert exporting.counted(EXPORTED) == {"": SPANS}


def test_batches_are_as_large_as_the_variables_say(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    exporting = Exporting()
    exporting.export()
    exporting.outbox.shutdown()

    assert [len(receiver.spans(number)) for number in range(3)] == [2, 2, 1]


@BY_HTTP
def test_what_comes_while_the_rest_is_sent_waits_for_the_next_time(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a busy worker would send request after request, of a few spans each."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    exporting = Exporting()
    take = receiver.take

    def busy(body: bytes, headers: dict[str, str]) -> Any:
        if len(receiver.bodies) < 3:
            exporting.outbox.on_end(span("meanwhile"))
        return take(body, headers)

    monkeypatch.setattr(receiver, "take", busy)
    exporting.export()

    assert [receiver.spans(number) for number in range(len(receiver.bodies))] == [[f"s{n}" for n in range(SPANS)]]
    exporting.outbox.shutdown()
    assert receiver.spans() == ["meanwhile"]


def test_after_the_end_nothing_is_taken_and_that_is_counted(receiver: Receiver, exporting: Exporting) -> None:
    exporting.outbox.on_end(span("before"))
    exporting.outbox.shutdown()
    exporting.outbox.on_end(span("after"))

    assert receiver.spans() == ["before"]
    assert exporting.counted(PROCESSED) == {"": 1, "already_shutdown": 1}
    assert not exporting.outbox.force_flush()


@BY_HTTP
def test_a_bug_costs_one_batch_and_not_all_that_follow(receiver: Receiver, exporting: Exporting) -> None:
    # Nothing of ours writes it so.
    exporting.outbox.put([(3, b"no spans")])
    with capture_logs() as lines:
        exporting.outbox.frames_by(lambda calls: [bytes(calls[7])])
        exporting.outbox.force_flush()
    exporting.export()

    assert [(line["event"], line["spans"]) for line in lines] == [("telemetry.failed", 3)]
    assert receiver.spans() == [f"s{number}" for number in range(SPANS)]


@BY_HTTP
def test_a_process_that_was_forked_exports_what_is_its_own(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    exporting = Exporting()
    exporting.outbox.on_end(span("of the parent"))
    child = os.fork()
    if not child:
        exporting.outbox.on_end(span("of the child"))
        exporting.outbox.force_flush()
        os._exit(0)
    os.waitpid(child, 0)
    exporting.outbox.shutdown()

    assert [receiver.spans(number) for number in range(len(receiver.bodies))] == [["of the child"], ["of the parent"]]


@pytest.mark.parametrize("variable", ["MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "SCHEDULE_DELAY"])
def test_a_variable_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(f"OTEL_BSP_{variable}", "many")

    with pytest.raises(SettingsError, match=f"OTEL_BSP_{variable}: must be a whole number.*'many'"):
        _ = OtlpSettings().batches
