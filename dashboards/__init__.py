"""Dashboards, alerts and objectives as code; `make dashboards` writes what Grafana and Prometheus read."""
