"""What the user that we are may do, for each of our roles."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from toolspan.errors import StoreError, StoreUnavailableError
from toolspan.operate.doctor.findings import Finding, Level, ok, unknown
from toolspan.store.permissions import ROLES
from toolspan.store.rehearsal import channels, rehearsal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.keys import Keys
    from toolspan.store.server import ServerReader

_COMMAND: Final = re.compile(r"run the '([a-z|]+)' command")
_PLACE: Final = re.compile(r"access .*\b(key|channel)s?\b")
_NAMED: Final = 5


async def permissions(reader: ServerReader, keys: Keys, roles: Sequence[str]) -> list[Finding]:
    """Ask for each of *roles*, or for all, whether our user may do what it does; nothing of it is done.

    A user that is meant for one role need not be allowed what others do: that is a problem only for roles that were
    asked about, or where there is no role that it could play.
    """
    try:
        user = await reader.user()
        refusals = {role: await reader.refused(user, rehearsal(role, keys.prefix)) for role in roles or ROLES}
    except StoreUnavailableError:
        raise
    except StoreError as exc:
        message = f"this user may not ask what it may do: {exc}"
        return [
            unknown("permissions", message, "run this as a user who may: ACL SETUSER <user> +acl|dryrun +acl|whoami")
        ]
    useless = bool(roles) or all(refusals.values())
    return [_finding(user, role, refused, keys, useless=useless) for role, refused in refusals.items()]


def _finding(user: str, role: str, refused: Sequence[str], keys: Keys, *, useless: bool) -> Finding:
    check = f"permissions of the {role}"
    if not refused:
        return ok(check, f"the user {user} may do all that the {role} does")
    named = sorted({found[1] for one in refused if (found := _COMMAND.search(one))})
    places = {found[1] for one in refused if (found := _PLACE.search(one))}
    about = [", ".join(named[:_NAMED]) + (" …" if named[_NAMED:] else "")] if named else []
    about += [f"{kind}s of ours" for kind in sorted(places, reverse=True)]
    level: Level = "problem" if useless else "warn"
    grants = [f"+{name}" for name in named]
    grants += [f"~{keys.prefix}:*"] if "key" in places else []
    grants += [f"&{name}" for name in channels(role, keys.prefix)] if "channel" in places else []
    fix = f"ACL SETUSER {user} {' '.join(grants)}"
    message = f"the user {user} may not do all that the {role} does; refused: {'; '.join(about)}"
    return Finding(check, level, message, fix)
