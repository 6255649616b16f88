"""What looks like a secret is hidden, what does not stays; a redactor that fails leaks nothing."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolspan import redaction
from toolspan.errors import SettingsError
from toolspan.redaction import HIDDEN, UNREADABLE, Redactor, without_secrets

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzM2NyM3QifQ.s3cr3tsignature"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIs3cr3t\nAAAA\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        "password=s3cr3t",
        "PASSWORD = 's3cr3t with spaces'",
        "db_password: s3cr3t, more",
        '{"password": "s3cr3t \\" s3cr3t"}',
        "{'client_secret': 's3cr3t'}",
        '"{\\"api_key\\": \\"s3cr3t\\"}"',
        "https://host/?token=s3cr3t&a=b",
        "X-Api-Key: s3cr3t",
        "aws_secret_access_key=s3cr3t/s3cr3t+x",
        "AKIAS3CR3TAAAAAAAAAA of s3cr3t=1".replace(" of s3cr3t=1", ""),
        "redis://user:s3cr3t@host:6379/0",
        "postgres://u:s3cr3t@p@ss@host/db",
        "redis+sentinel://:s3cr3t@a:1,b:2/x/0?sentinel_password=s3cr3t",
        "Authorization: Bearer s3cr3tvalue",
        "Authorization: Basic czNjcjN0OnMzY3IzdA==s3cr3t",
        "{'Authorization': 'AWS4-HMAC-SHA256 Credential=s3cr3t/x, Signature=s3cr3t'}",
        "('authorization', 'Bearer s3cr3tvalue')",
        "sent bearer s3cr3tvalue to it",
        f"jwt {JWT} was refused",
        f"cannot load {KEY}",
        "cannot load -----BEGIN PRIVATE KEY-----\nMIIs3cr3t cut off here",
        "run --password s3cr3t --verbose",
        "gcloud --access-token=s3cr3t",
        "ghp_s3cr3ts3cr3ts3cr3ts3cr3ts3cr3t",
        "sk-live-s3cr3ts3cr3ts3cr3t",
        "b'password=s3cr3t'",
        'password="s3cr3t cut off',
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    hidden = without_secrets(text)

    assert "s3cr3t" not in hidden.lower()
    assert HIDDEN in hidden


@pytest.mark.parametrize(
    "text",
    [
        "it broke",
        "the password is wrong",
        "Unexpected token at line 3",
        "no route to https://example.org:8080/a?b=c",
        "user@example.org could not be reached at host:80",
        "an access-token is missing",
        '  File "/app/tools.py", line 3, in search',
        "KeyError: 'limit'",
    ],
)
def test_what_does_not_stays_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    ["a://b:" * 200_000, "token" * 200_000, "-----BEGIN PRIVATE KEY-----" * 40_000, "eyJ" + "a" * 1_000_000,
     "-a" * 500_000,
     "password='" * 100_000, 'password="\\' * 100_000, "Authorization: " * 80_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_no_text_makes_it_slow(text: str) -> None:
    began = time.perf_counter()
    without_secrets(text)

    assert time.perf_counter() - began < 2


def test_half_a_secret_at_the_end_of_a_long_text_is_cut_off_as_a_whole() -> None:
    text = "x " * 32_760 + "password=s3cr3t-that-is-longer-than-what-is-left"

    assert "s3cr3t" not in without_secrets(text)


def test_a_function_of_ones_own_hides_more() -> None:
    redactor = Redactor(lambda text: text.replace("Ada", "somebody"))

    assert redactor("Ada has password=x") == "somebody has password=***"
    assert redactor.within({"a": ["Ada", 1, None], "password": "x"}) == {"a": ["somebody", 1, None], "password": "***"}


def _raises(text: str) -> str:
    raise ValueError(text)


@pytest.mark.parametrize("bad", [_raises, lambda _: None, str.encode], ids=["raises", "nothing", "bytes"])
def test_one_that_fails_leaks_nothing_and_is_heard_of_once(bad: Any) -> None:
    heard: list[str] = []
    redactor = Redactor(bad)
    redactor.failed = heard.append

    assert [redactor("Ada"), redactor("Ada again")] == [UNREADABLE, UNREADABLE]
    assert len(heard) == 1
    assert "Ada" not in heard[0]


@pytest.mark.parametrize("path", ["no.such.module:f", "os:no_such", "os:sep"])
def test_one_that_cannot_be_used_is_a_setting_to_change(path: str) -> None:
    with pytest.raises(SettingsError, match="TOOLSPAN_REDACT"):
        Redactor.named(path)


def test_one_is_found_by_name() -> None:
    assert Redactor.named("textwrap:dedent")("  Ada") == "Ada"
    assert Redactor.named(None)("  Ada") == "  Ada"


@pytest.mark.parametrize(
    "pattern", [pattern for pattern, _ in redaction._PATTERNS], ids=lambda pattern: pattern.pattern[:30]
)
def test_nothing_that_would_be_hidden_is_passed_over(pattern: re.Pattern[str]) -> None:
    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(st.from_regex(pattern))
    def passed_over(text: str) -> None:
        if pattern.search(text) and text.isascii():
            assert redaction._TELLTALE.search(text.lower())

    passed_over()


def test_letters_that_only_match_small_ones_hide_nothing() -> None:
    assert without_secrets("pa\u017f\u017fword=s3cr3t") == f"pa\u017f\u017fword={HIDDEN}"
