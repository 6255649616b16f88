"""Timings, as ratios of runs that take turns on one machine; never part of the tests."""
