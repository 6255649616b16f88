"""The only package that talks to Redis; the rest of us speaks in the words of the glossary."""

from redis.asyncio import Redis

from toolspan.store.callers import CallerStore
from toolspan.store.channels import Channels
from toolspan.store.connection import Connection
from toolspan.store.control import ControlStore
from toolspan.store.dead_letters import DeadLetterStore
from toolspan.store.directory import Directory
from toolspan.store.entries import Body, EntryReader, Glance, Held
from toolspan.store.inspect import Inspector, Registered, WorkerInfo
from toolspan.store.stream import StreamStore

__all__ = [
    "Body",
    "CallerStore",
    "Channels",
    "Connection",
    "ControlStore",
    "DeadLetterStore",
    "Directory",
    "EntryReader",
    "Glance",
    "Held",
    "Inspector",
    "Redis",
    "Registered",
    "StreamStore",
    "WorkerInfo",
]
