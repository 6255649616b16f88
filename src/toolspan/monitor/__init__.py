"""Measures the group for everybody."""
