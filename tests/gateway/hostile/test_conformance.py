"""The description is true whatever is sent: each answer, also to what it does not allow, is one that it promises."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.gateway.gateways import running_gateway
from toolspan import tool
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from schemathesis import Case
    from schemathesis.checks import CheckContext
    from schemathesis.core.transport import Response
    from schemathesis.schemas import APIOperation

    from toolspan.settings import Settings
    from toolspan.testing import Recorder

EXAMPLES: Final = 10


@tool
async def anything(**args: Any) -> dict[str, Any]:
    """Give back whatever is given."""
    return args


# Schemathesis draws from `random` where it makes up what is wrong.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
async def test_every_answer_is_one_that_the_description_promises(
    settings: Settings, recorder: Recorder, mode: GenerationMode
) -> None:
    async with running_worker(anything, settings=settings), running_gateway(settings, recorder) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url) as http:
            detached = await http.post("/v1/tools/anything/calls", json={"detach": True})
        await asyncio.to_thread(_compare, gateway.url, mode, {"tool": "anything", "id": detached.json()["id"]})


def no_bug_of_ours(_: CheckContext, response: Response, __: Case[Any]) -> bool | None:
    """Whether it is none: that Redis is away, or a worker too slow, is an answer like any other."""
    assert response.status_code != 500, response.text
    return None


CHECKS: Final = [
    no_bug_of_ours,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.positive_data_acceptance,
    checks.unsupported_method,
]


def _compare(url: str, mode: GenerationMode, known: dict[str, str]) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        names = [parameter.name for parameter in operation.path_parameters]
        # Where nothing can be said, nothing can be said wrongly; a name alone is wrong, or it is known.
        if mode is GenerationMode.POSITIVE or names:
            _compare_one(operation, mode, {})
        if names and (mode is GenerationMode.POSITIVE or operation.body):
            _compare_one(operation, mode, {name: known[name] for name in names})


def _compare_one(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, known: dict[str, str]) -> None:
    cases = operation.as_strategy(generation_mode=mode, path_parameters=known or None)

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=cases)
    def conforms(case: Case[Any]) -> None:
        case.call_and_validate(checks=CHECKS, timeout=10)

    conforms()
