"""What the names of the protocol mean, where the code has only the names."""

INTRO = """\
What lies in Redis, for producers and tools in any language. Version {version}. Redis 7.0 or later, Valkey 8 or
later."""

ON_KEYS = """\
`<p>` is `TOOLSPAN_PREFIX`; a hash tag such as `{sg}` puts a whole plane into one slot of a cluster. `<s>` is
`TOOLSPAN_STREAM`. Each stream of a plane has workers of its own; a call goes to the stream whose live workers serve
its tool."""

ON_CALLS = """\
An entry of the call stream. Whatever is not in this table is ignored, and kept if the call becomes a dead letter.
An entry that breaks it is *malformed*: it becomes a dead letter at once, and its caller is told if `reply_to` can
be read."""

CALL = {
    "v": "Version of the protocol",
    "id": "Call id, unique for life; UUIDv7 from our clients",
    "tool": "1 to 128 of `A-Za-z0-9_.-`, beginning with a letter or digit",
    "args": "A JSON object, UTF-8",
    "reply_to": "Key of the reply stream, `<p>:reply:…`; absent: nobody waits",
    "deadline": "Unix milliseconds by *Redis' clock* after which nobody waits",
    "idem": "Idempotency key",
    "tool_call_id": "The model's own id for this call",
    "principal": "Who asked, as the gateway knows it",
    "attempt_of": "Call that this one repeats",
    "replay_of": "Dead letter that this one repeats",
    "traceparent": "W3C trace context of the producer's span; what cannot be read is ignored",
    "tracestate": "The same",
    "baggage": "W3C baggage",
    "meta.*": "Opaque to us",
}

PAYLOAD = """\
Older producers write one field `payload` instead: a JSON object with the same names, in which `args` and `meta` are
objects and numbers are numbers. There `v` absent means 1 and `id` absent means the entry id. Trace fields may stand
beside `payload`, and win."""

ON_REPLIES = """\
An entry of the caller's reply stream. A call gets exactly one final reply. Progress may come before it, in the
order of `attempt` and `seq`, and never after it."""

REPLY = {
    "v": "Version of the protocol",
    "id": "Call id; empty if the call was malformed and had none",
    "entry": "Entry id",
    "status": "`ok`, `error` or `progress`",
    "result": "JSON: what the tool returned, or told as its progress",
    "error": "Where `status` is `error`: JSON object of `type`, `message`, `retryable`, `detail`",
    "attempt": "Number of attempts made",
    "consumer": "Which worker answered",
    "timings": "JSON object, see below; final replies only",
    "seq": "Progress only: counts from 1 in each attempt",
    "traceparent": "The span that produced the reply",
}

ERRORS = {
    "tool_error": "The tool raised; its message, redacted, never its stack",
    "invalid_arguments": "The arguments do not fit the tool's signature",
    "unknown_tool": "No live worker serves a tool of this name",
    "timeout": "The tool's own limit was over",
    "deadline_exceeded": "The caller's was; a run that still goes on is cancelled",
    "cancelled": "Somebody gave the call up; `detail.started` says whether it had begun",
    "quarantined": "Its workers were lost, again and again",
    "malformed": "The entry cannot be decoded",
    "outcome_unknown": "It runs at most once, was begun, and its worker was lost",
    "reply_too_large": "The result is over `TOOLSPAN_MAX_REPLY_BYTES`",
    "worker_error": "A fault of ours",
}

PHASES = {
    "queue": "Append, or when a later attempt could have run, to the read or claim; by Redis' clock",
    "admission": "From there to the tool's first instruction",
    "execute": "To the outcome",
    "settle": "To the moment at which the script that writes it is sent",
}

ON_DEAD_LETTERS = """\
An entry of the dead letters: all fields of the original, byte for byte, and these. An entry with very many fields,
or with `dlq.*` fields of its own, is kept whole in `dlq.raw` instead."""

ADDED_BY_THE_SCRIPT = ("dlq.attempts", "dlq.first_delivered", "dlq.at", "dlq.raw")

DEAD_LETTER = {
    "dlq.id": "Entry id of the original",
    "dlq.reason": "Why it lies here, see below",
    "dlq.error_type": "As in a reply",
    "dlq.error_message": "Redacted",
    "dlq.consumer": "Who quarantined it",
    "dlq.fingerprint": "Hash of tool, reason, error type, and message without numbers and ids: one for each cause",
    "dlq.stack": "Redacted, and cut",
    "dlq.traceparent": "The last span of the call",
    "dlq.reply": "A reply that could not be written",
    "dlq.attempts": "JSON list of `consumer`, `attempt`, `start`, `end`, `error`; oldest first",
    "dlq.first_delivered": "Unix ms",
    "dlq.at": "Unix ms",
    "dlq.raw": "The original, packed by cmsgpack",
}

REASONS = {
    "malformed": "Cannot be decoded. It cannot be replayed",
    "worker_lost": "Its attempts are used up, and the last one ended without an outcome",
    "max_attempts": "Its attempts are used up by errors of ours, or of a program's own `process_fn`",
    "outcome_unknown": "It runs at most once, was begun, and was lost. Replayed with `--did-not-run` only",
    "reply_failed": "It ran, and the reply stream cannot be written. Replayed with `--run-again` only",
    "tool_failed": "Nobody waited for it, and it failed",
}

ON_STEPS = """\
Whatever has to hold together is one Lua script, all or nothing; it refuses an entry whose owner or attempt is not
the one that it was told. Reading is one `XREADGROUP`. Each script's header is its signature:
`src/toolspan/store/lua/`."""
