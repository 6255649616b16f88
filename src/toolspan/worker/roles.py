"""What a worker is made of: every role, with what it works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from toolspan.codec import Codec, Limits
from toolspan.store import Channels, Inspector, StreamStore
from toolspan.store.cancellations import CancellationStore
from toolspan.store.keeper import Keeper
from toolspan.store.limits import LimitStore
from toolspan.store.progress import ProgressStore
from toolspan.worker.admission import Admission
from toolspan.worker.cancellations import Cancellations
from toolspan.worker.canceller import Canceller
from toolspan.worker.completer import Completer
from toolspan.worker.controls import Controls
from toolspan.worker.fetcher import Fetcher
from toolspan.worker.heartbeater import BEATS_PER_LEASE, Heartbeater
from toolspan.worker.inflight import InFlight
from toolspan.worker.intake import Intake
from toolspan.worker.isolation import Isolation
from toolspan.worker.link import Link
from toolspan.worker.listener import Listener
from toolspan.worker.neighbours import Neighbours
from toolspan.worker.progress import ProgressWriter
from toolspan.worker.reaper import Reaper
from toolspan.worker.reclaimer import Reclaimer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from toolspan.model import ToolInfo
    from toolspan.settings import Settings
    from toolspan.store import Connection
    from toolspan.store.clock import RedisClock
    from toolspan.store.keeper import Registration
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.inflight import Process
    from toolspan.worker.vitals import Vitals

_LONGEST_BLOCK_MS: Final = 500
"""How long a read waits: so late may a drain begin, and so long may an orphan wait for its turn at the door."""

_LONGEST_ANSWER_SECONDS: Final = 5.0
_SHORTEST_ANSWER_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Parts:
    """What a processor is made of."""

    codec: Codec
    completer: Completer
    admission: Admission
    neighbours: Neighbours
    cancellations: Cancellations
    controls: Controls
    progress: ProgressWriter
    clock: RedisClock


class Roles:
    """The roles of one consumer, which meet only in what it holds. *to_go* is called if an operator asks it to go."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        probe: Probe,
        processor: Callable[[Parts], Process],
        *,
        me: str,
        vitals: Vitals,
        to_go: Callable[[], object],
    ) -> None:
        self._connection, self._settings, self._probe, self._me, self._vitals = connection, settings, probe, me, vitals
        codec = Codec(settings.keys, Limits(settings.max_args_bytes, settings.max_reply_bytes, settings.max_nesting))
        registration_ttl_ms = settings.reap_after_ms + settings.lease_ms
        self.link = Link()
        self.store = StreamStore(
            connection,
            settings.keys,
            me=me,
            block_ms=min(_LONGEST_BLOCK_MS, settings.lease_ms // 10),
            registration_ttl_ms=registration_ttl_ms,
            reply_ttl_seconds=settings.reply_ttl_seconds,
            reply_maxlen=settings.reply_maxlen,
            wait_replicas=settings.wait_replicas,
        )
        self.inspector = Inspector(connection, settings.keys)
        self.keeper = Keeper(
            connection,
            settings.keys,
            me=me,
            clock=self.store.clock,
            ttl_ms=registration_ttl_ms,
            timeout=max(
                _SHORTEST_ANSWER_SECONDS, min(settings.lease_ms / 1000 / BEATS_PER_LEASE, _LONGEST_ANSWER_SECONDS)
            ),
        )
        self._cancelled = CancellationStore(connection, settings.keys)
        self._cancellations = Cancellations(self._cancelled)
        self.completer = Completer(self.store, codec, probe, concurrency=settings.concurrency)
        self.controls = Controls(probe, me=me, drain=to_go)
        self.admission = self._admission()
        self.progress = self._progress(codec.limits)
        neighbours = Neighbours(self.inspector, probe, me=me)
        self.inflight = InFlight(
            processor(
                Parts(
                    codec,
                    self.completer,
                    self.admission,
                    neighbours,
                    self._cancellations,
                    self.controls,
                    self.progress,
                    self.store.clock,
                )
            ),
            limit=settings.concurrency,
        )
        self.completer.inflight = self.inflight
        self.canceller = Canceller(self._cancellations, self.inflight, self.completer)
        self._take_in(neighbours)

    def _admission(self) -> Admission:
        s = self._settings
        limits = LimitStore(self._connection, s.keys, me=self._me, clock=self.store.clock, lease_ms=s.lease_ms)
        return Admission(limits, self._probe, concurrency=s.concurrency, patience=s.lease_ms / 2000)

    def _progress(self, limits: Limits) -> ProgressWriter:
        s = self._settings
        store = ProgressStore(
            self._connection,
            s.keys,
            me=self._me,
            reply_ttl_seconds=s.reply_ttl_seconds,
            reply_maxlen=s.reply_maxlen,
        )
        return ProgressWriter(store, self._probe, limits)

    def _take_in(self, neighbours: Neighbours) -> None:
        """Build what takes deliveries in."""
        s, probe = self._settings, self._probe
        isolation = Isolation(self.inflight, probe, lease_ms=s.lease_ms, max_attempts=s.max_attempts)
        intake = Intake(
            self.store,
            self.inflight,
            self._cancellations,
            isolation=isolation,
            link=self.link,
            probe=probe,
            max_attempts=s.max_attempts,
        )
        self.fetcher = Fetcher(self.store, intake, self._cancellations, self._vitals, probe)
        self.reclaimer = Reclaimer(
            self.store,
            self.inflight,
            intake,
            neighbours=neighbours,
            link=self.link,
            probe=probe,
            lease_ms=s.lease_ms,
            max_attempts=s.max_attempts,
        )
        self.reaper = Reaper(
            self.store, self.inspector, self.link, probe, silent_ms=s.reap_after_ms, lease_ms=s.lease_ms
        )

    def heartbeater(self, registration: Registration, tools: Mapping[str, ToolInfo]) -> Heartbeater:
        """Make what keeps our leases, once it is known what it registers."""
        return Heartbeater(
            self.keeper,
            self.inflight,
            self.link,
            self._vitals,
            self._probe,
            registration=registration,
            tools=tools,
            lease_ms=self._settings.lease_ms,
            cancel=self.canceller.cancel,
            controls=self.controls,
        )

    def listener(self, heartbeater: Heartbeater) -> Listener:
        """Make what listens; *heartbeater* looks at what operators ask for."""
        return Listener(
            Channels(self._connection),
            self._settings.keys,
            self._cancelled,
            self._cancellations,
            self._probe,
            cancel=self.canceller.cancel,
            look=heartbeater.hurry,
            sweep=self.inflight.sweep_sooner.set,
        )
