"""For your own tests: an embedded server, a running worker, recorded telemetry."""

from toolspan.testing.recorder import Recorder
from toolspan.testing.server import EmbeddedServer
from toolspan.testing.worker import running_worker

__all__ = ["EmbeddedServer", "Recorder", "running_worker"]
