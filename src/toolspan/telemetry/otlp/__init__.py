"""Spans as OTLP, by our own hand: what the stock exporter writes, for a fraction of what it takes."""
