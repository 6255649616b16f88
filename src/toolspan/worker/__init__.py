"""The worker: a role per file. Read `processor.py` first, then `engine.py`."""
