"""What the libraries inside tools find as OpenTelemetry's tracer provider, while workers of ours are open.

OpenTelemetry lets it be set once in a process, and whoever has asked for it keeps it; workers come and go. So it is
one that stays, and hands each span on to the worker in whose tool it starts.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from opentelemetry import trace

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer


class Ambient(trace.TracerProvider):
    """Stands for the providers that were lent to it and not taken back; without one, nothing is recorded."""

    def __init__(self) -> None:
        self._lent: list[trace.TracerProvider] = []
        self._nothing = trace.NoOpTracerProvider()
        self._lock = threading.Lock()

    def lend(self, provider: trace.TracerProvider) -> None:
        """Let what is inside tools record to *provider*; where the program has set up its own, that stays."""
        with self._lock:
            self._lent = [*self._lent, provider]
            if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
                trace.set_tracer_provider(self)

    def take_back(self, provider: trace.TracerProvider) -> None:
        """Record to *provider* no more."""
        with self._lock:
            self._lent = [other for other in self._lent if other is not provider]

    def get_tracer(self, *scope: Any, **more: Any) -> Tracer:
        """Give a tracer that decides for each span where it goes."""
        return _Tracer(self, scope, more)

    def provider(self, context: Context | None) -> trace.TracerProvider:
        """Give the provider of the span that is current in *context*, or the one that was lent last."""
        lent = self._lent
        if len(lent) > 1:
            above = getattr(trace.get_current_span(context), "resource", None)
            for provider in lent:
                if above is not None and getattr(provider, "resource", None) is above:
                    return provider
        return lent[-1] if lent else self._nothing


class _Tracer(trace.NoOpTracer):
    """Starts each span where it belongs. `start_as_current_span` is inherited, and starts its span by this as well."""

    def __init__(self, ambient: Ambient, scope: tuple[Any, ...], more: dict[str, Any]) -> None:
        self._ambient = ambient
        self._scope = scope
        self._more = more
        self._tracers: WeakKeyDictionary[trace.TracerProvider, Tracer] = WeakKeyDictionary()

    def start_span(self, name: str, context: Context | None = None, *args: Any, **kwargs: Any) -> Span:
        """Start a span with the provider that the context calls for."""
        provider = self._ambient.provider(context)
        tracer = self._tracers.get(provider)
        if tracer is None:
            tracer = self._tracers[provider] = provider.get_tracer(*self._scope, **self._more)
        return tracer.start_span(name, context, *args, **kwargs)


AMBIENT = Ambient()
"""That of this process."""
