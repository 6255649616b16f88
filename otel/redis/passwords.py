"""Writes random passwords and the ACL of the local stack's Redis, once; run by a container that then ends.

Each role has a user, a folder and in it what it needs: `.env` with its TOOLSPAN_REDIS_URL, and `password`. The server
has `users.acl`, with the passwords' hashes alone.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from pathlib import Path
from typing import Final

# Everything on our keys but what only an administrator needs; scripts, and what says how the group is.
_ROLE: Final = "~sg:* -@all +@read +@write +@connection +@scripting +@transaction -@dangerous +info +time"
ROLES: Final = {
    "worker": _ROLE,
    "gateway": _ROLE,
    "monitor": _ROLE,
    "operator": _ROLE,
    # It reads INFO; the keys are none of its business.
    "collector": "-@all +info +ping +hello +client|setname +client|setinfo +cluster|info +command",
}
# Health checks ask without a password; nobody can do anything else without one.
NOBODY: Final = "user default on nopass resetkeys resetchannels -@all +ping +hello\n"


def main(folder: Path, redis: str) -> None:
    """Write what is missing below *folder*, for a server at *redis*: host and port."""
    acl = folder / "redis" / "users.acl"
    if acl.exists():
        return
    users = [NOBODY]
    for role, rights in ROLES.items():
        password = secrets.token_urlsafe(24)
        digest = hashlib.sha256(password.encode()).hexdigest()
        users.append(f"user {role} on #{digest} resetkeys resetchannels {rights}\n")
        own = folder / role
        own.mkdir(parents=True, exist_ok=True)
        (own / "password").write_text(password)
        (own / ".env").write_text(f"TOOLSPAN_REDIS_URL=redis://{role}:{password}@{redis}/0\n")
    acl.parent.mkdir(parents=True, exist_ok=True)
    # Last, and in one step: a run that was cut short is done again from the start.
    draft = acl.with_suffix(".draft")
    draft.write_text("".join(users))
    draft.rename(acl)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
