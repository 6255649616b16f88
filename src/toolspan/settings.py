"""All knobs, read from `TOOLSPAN_*` variables and `.env`; the only reader of the environment."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from toolspan.errors import SettingsError
from toolspan.keys import Keys

_PREFIX = "TOOLSPAN_"
_ENV_FILE = ".env"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
"""What the URL of a Redis may begin with."""

_ALIKE = 0.75

PositiveSeconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """Everything that can be set; each field is the variable `TOOLSPAN_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_file=_ENV_FILE, env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Where Redis is: redis, rediss (TLS), unix, redis+sentinel or rediss+sentinel URL",
    )
    prefix: str = Field(
        "sg",
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_.{}-]+$",
        description="What all keys start with; `{sg}` puts a plane into one slot of a cluster",
    )
    stream: str = Field("tools", pattern=_NAME, description="Name of the stream of tool calls")
    concurrency: int = Field(100, ge=1, le=10_000, description="How many calls one worker process holds at most")
    lease_ms: int = Field(
        60_000, ge=200, le=3_600_000, description="Milliseconds a delivery stays a worker's without a heartbeat"
    )
    max_attempts: int = Field(4, ge=1, le=20, description="Attempts after which a call is quarantined")
    tool_timeout_seconds: PositiveSeconds = Field(
        300.0, description="Seconds a tool may run if it sets no timeout of its own"
    )
    drain_seconds: float = Field(
        30.0, ge=0, le=3_600, description="Seconds a stopping worker gives the calls that it holds"
    )
    reap_after_ms: int = Field(
        600_000, ge=400, description="Milliseconds without a heartbeat after which an empty consumer is deleted"
    )
    max_args_bytes: int = Field(262_144, ge=2, le=16_777_216, description="Bytes of arguments a call may carry")
    max_reply_bytes: int = Field(262_144, ge=64, le=16_777_216, description="Bytes of result a reply may carry")
    max_nesting: int = Field(64, ge=1, le=150, description="Levels of nesting in arguments and results")
    reply_maxlen: int = Field(100_000, ge=100, description="Replies kept per reply stream")
    reply_ttl_seconds: int = Field(
        3_600, ge=1, le=604_800, description="Seconds after its last reply at which a reply stream expires"
    )
    idempotency_ttl_seconds: int = Field(
        86_400,
        ge=1,
        le=2_592_000,
        description="Seconds an idempotency key is remembered, from its first call on",
    )
    backlog_limit: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="How many calls may wait (undelivered and parked) before more are refused; unlimited if unset",
    )
    tokens_file: Path | None = Field(
        None,
        description="JSON list of who may call the gateway: `name`, `sha256` of the token in hex, `tools` (names, with "
        "`*` for any characters); everybody may if unset",
    )
    dlq_retention_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="Days after which dead letters are deleted; without it they are kept for ever",
    )

    wait_replicas: int = Field(
        0,
        ge=0,
        le=100,
        description="How many replicas must confirm an append, or the start of an at-most-once call, before it counts",
    )

    docs_url: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Where the pages of docs/ are, for `toolspan explain` to lead to the one that helps",
    )
    capture_args: bool = Field(
        default=False,
        description="Whether spans carry the arguments and results of tools, redacted",
    )
    redact: str | None = Field(
        None,
        pattern=r"^[\w.]+:\w+$",
        description="`module:function`, str to str: hides more in messages, stacks and lines than we do",
    )
    link_only: bool = Field(
        default=False,
        description="Whether attempts begin a trace of their own, which only links to the caller's",
    )
    remote_sampled_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Which part of the traces that HTTP requests want sampled is; the rest goes on unsampled",
    )

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if url.partition("://")[0] not in REDIS_SCHEMES or "://" not in url:
            message = f"must start with one of {', '.join(s + '://' for s in REDIS_SCHEMES)}"
            raise ValueError(message)
        return url

    @model_validator(mode="after")
    def _reaps_the_dead_only(self) -> Self:
        if self.reap_after_ms < 2 * self.lease_ms:
            message = (
                f"TOOLSPAN_REAP_AFTER_MS, {self.reap_after_ms}, is less than twice TOOLSPAN_LEASE_MS, {self.lease_ms}: "
                "a worker that is only slow would be taken for dead"
            )
            raise ValueError(message)
        return self

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment; *overrides* that are not None win.

        Raises:
            SettingsError: with one line for each setting that cannot be used.
        """
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})
        except ValidationError as exc:
            raise SettingsError("; ".join(map(_problem, exc.errors()))) from None
        except UnicodeDecodeError as exc:
            message = f".env is not UTF-8: {exc}"
            raise SettingsError(message) from None

    def described(self) -> list[SettingLine]:
        """List all settings: what each is, where that comes from, what it means; secrets are hidden.

        For settings that were loaded without overrides: those would count as coming from `.env`.
        """
        # The case of a variable does not matter, see `model_config`.
        environment = {variable.upper() for variable in os.environ}
        return [
            SettingLine(
                variable := f"TOOLSPAN_{name.upper()}",
                _text(name, value),
                "default"
                if name not in self.model_fields_set
                else "environment"
                if variable in environment
                else ".env",
                type(self).model_fields[name].description or "",
            )
            for name, value in self
        ]

    @property
    def keys(self) -> Keys:
        """The key names under our prefix, for our stream."""
        return Keys(self.prefix, self.stream)


def unknown_variables() -> list[UnknownVariable]:
    """Give the `TOOLSPAN_*` names of the environment and of `.env` that set nothing, for they are none of ours."""
    known = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields]
    places = dict.fromkeys(_dotenv(), _ENV_FILE) | dict.fromkeys(os.environ, "the environment")
    return [
        UnknownVariable(name, place, next(iter(get_close_matches(name.upper(), known, n=1, cutoff=_ALIKE)), None))
        for name, place in sorted(places.items())
        if name.upper().startswith(_PREFIX) and name.upper() not in known
    ]


def _dotenv() -> list[str]:
    try:
        return list(dotenv_values(_ENV_FILE, encoding="utf-8"))
    except UnicodeDecodeError:
        # `Settings.load` says so.
        return []


class UnknownVariable(NamedTuple):
    """A variable that sets nothing, where it stands, and what may have been meant."""

    variable: str
    place: str
    nearest: str | None

    def __str__(self) -> str:
        """Say so in a sentence."""
        meant = f"; is {self.nearest} meant?" if self.nearest else ""
        return f"{self.variable} is no setting, and does nothing{meant}"


def _problem(error: Any) -> str:
    """Say what is wrong with a setting, and what it was set to."""
    problem = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        # What is wrong between two settings names them itself.
        return str(problem)
    name = "_".join(map(str, error["loc"]))
    return f"TOOLSPAN_{name.upper()}: {problem}, not {_text(name, error['input'])!r}"


class SettingLine(NamedTuple):
    """One setting, for people."""

    variable: str
    value: str
    source: str
    meaning: str


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    return without_password(value) if name == "redis_url" else str(value)


def without_password(url: str) -> str:
    """Hide the passwords of a URL: the user's, up to the last @, and those of its query."""
    return re.sub(r"(password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*:).*@", r"\1***@", url))


class BatchSettings(NamedTuple):
    """The queue of finished spans, in spans and milliseconds."""

    queue_size: int
    batch_size: int
    delay_ms: int


def _whole(variable: str, default: int, what: str = "a whole number") -> int:
    """Read a number that must not be 0."""
    given = os.environ.get(variable) or str(default)
    if not given.isdecimal() or int(given) == 0:
        message = f"{variable}: must be {what}, not {given!r}"
        raise SettingsError(message)
    return int(given)


class OtlpSettings:
    """What the standard `OTEL_*` variables say about where telemetry goes; the exporters read the rest themselves."""

    metric_interval_ms: float

    def __init__(self) -> None:
        self.disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        self.metric_interval_ms = float(_whole("OTEL_METRIC_EXPORT_INTERVAL", 15_000, "a whole number of milliseconds"))

    def exports(self, signal: Literal["traces", "metrics", "logs"]) -> bool:
        """Whether *signal* has somewhere to go."""
        if self.disabled or os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp") == "none":
            return False
        names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
        return any(os.environ.get(name) for name in names)

    def protocol(self, signal: Literal["traces", "metrics", "logs"]) -> str:
        """How *signal* travels: `http/protobuf`, unless something else is set."""
        everything = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        return os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", everything)

    def endpoint(self, signal: Literal["traces", "metrics", "logs"]) -> str:
        """Where *signal* goes, without a password that may stand there."""
        url = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or os.environ.get(
            "OTEL_EXPORTER_OTLP_ENDPOINT", ""
        )
        return without_password(url)

    @property
    def lends_session(self) -> bool:
        """Whether a package is named that lends the exporter of spans a session with its credentials."""
        names = ("CREDENTIAL_PROVIDER", "TRACES_CREDENTIAL_PROVIDER")
        return any(os.environ.get(f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{name}") for name in names)

    @property
    def plain_histograms(self) -> bool:
        """Whether histograms are to be what they are by default: cumulative, with explicit boundaries."""
        temporality = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE") or "cumulative"
        plain = "explicit_bucket_histogram"
        aggregation = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION") or plain
        return temporality.lower() == "cumulative" and aggregation.lower() == plain

    @property
    def batches(self) -> BatchSettings:
        """How spans wait for their export, and how many of them leave at once."""
        return BatchSettings(
            # Calls come by the thousand and make three spans each: the SDK's own defaults are soon full. A request
            # takes as long as writing the spans of a hundred calls; some collectors take none that is much larger.
            queue_size=_whole("OTEL_BSP_MAX_QUEUE_SIZE", 16_384),
            batch_size=_whole("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 2_048),
            delay_ms=_whole("OTEL_BSP_SCHEDULE_DELAY", 5_000, "a whole number of milliseconds"),
        )

    @property
    def sdk_is_watched(self) -> bool:
        """Whether the SDK counts what it loses."""
        return os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() == "true"

    def watch_sdk(self) -> None:
        """Have the SDK count what it loses, unless the environment says otherwise."""
        os.environ.setdefault("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
