"""The canvas: how chunks travel. Celery groups and chords, of chunks, in waves.

A step's chunks go as chords of at most WAVE parts whose body is a hint to look at the step: a chord wakes, it decides
nothing. One chunk needs no chord. Where a limit bounds what may be in flight, chunks go one by one, as places become free
(`limits.py`). A message that is lost is found by its chunk's row (`recovery.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from apps.core import background
from apps.workflows.models import Chunk
from jobplatform.queues import Work

WAVE = 64
WAVE_AT_ONCE = 8
"""Of a step whose items are still being made, so many chunks go together: workers need not wait for the last item."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sending:
    """Chunks of one attempt of a step that may go now."""

    session_key: str
    path: str
    step_run: str
    attempt: int
    first: int
    """Number of the first of them."""
    count: int
    chord: bool = True
    """False: each on its own; whoever ends one looks whether it was the last."""


def chunk_id(step_run: str, attempt: int, number: int) -> str:
    return f"{step_run}.{attempt}/{number}"


def send(sendings: Iterable[Sending]) -> None:
    alone: list[dict[str, str]] = []
    for one in sendings:
        ids = [chunk_id(one.step_run, one.attempt, number) for number in range(one.first, one.first + one.count)]
        if one.count == 1 or not one.chord:
            alone += [{"chunk_id": chunk} for chunk in ids]
            continue
        for start in range(0, one.count, WAVE):
            _chord(one, ids[start : start + WAVE], number=one.first + start)
    if alone:
        background.send_many(Work.RUN_CHUNK, alone)


def send_again(chunk_ids: Sequence[str]) -> None:
    """Chunks whose message or worker was lost. Outside of any chord: whoever ends one looks at the step."""
    if chunk_ids:
        background.send_many(Work.RUN_CHUNK, [{"chunk_id": chunk} for chunk in chunk_ids])


def wake(session_key: str, paths: Collection[str] = ()) -> None:
    """A hint to look at a session: at these nodes, or at all that are open."""
    background.send(Work.ADVANCE, session_key=session_key, paths=sorted(paths))


def forget(session_key: str) -> None:
    """Delete what the chords of a session left in Redis."""
    several = Chunk.objects.filter(session_key=session_key, number__gt=0).order_by().values_list("id", flat=True)
    groups: set[str] = set()
    for chunk in several.iterator(chunk_size=2000):
        step_attempt, _, number = chunk.rpartition("/")
        # A wave goes by the number of its first chunk, which may be any.
        groups |= {_group_id(step_attempt, 0), _group_id(step_attempt, int(number))}
    background.forget_chords(sorted(groups))


def _chord(one: Sending, ids: list[str], *, number: int) -> None:
    if len(ids) == 1:
        background.send(Work.RUN_CHUNK, chunk_id=ids[0])
        return
    background.send_chord(
        _group_id(f"{one.step_run}.{one.attempt}", number),
        Work.RUN_CHUNK,
        [{"chunk_id": chunk} for chunk in ids],
        then=Work.FINISH,
        arguments={"session_key": one.session_key, "path": one.path},
    )


def _group_id(step_attempt: str, first: int) -> str:
    """Derived, so that what a chord leaves behind can be found. No two waves begin with the same chunk."""
    return hashlib.blake2b(f"{step_attempt}/{first}".encode(), digest_size=16).hexdigest()
