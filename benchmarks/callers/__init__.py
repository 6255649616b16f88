"""Programs that call at a steady rate: `python -m benchmarks.callers.NAME RATE SECONDS`."""
