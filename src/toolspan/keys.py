"""The name of every Redis key and channel, under one prefix."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one stream of one plane. *prefix* may be a hash tag, so that all lie in one Cluster slot."""

    prefix: str = "sg"
    stream: str = "tools"

    @property
    def calls(self) -> str:
        """Stream of tool calls."""
        return f"{self.prefix}:stream:{self.stream}"

    @property
    def group(self) -> str:
        """The consumer group's name; not a key."""
        return f"{self.prefix}:{self.stream}"

    @property
    def reply_prefix(self) -> str:
        """What every reply stream's name starts with."""
        return f"{self.prefix}:reply:"

    def replies(self, gateway_id: str) -> str:
        """Stream of replies for one gateway process."""
        return f"{self.prefix}:reply:{gateway_id}"

    @property
    def dead_letters(self) -> str:
        """Stream of dead letters."""
        return f"{self.prefix}:dlq:{self.stream}"

    @property
    def workers(self) -> str:
        """Sorted set: consumer, by its last heartbeat in ms of Redis' clock."""
        return f"{self.prefix}:workers:{self.stream}"

    @property
    def worker_prefix(self) -> str:
        """What every registration's name starts with."""
        return f"{self.prefix}:worker:"

    def worker(self, consumer: str) -> str:
        """Hash: the registration of one worker."""
        return f"{self.prefix}:worker:{consumer}"

    @property
    def parked(self) -> str:
        """Sorted set: entry id of a parked call, by its due time in ms."""
        return f"{self.prefix}:parked:{self.stream}"

    @property
    def attempts(self) -> str:
        """Hash: entry id to its JSON list of attempts, `<entry id>:mark` to the token of an at-most-once start."""
        return f"{self.prefix}:attempts:{self.stream}"

    @property
    def events(self) -> str:
        """Stream of exceptional steps, capped; one may be of many entries, whose ids its `entry` is, between spaces."""
        return f"{self.prefix}:events:{self.stream}"

    def once(self, digest: str) -> str:
        """String with a TTL: an idempotency record. Its channel, on which the call's end is told, has the same name."""
        return f"{self.prefix}:once:{digest}"

    @property
    def cancel_prefix(self) -> str:
        """What is told of calls that were given up starts with, keys and channels alike."""
        return f"{self.prefix}:cancel:"

    def cancel(self, call_id: str) -> str:
        """String with a TTL, and a channel: the call was given up."""
        return f"{self.prefix}:cancel:{call_id}"

    def schema(self, digest: str) -> str:
        """String with a TTL: one tool's description."""
        return f"{self.prefix}:schema:{digest}"

    def slots(self, tool: str) -> str:
        """Sorted set: run of a call of a tool that has a limit for the whole fleet, by when its lease ends in ms."""
        return f"{self.prefix}:slots:{tool}"

    def rate(self, tool: str) -> str:
        """String with a TTL: token bucket of a tool that has a rate."""
        return f"{self.prefix}:rate:{tool}"

    @property
    def streams(self) -> str:
        """Set: the names of the plane's streams."""
        return f"{self.prefix}:streams"

    @property
    def audit(self) -> str:
        """Stream: what operators did, capped."""
        return f"{self.prefix}:audit:{self.stream}"

    @property
    def control(self) -> str:
        """Hash: what operators ask for, as `pause:<tool>` and `drain:<consumer>`; also the channel that tells of it."""
        return f"{self.prefix}:control:{self.stream}"

    @property
    def monitor(self) -> str:
        """String with a TTL: which process reports the group's gauges."""
        return f"{self.prefix}:monitor:{self.stream}"
