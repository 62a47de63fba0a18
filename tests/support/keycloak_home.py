"""The folder that a Keycloak of the tests calls its home: the cached distribution, only read, and data of its own.

Making the database and importing the realm takes Keycloak longer than all the rest of its start. So that is done once
on a machine, and the database that came of it is kept beside the distribution, to be copied.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["REALM_FILE", "copy_database", "lay_out"]

REALM_FILE: Final = Path(__file__).parents[2] / "deploy" / "keycloak" / "demo-realm.json"


def lay_out(home: Path, distribution: Path) -> None:
    """Make the folder, with the realm's file where Keycloak imports from."""
    (home / "data" / "import").mkdir(parents=True, exist_ok=True)
    shutil.copy(REALM_FILE, home / "data" / "import")
    for part in ("conf", "lib", "providers", "themes"):
        if not (home / part).exists():
            (home / part).symlink_to(distribution / part)


def copy_database(home: Path, distribution: Path, make: Callable[[], None]) -> None:
    """Put a database with the realm into a home that has none; `make` does so the slow way, the first time."""
    database = home / "data" / "h2"
    if database.exists():
        return
    kept = distribution.with_name(f"{distribution.name}-database-{_fingerprint()}")
    with _one_at_a_time(kept):
        if not kept.exists():
            make()
            half = kept.with_name(f"{kept.name}.{os.getpid()}")
            shutil.copytree(database, half)
            half.rename(kept)
            return
    shutil.copytree(kept, database)


def _fingerprint() -> str:
    return hashlib.sha256(REALM_FILE.read_bytes()).hexdigest()[:12]


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
