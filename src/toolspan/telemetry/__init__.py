"""The only package that knows OpenTelemetry and structlog; everybody else tells the probe what happened."""
