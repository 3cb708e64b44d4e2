"""Uploads of jobs, by reference: a file goes into storage when the job is submitted and comes out of it in the worker.

Storage is Django's alias `jobs` (settings.STORAGES): a folder of the data directory, unless web and workers stand on
different machines and share an object store. What a client calls its file is never a path here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.files.storage import Storage, storages
from django.core.files.uploadedfile import UploadedFile
from django.utils.datastructures import MultiValueDict

from apps.core import ids
from apps.core.errors import TooLarge

STRAY_AFTER = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class FileRef:
    field: str
    name: str
    """as the client called it, without directories"""
    size: int
    content_type: str
    sha256: str
    stored: str
    """its name in storage"""

    def json(self) -> dict[str, Any]:
        return asdict(self)


class StoredUpload(UploadedFile):
    """An upload in the worker; opened when it is first read."""

    def __init__(self, ref: FileRef) -> None:
        self.sha256, self._stored, self._opened = ref.sha256, ref.stored, None
        super().__init__(name=ref.name, content_type=ref.content_type, size=ref.size)

    @property
    def file(self) -> Any:
        if self._opened is None:
            self._opened = storage().open(self._stored, "rb")
        return self._opened

    @file.setter
    def file(self, _none: None) -> None:
        """Django's constructor says there is none yet."""

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def storage() -> Storage:
    return storages["jobs"]


def keep(uploads: Iterable[tuple[str, UploadedFile]]) -> tuple[FileRef, ...]:
    """Store them all, or none. `uploads`: (field, file). Raises TooLarge before anything is stored."""
    uploads = list(uploads)
    if len(uploads) > settings.JOBS_MAX_FILES:
        raise TooLarge(f"More than {settings.JOBS_MAX_FILES} files.", field="files")
    if sum(upload.size or 0 for _, upload in uploads) > settings.JOBS_MAX_UPLOAD_BYTES:
        raise TooLarge(f"The files are larger than {settings.JOBS_MAX_UPLOAD_BYTES} bytes.", field="files")
    kept: list[FileRef] = []
    try:
        for field, upload in uploads:
            kept.append(_keep(field, upload))
    except BaseException:
        delete(ref.stored for ref in kept)
        raise
    return tuple(kept)


def _keep(field: str, upload: UploadedFile) -> FileRef:
    digest = hashlib.sha256()
    for chunk in upload.chunks():
        digest.update(chunk)
    upload.seek(0)
    stored = storage().save(ids.secret(16), upload)
    return FileRef(
        field=field, name=upload.name or "upload", size=upload.size or 0, content_type=upload.content_type or "application/octet-stream",
        sha256=digest.hexdigest(), stored=stored,
    )  # fmt: skip


def delete(stored: Iterable[str]) -> None:
    """Twice is harmless."""
    for name in stored:
        storage().delete(name)


def as_uploads(refs: Sequence[FileRef]) -> MultiValueDict[str, StoredUpload]:
    """What `request.FILES` is in the worker."""
    found: MultiValueDict[str, StoredUpload] = MultiValueDict()
    for ref in refs:
        found.appendlist(ref.field, StoredUpload(ref))
    return found


def erase(request: Mapping[str, Any] | None) -> None:
    """Delete the uploads that a job's `request` column names."""
    delete(ref["stored"] for ref in (request or {}).get("files", ()))


def copied(request: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The `request` column for another job that does the same: with uploads of its own, since each job erases its own."""
    if not request or not request.get("files"):
        return None if request is None else dict(request)
    copies: list[dict[str, Any]] = []
    try:
        for ref in request["files"]:
            with storage().open(ref["stored"], "rb") as original:
                copies.append({**ref, "stored": storage().save(ids.secret(16), original)})
    except BaseException:
        delete(ref["stored"] for ref in copies)
        raise
    return {**request, "files": copies}


def sweep(*, now: datetime) -> int:
    """Delete uploads that no job names: whoever stored them died before writing the row, or while deleting them. How many they were.
    Those of the last hour may belong to a row that is being written."""
    try:
        _, names = storage().listdir("")
    except FileNotFoundError:  # nothing was ever uploaded
        return 0
    # Read after the list: a file that is on it and has a row by now is found.
    strays = set(names) - _named() if names else set()
    old = [name for name in strays if (at := _stored_at(name)) is not None and now - at > STRAY_AFTER]
    delete(old)
    return len(old)


def _named() -> set[str]:
    from apps.jobs.models import Job  # this module is loaded before there are models

    rows = Job.objects.filter(request__isnull=False).exclude(request__files=[]).values_list("request__files", flat=True)
    return {ref["stored"] for files in rows.iterator(chunk_size=1000) for ref in files or ()}


def _stored_at(name: str) -> datetime | None:
    try:
        return storage().get_modified_time(name)
    except FileNotFoundError:  # another copy of upkeep was first
        return None
