"""Writes random passwords and the ACL of the local stack's Redis, once; run by a container that then ends.

Each role has a user, a folder and in it what it needs: `.env` with its TOOLSPAN_REDIS_URL, and `password`. The server
has `users.acl`, with the passwords' hashes alone. What each role may do is what `toolspan acl` says.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from pathlib import Path
from typing import Final

from toolspan.store.permissions import ROLES, acl_file

PREFIX: Final = "sg"
# Health checks ask without a password; nobody can do anything else without one.
NOBODY: Final = "user default reset on nopass +ping +hello"
# Asks for INFO; the keys are none of its business.
COLLECTOR: Final = "user collector reset +ping +hello +info +client|setinfo +client|setname on #{digest}"


def main(folder: Path, redis: str) -> None:
    """Write what is missing below *folder*, for a server at *redis*: host and port."""
    acl = folder / "redis" / "users.acl"
    if acl.exists():
        return
    users = acl_file(PREFIX).replace("user default off", NOBODY)
    for role in ROLES:
        name = f"toolspan-{role}"
        users = users.replace(f"#sha256-of-the-password-of-{name}", f"#{_password(folder / role, name, redis)}")
    users += COLLECTOR.format(digest=_password(folder / "collector", "collector", redis)) + "\n"
    acl.parent.mkdir(parents=True, exist_ok=True)
    # Last, and in one step: a run that was cut short is done again from the start.
    draft = acl.with_suffix(".draft")
    draft.write_text(users)
    draft.rename(acl)


def _password(own: Path, user: str, redis: str) -> str:
    """Write a new password into the folder of its user; gives its hash."""
    password = secrets.token_urlsafe(24)
    own.mkdir(parents=True, exist_ok=True)
    (own / "password").write_text(password)
    (own / ".env").write_text(f"TOOLSPAN_REDIS_URL=redis://{user}:{password}@{redis}/0\n")
    return hashlib.sha256(password.encode()).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
