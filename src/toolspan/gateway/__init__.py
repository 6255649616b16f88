"""The callers' side: a client, and an HTTP front door on top of it."""
