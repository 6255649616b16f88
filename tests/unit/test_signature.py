"""Signatures: schemas, what is accepted, and what cannot be a tool."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from toolspan import ToolDefinitionError
from toolspan.tools.signature import InvalidArgumentsError, Signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal


class Colour(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    y: int = 0


@dataclasses.dataclass
class Span:
    first: int
    last: int


def of(function: Callable[..., Any]) -> Signature:
    return Signature("f", function)


def refused(function: Callable[..., Any], args: dict[str, Any]) -> list[dict[str, Any]]:
    with pytest.raises(InvalidArgumentsError) as raised:
        of(function).validate(args)
    return raised.value.errors


def test_the_schema_says_types_defaults_and_what_is_required() -> None:
    def f(query: str, limit: int = 10, *, colour: Colour = Colour.RED, tags: list[str] | None = None) -> None: ...

    schema = of(f).schema

    assert schema.pop("$defs")["Colour"]["enum"] == ["red"]
    assert schema == {
        "type": "object",
        "properties": {
            "query": {"title": "Query", "type": "string"},
            "limit": {"title": "Limit", "type": "integer", "default": 10},
            "colour": {"$ref": "#/$defs/Colour", "default": "red"},
            "tags": {
                "title": "Tags",
                "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                "default": None,
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_a_function_that_takes_nothing_has_a_schema_too() -> None:
    def f() -> None: ...

    assert of(f).schema == {"type": "object", "properties": {}, "additionalProperties": False}
    assert of(f).validate({}) == {}


def test_what_annotations_say_of_a_parameter_is_in_the_schema_and_is_checked() -> None:
    def f(count: Annotated[int, Field(ge=1, description="How many")]) -> None: ...

    assert of(f).schema["properties"]["count"] == {
        "title": "Count",
        "type": "integer",
        "minimum": 1,
        "description": "How many",
    }
    assert refused(f, {"count": 0})[0]["loc"] == ["count"]


def test_a_default_that_json_cannot_say_is_left_out_of_the_schema() -> None:
    def f(when: Any = object()) -> None: ...  # noqa: B008

    assert "default" not in of(f).schema["properties"]["when"]
    # The function's own default holds.
    assert of(f).validate({}) == {}


def test_a_parameter_may_have_another_name_for_callers() -> None:
    def f(kind: Annotated[int, Field(alias="class")] = 3) -> None: ...

    assert of(f).schema["properties"]["class"]["default"] == 3
    assert of(f).validate({"class": 4}) == {"kind": 4}


@pytest.mark.parametrize(
    ("hint", "given", "taken"),
    [
        (int, "5", 5),
        (int, 5.0, 5),
        (float, 5, 5.0),
        (bool, "yes", True),
        (Colour, "red", Colour.RED),
        (Literal["a", "b"], "a", "a"),
        (dt.datetime, "2026-01-02T03:04:05Z", dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        (uuid.UUID, "00000000-0000-7000-8000-000000000000", uuid.UUID("00000000-0000-7000-8000-000000000000")),
        (Point, {"x": "1"}, Point(x=1)),
        (Span, {"first": 1, "last": 2}, Span(1, 2)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 1], {1}),
        (dict[str, int], {"a": "1"}, {"a": 1}),
        (bytes, "text", b"text"),
        (Any, {"any": [1, None]}, {"any": [1, None]}),
    ],
)
def test_what_came_as_json_is_given_to_the_tool_as_it_asked_for(hint: Any, given: Any, taken: Any) -> None:
    def f(value: Any) -> None: ...

    f.__annotations__["value"] = hint

    assert of(f).validate({"value": given}) == {"value": taken}


def test_a_parameter_without_a_type_takes_anything() -> None:
    def f(value, other=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        ...

    assert of(f).validate({"value": [1]}) == {"value": [1]}


@pytest.mark.parametrize(
    ("args", "where", "why"),
    [
        ({}, ["text"], "missing"),
        ({"text": None}, ["text"], "string_type"),
        ({"text": 5}, ["text"], "string_type"),
        ({"text": "a", "count": "many"}, ["count"], "int_parsing"),
        ({"text": "a", "point": {"y": 1}}, ["point", "x"], "missing"),
        ({"text": "a", "more": 1}, ["more"], "extra_forbidden"),
        ({"text": "a", "": 1}, [""], "extra_forbidden"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_where_and_why(
    args: dict[str, Any], where: list[str], why: str
) -> None:
    def f(text: str, count: int = 1, point: Point | None = None) -> None: ...

    errors = refused(f, args)

    assert [(error["loc"], error["type"]) for error in errors] == [(where, why)]
    assert errors[0]["msg"]


def test_a_refusal_tells_no_values() -> None:
    def f(token: int, colour: Literal["red"] = "red") -> None: ...

    with pytest.raises(InvalidArgumentsError) as raised:
        of(f).validate({"token": "secret-token", "colour": "secret-colour", "secretive": 1})

    assert "secret-" not in str(raised.value)
    assert "secret-" not in str(raised.value.errors)
    assert str(raised.value).startswith("f does not take these arguments: token: ")


def test_a_refusal_is_never_endless() -> None:
    def f(numbers: list[int]) -> None: ...

    assert len(refused(f, {"numbers": ["x"] * 10_000})) == 20


def test_any_other_argument_is_taken_where_the_function_takes_it() -> None:
    def f(text: str, **more: Any) -> None: ...

    assert of(f).validate({"text": "a", "more": 1, "x": [2]}) == {"text": "a", "more": 1, "x": [2]}
    assert of(f).schema["additionalProperties"] is True


def test_a_parameter_with_a_default_is_not_given_when_the_caller_did_not() -> None:
    def f(text: str, limit: int = 10) -> None: ...

    assert of(f).validate({"text": "a"}) == {"text": "a"}


def _positional(a: int, /) -> None: ...


def _variadic(*a: int) -> None: ...


def _unknown_type(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def _known_to_type_checkers_only(a: Decimal) -> None: ...


def _not_a_type(a: int.nothing) -> None: ...  # type: ignore[name-defined]


def _without_a_schema(a: object) -> None: ...


_without_a_schema.__annotations__["a"] = type("Opaque", (), {})


def _callable_argument(a: Callable[[int], int]) -> None: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (_positional, "f takes a by position; tools get their arguments by name"),
        (_variadic, "f takes a by position"),
        (_unknown_type, "a type in the signature of f is not known: name 'Nowhere' is not defined"),
        (_known_to_type_checkers_only, "a type in the signature of f is not known: name 'Decimal' is not defined"),
        (_not_a_type, "a type in the signature of f is not known"),
        (_without_a_schema, "the signature of f cannot be checked"),
        (_callable_argument, "a type in the signature of f is not known: name 'Callable'"),
        (max, "the signature of f is not known"),
    ],
)
def test_a_signature_that_cannot_be_checked_is_refused_with_the_reason(
    function: Callable[..., Any], problem: str
) -> None:
    with pytest.raises(ToolDefinitionError, match=problem):
        of(function)
