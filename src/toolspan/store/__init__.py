"""The only package that talks to Redis; the rest of us speaks in the words of the glossary."""

from redis.asyncio import Redis

from toolspan.store.callers import CallerStore
from toolspan.store.connection import Connection
from toolspan.store.dead_letters import DeadLetterStore
from toolspan.store.inspect import Inspector, WorkerInfo
from toolspan.store.stream import StreamStore

__all__ = ["CallerStore", "Connection", "DeadLetterStore", "Inspector", "Redis", "StreamStore", "WorkerInfo"]
