"""Timings, as ratios of runs side by side on one machine; never part of the tests."""
