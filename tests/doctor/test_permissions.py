"""What a user may do: judged by the server itself, for each role."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import pytest

from toolspan.keys import Keys
from toolspan.store.permissions import ROLES, commands
from toolspan.store.scripts import compose

if TYPE_CHECKING:
    from tests.doctor.patient import Patient
    from toolspan.store.permissions import Role

_SCRIPTS: Final[dict[Role, set[str]]] = {
    "gateway": {"append", "append_if"},
    "worker": {
        *("claim", "claim_due", "keep", "park", "quarantine", "reap", "recover", "restore", "settle", "start", "tidy"),
    },
    "monitor": {"elect", "resign", "snapshot", "purge"},
    "operator": {
        *("discard", "drain", "find", "hasten", "letters", "pause", "purge", "replay", "resume", "snapshot", "append"),
    },
}


def _granted(role: Role, keys: Keys) -> list[str]:
    return sorted({f"+{command[0].lower()}" for command in commands(role, keys)})


def test_every_script_is_of_some_role() -> None:
    there = {script.name.removesuffix(".lua") for script in (files("toolspan.store") / "lua").iterdir()} - {"lib"}

    assert there == set().union(*_SCRIPTS.values())


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_does_in_its_scripts_is_asked_about(role: Role) -> None:
    asked = {command[0] for command in commands(role, Keys())} | {"TIME"}
    done = set()
    for script in _SCRIPTS[role]:
        done |= set(re.findall(r"redis\.p?call\('([A-Z]+)'", compose(script)))

    assert done <= asked, done - asked


@pytest.mark.parametrize("role", ROLES)
async def test_a_user_with_all_that_a_role_does_can_play_it(patient: Patient, role: Role) -> None:
    keys = patient.keys
    may = ("+acl|whoami", "+acl|dryrun", "+info", "+config|get")
    rules = (f"~{keys.prefix}:*", f"&{keys.prefix}:*", *_granted(role, keys), *may)
    found = await patient.findings(await patient.user(f"a-{role}", *rules), roles=[role])

    assert found[f"permissions of the {role}"].level == "ok"
    assert [check for check in found if check.startswith("permissions")] == [f"permissions of the {role}"]


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

    grants = " ".join(f"{sign}{patient.keys.prefix}:*" for sign in missing.split())
    assert (found.level, found.fix) == ("problem", f"ACL SETUSER shut +xack {grants}")
    assert mended.level == "ok"


async def test_a_user_that_can_play_no_role_is_a_problem(patient: Patient) -> None:
    found = await patient.findings(await patient.user("useless", "+@all"))

    assert {one.level for check, one in found.items() if check.startswith("permissions")} == {"problem"}
