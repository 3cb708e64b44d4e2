"""One file that holds what the embedded platform cannot make again: the databases that are SQLite, the key that everything is signed
with, and the uploads of jobs. Redis and JetStream are not in it: they are rebuilt from the database.

Nobody waits for it: a SQLite database is copied as of one moment by its own online backup, while others read and write.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tarfile
import tempfile
from pathlib import Path

from django.conf import settings

from apps.core.errors import PlatformError
from jobplatform import env

SECRET, UPLOADS = "secret.key", "job-files"
TOOLS = {
    "postgresql": "pg_dump --format=custom --file=FILE \"$DATABASE_URL\"",
    "django_mongodb_backend": "mongodump --uri=\"mongodb://…/?replicaSet=rs0\" --oplog --archive=FILE --gzip",
}  # fmt: skip
"""How to back up what is no file of ours, by the end of Django's name of the engine."""


class CannotBackUp(PlatformError):
    code, sentence = "cannot_back_up", "There is nothing here that this command can back up."


def write(file: Path) -> list[str]:
    """Make `file`, a tar archive that only its owner may read, whole or not at all; the names of what is in it. Raises CannotBackUp
    (no database is SQLite) and OSError."""
    found = {alias: Path(config["NAME"]) for alias, config in settings.DATABASES.items() if config["ENGINE"].endswith("sqlite3")}
    if not found:
        raise CannotBackUp()
    if file.exists():
        raise FileExistsError(errno.EEXIST, "the file exists; an older backup is never written over")
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        place = Path(folder)
        # Uploads twice: what is there before the database is copied, and what came until it was. A job it knows finds its own.
        _copy_uploads(place / UPLOADS)
        for path in found.values():
            copy(path, place / path.name)
        _copy_uploads(place / UPLOADS)
        key = env.data_dir() / SECRET
        if key.exists() and not env.text("SECRET_KEY"):
            shutil.copy2(key, place / SECRET)
        names = sorted(each.name for each in place.iterdir())
        packed = place / "packed.tar"
        descriptor = os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            with tarfile.open(fileobj=handle, mode="w") as archive:
                for name in names:
                    archive.add(place / name, arcname=name)
            handle.flush()
            os.fsync(handle.fileno())
        packed.rename(file)
    return names


def elsewhere() -> dict[str, str]:
    """How to back up each database that is not in the file, by alias."""
    engines = {alias: config["ENGINE"] for alias, config in settings.DATABASES.items() if not config["ENGINE"].endswith("sqlite3")}
    return {alias: next((tool for end, tool in TOOLS.items() if engine.endswith(end)), engine) for alias, engine in engines.items()}


def copy(source: Path, target: Path) -> None:
    """The database as of one moment, checked. Writers go on beside it."""
    origin, copied = sqlite3.connect(source, timeout=60), sqlite3.connect(target)
    try:
        origin.backup(copied)
        (verdict,) = copied.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise CannotBackUp(f"The copy of {source.name} is damaged: {verdict}")
        copied.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
    finally:
        copied.close()
        origin.close()


def _copy_uploads(target: Path) -> None:
    from apps.jobs import files

    try:
        folder = Path(files.storage().path(""))
    except NotImplementedError:
        return  # an object store keeps them
    if not folder.is_dir():
        return
    target.mkdir(exist_ok=True)
    for each in folder.iterdir():
        if each.is_file() and not (target / each.name).exists():
            try:
                shutil.copy2(each, target / each.name)
            except FileNotFoundError:  # its job has ended
                continue
