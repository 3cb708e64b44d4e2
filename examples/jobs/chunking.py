"""Blocks to chunks: pieces small enough that an embedding means one thing, and whole enough to be read alone.

A chunk stays under one heading and never cuts a sentence (unless one alone is longer than a chunk); neighbours under a heading share a
sentence, so that what is said across a border is found from both sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from examples.jobs.loading import Block

CHARACTERS = 600
_AFTER_SENTENCE = re.compile(r"(?<=[.!?])(?<!\b\d\.)[\"”’)]*\s+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    number: int
    """In its document, from 0."""
    text: str
    heading: str
    page: int | None

    @property
    def to_embed(self) -> str:
        return f"{self.heading}. {self.text}" if self.heading else self.text


def chunks(blocks: Sequence[Block], *, characters: int = CHARACTERS) -> list[Chunk]:
    found = [piece for heading, under in groupby(blocks, lambda block: block.heading) for piece in _pack(heading, under, characters)]
    return [Chunk(number=number, text=text, heading=heading, page=page) for number, (text, heading, page) in enumerate(found)]


def sentences(text: str) -> list[str]:
    """As they stand; numbers of a list ("1. Everyone …") stay with what they number."""
    cuts = [0, *(match.end() for match in _AFTER_SENTENCE.finditer(text)), len(text)]
    return [piece for start, end in zip(cuts, cuts[1:], strict=False) if (piece := text[start:end].strip())]


def _pack(heading: str, blocks: Iterable[Block], characters: int) -> Iterator[tuple[str, str, int | None]]:
    held: list[tuple[str, int | None]] = []
    fresh = False
    """whether there is more in hand than what the chunk before ended with"""
    for sentence in ((part, block.page) for block in blocks for whole in sentences(block.text) for part in _cut(whole, characters)):
        if held and _length(held) + len(sentence[0]) > characters:
            yield " ".join(text for text, _ in held), heading, held[0][1]
            held = held[-1:] if _length(held[-1:]) + len(sentence[0]) <= characters else []
        held.append(sentence)
        fresh = True
    if held and fresh:
        yield " ".join(text for text, _ in held), heading, held[0][1]


def _cut(sentence: str, characters: int) -> Iterator[str]:
    """One that is longer than a chunk is cut between words; a word that is, anywhere."""
    while len(sentence) > characters:
        place = sentence.rfind(" ", 1, characters + 1)
        yield sentence[: place if place > 0 else characters]
        sentence = sentence[place if place > 0 else characters :].strip()
    if sentence:
        yield sentence


def _length(held: Sequence[tuple[str, int | None]]) -> int:
    return sum(len(text) + 1 for text, _ in held)
