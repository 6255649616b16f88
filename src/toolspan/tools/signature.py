"""A function's signature as a schema: arguments checked and coerced by pydantic before the tool sees them."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NotRequired, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError, with_config
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import from_json
from typing_extensions import TypedDict

from toolspan.codec import NotJsonError, dumps
from toolspan.errors import ToolDefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable

_ERRORS_TOLD: Final = 20
_LONGEST_NAME: Final = 128


class InvalidArgumentsError(Exception):
    """The arguments do not fit; *errors* say where and why, without the values themselves."""

    def __init__(self, message: str, errors: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.errors = errors


class Signature:
    """What a tool's function takes."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        fields, extra = _fields(name, function)
        config = ConfigDict(extra="allow" if extra else "forbid", arbitrary_types_allowed=False)
        # What it makes exists at run time only: no type checker can follow.
        typed_dict: Any = TypedDict
        try:
            arguments = with_config(config)(typed_dict("Arguments", {n: hint for n, (hint, _) in fields.items()}))
            adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(arguments)
            self.schema = _schema(adapter, fields)
        except (PydanticUserError, PydanticSchemaGenerationError, TypeError) as exc:
            message = f"the signature of {name} cannot be checked: {exc}"
            raise ToolDefinitionError(message) from exc
        self._validate = adapter.validator.validate_python

    def validate(self, args: dict[str, Any]) -> dict[str, Any]:
        """Give the keyword arguments for a call with *args*.

        Raises:
            InvalidArgumentsError: if they do not fit.
        """
        try:
            return self._validate(args)  # type: ignore[no-any-return]
        except ValidationError as exc:
            errors = exc.errors(include_url=False, include_context=False, include_input=False)[:_ERRORS_TOLD]
            told = [{"loc": [_short(part) for part in e["loc"]], "type": e["type"], "msg": e["msg"]} for e in errors]
            where = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in told)
            message = f"{self._name} does not take these arguments: {where}"
            raise InvalidArgumentsError(message, told) from None


def _short(part: int | str) -> int | str:
    """Cut a name that the caller chose: an error reply has its limits, too."""
    return part[:_LONGEST_NAME] if isinstance(part, str) else part


def _fields(name: str, function: Callable[..., Any]) -> tuple[dict[str, tuple[Any, Any]], bool]:
    """Give each parameter's type and default, and whether any other is taken too."""
    try:
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters.values()
    except ValueError as exc:
        message = f"the signature of {name} is not known: {exc}"
        raise ToolDefinitionError(message) from None
    except (NameError, AttributeError, TypeError, SyntaxError) as exc:
        message = f"a type in the signature of {name} is not known: {exc}"
        raise ToolDefinitionError(message) from None
    fields: dict[str, tuple[Any, Any]] = {}
    extra = False
    for parameter in parameters:
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL}:
            message = f"{name} takes {parameter.name} by position; tools get their arguments by name"
            raise ToolDefinitionError(message)
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = True
            continue
        hint = hints.get(parameter.name, Any)
        if parameter.default is not parameter.empty:
            hint = NotRequired[hint]
        fields[parameter.name] = (hint, parameter.default)
    return fields, extra


def _schema(adapter: TypeAdapter[dict[str, Any]], fields: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Give the JSON schema, with the function's own defaults where JSON can say them."""
    schema = adapter.json_schema()
    schema.pop("title", None)
    schema.setdefault("type", "object")
    # In the same order, but under the names that callers use: an alias, where there is one.
    for (_, default), described in zip(fields.values(), schema["properties"].values(), strict=True):
        if default is not inspect.Parameter.empty:
            with suppress(NotJsonError):
                described.setdefault("default", from_json(dumps(default)))
    return schema
