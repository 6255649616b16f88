"""Signals, the panels that draw them, the boards that arrange panels; and the rules of the same queries."""
