"""Key names: PROTOCOL §1, letter by letter."""

from __future__ import annotations

import pytest

from toolspan.keys import Keys

NAMES = {
    "calls": "{p}:stream:{s}",
    "group": "{p}:{s}",
    "reply_prefix": "{p}:reply:",
    "dead_letters": "{p}:dlq:{s}",
    "workers": "{p}:workers:{s}",
    "worker_prefix": "{p}:worker:",
    "parked": "{p}:parked:{s}",
    "attempts": "{p}:attempts:{s}",
    "events": "{p}:events:{s}",
    "streams": "{p}:streams",
    "audit": "{p}:audit:{s}",
    "control": "{p}:control:{s}",
    "monitor": "{p}:monitor:{s}",
    "cancel_prefix": "{p}:cancel:",
}
OF_ONE_THING = {
    "replies": "{p}:reply:x",
    "worker": "{p}:worker:x",
    "schema": "{p}:schema:x",
    "once": "{p}:once:x",
    "cancel": "{p}:cancel:x",
    "slots": "{p}:slots:x",
    "rate": "{p}:rate:x",
}
PLANES = [("sg", "tools"), ("{sg}", "tools"), ("sg", "batch.2")]


@pytest.mark.parametrize(("prefix", "stream"), PLANES)
@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_named_as_the_protocol_says(name: str, prefix: str, stream: str) -> None:
    assert getattr(Keys(prefix, stream), name) == NAMES[name].replace("{p}", prefix).replace("{s}", stream)


@pytest.mark.parametrize(("prefix", "stream"), PLANES)
@pytest.mark.parametrize("name", OF_ONE_THING)
def test_a_key_of_one_thing_ends_with_its_name(name: str, prefix: str, stream: str) -> None:
    assert getattr(Keys(prefix, stream), name)("x") == OF_ONE_THING[name].replace("{p}", prefix)


def test_the_default_names_are_those_of_existing_producers() -> None:
    assert Keys().calls == "sg:stream:tools"
    assert Keys().group == "sg:tools"


def test_every_key_is_in_these_tables() -> None:
    names = {name for name in vars(Keys) if not name.startswith("_")} - {"prefix", "stream"}

    assert names == NAMES.keys() | OF_ONE_THING.keys()


def test_a_hash_tag_puts_all_keys_into_one_slot() -> None:
    keys = Keys("{sg}", "tools")
    names = [getattr(keys, name) for name in NAMES] + [getattr(keys, name)("a{b}c") for name in OF_ONE_THING]

    # https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags: the first one counts.
    assert {name[name.index("{") + 1 : name.index("}")] for name in names} == {"sg"}
