"""What a user may do: judged by the server itself, for each role."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan.store import Connection
from toolspan.store.permissions import ROLES, users
from toolspan.store.rehearsal import rehearsal
from toolspan.store.server import ServerReader

if TYPE_CHECKING:
    from tests.doctor.patient import Patient


def _rules(patient: Patient, role: str) -> list[str]:
    # The first one would make it a user without a password.
    return next(user.rules[1:] for user in users(patient.keys.prefix) if user.role == role)


@pytest.mark.parametrize("role", ROLES)
async def test_a_user_with_the_rules_of_a_role_can_play_it(patient: Patient, role: str) -> None:
    may_ask = ("+acl|whoami", "+acl|dryrun")
    found = await patient.findings(await patient.user("it", *_rules(patient, role), *may_ask), roles=[role])

    assert found[f"permissions of the {role}"].level == "ok"
    assert [check for check in found if check.startswith("permissions")] == [f"permissions of the {role}"]


@pytest.mark.parametrize("role", ROLES)
async def test_no_rule_of_a_role_can_be_missing_without_being_noticed(patient: Patient, role: str) -> None:
    rules = _rules(patient, role)
    connection = Connection.to(patient.settings.redis_url)
    reader = ServerReader(connection, patient.keys)
    unnoticed = []
    for missing in rules:
        await patient.user("it", "reset", *(rule for rule in rules if rule != missing))
        if not await reader.refused("it", rehearsal(role, patient.keys.prefix)):
            unnoticed.append(missing)
    await connection.aclose()

    assert unnoticed == []


async def test_a_role_that_a_user_cannot_play_is_told_with_what_it_lacks(patient: Patient) -> None:
    settings = await patient.user("small", "~*", "&*", "+@all", "-xreadgroup", "-xclaim")
    one, all_ = await patient.findings(settings, roles=["worker"]), await patient.findings(settings)
    found = one["permissions of the worker"]

    assert found.level == "problem"
    assert found.message == "the user small may not do all that the worker does; refused: xclaim, xreadgroup"
    assert found.fix == "ACL SETUSER small +xclaim +xreadgroup"
    assert all_["permissions of the worker"].level == "warn"
    assert all_["permissions of the gateway"].level == "ok"


@pytest.mark.parametrize(
    ("rules", "missing"), [(("~other:*", "&*"), "~"), (("~*", "resetchannels"), "&"), (("+@all",), "~ &")]
)
async def test_what_is_said_to_be_changed_is_what_was_missing(
    patient: Patient, rules: tuple[str, ...], missing: str
) -> None:
    settings = await patient.user("shut", "resetchannels", *rules, "+@all", "-xack")
    found = (await patient.findings(settings, roles=["worker"]))["permissions of the worker"]
    await patient.call(*found.fix.split())
    mended = (await patient.findings(settings, roles=["worker"]))["permissions of the worker"]

    prefix = patient.keys.prefix
    channels = " ".join(f"&{prefix}:{kind}:*" for kind in ("once", "workers", "cancel", "control"))
    grants = {"~": f"~{prefix}:*", "&": channels}
    assert (found.level, found.fix) == (
        "problem",
        f"ACL SETUSER shut +xack {' '.join(map(grants.__getitem__, missing.split()))}",
    )
    assert mended.level == "ok"


async def test_a_user_that_can_play_no_role_is_a_problem(patient: Patient) -> None:
    found = await patient.findings(await patient.user("useless", "+@all"))

    assert {one.level for check, one in found.items() if check.startswith("permissions")} == {"problem"}
