"""One program for each: `work()` serves a no-op as its own command would, `calling()` gives who sends and calls it."""
