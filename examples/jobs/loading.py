"""Files to text: PDF, DOCX, Markdown and plain text become blocks, which know their page and the heading above them.

    load("rights.pdf", data) -> [Block(text="No one shall be …", heading="Article 9", page=2), …]

Pure functions of bytes. `pypdf` and `python-docx` are imported by whoever loads such a file.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from statistics import median

from examples.jobs.extras import need

BYTES_MAX = 20 * 1024 * 1024
UNPACKED_MAX = 100 * 1024 * 1024
"""bytes of a DOCX once unzipped: a small file can hold a very large one"""
HEADING_MAX = 70

_MARKDOWN_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*$")
_BROKEN = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError, zlib.error,
)  # fmt: skip
"""What readers of files stumble with when a file is not what it claims to be: bytes of strangers can break them anywhere."""
_ENDED = re.compile(r"[.!?:;][\"”’')\]]*$")


class Unreadable(ValueError):
    """The message says why, in words for whoever sent the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A paragraph, or a row of a table."""

    text: str
    heading: str = ""
    page: int | None = None
    """From 1; where it begins. None: a format without pages."""


def load(name: str, data: bytes) -> list[Block]:
    """In reading order; at least one. Raises Unreadable."""
    read = _READERS.get(PurePath(name).suffix.lower())
    if read is None:
        raise Unreadable(f"cannot be read: its name must end in one of {', '.join(sorted(_READERS))}")
    if len(data) > BYTES_MAX:
        raise Unreadable(f"is larger than {BYTES_MAX // 1024 // 1024} MB")
    if blocks := list(read(data)):
        return blocks
    raise Unreadable("has no text in it; is it a scan?")


def read_pdf(data: bytes) -> Iterator[Block]:
    pypdf = need("pypdf")
    try:
        pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages]
    except (pypdf.errors.PyPdfError, pypdf.errors.DependencyError, *_BROKEN) as error:
        raise Unreadable(f"is not a PDF that can be read ({type(error).__name__})") from None
    return _from_lines([(number, line) for number, page in enumerate(pages, 1) for line in page.splitlines()])


def read_docx(data: bytes) -> Iterator[Block]:
    docx, lxml = need("docx"), need("lxml.etree")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            unpacked = sum(part.file_size for part in packed.infolist())
        parts = list(docx.Document(io.BytesIO(data)).iter_inner_content()) if unpacked <= UNPACKED_MAX else []
    except (zipfile.BadZipFile, lxml.LxmlError, *_BROKEN) as error:
        raise Unreadable(f"is not a DOCX that can be read ({type(error).__name__})") from None
    if unpacked > UNPACKED_MAX:
        raise Unreadable(f"holds more than {UNPACKED_MAX // 1024 // 1024} MB once unpacked")
    heading = ""
    for part in parts:
        if isinstance(part, docx.table.Table):
            yield from (Block(text=row, heading=heading) for row in _rows([[cell.text for cell in row.cells] for row in part.rows]))
        elif part.style is not None and part.style.name.startswith(("Heading", "Title")):
            heading = _clean(part.text)
        elif text := _clean(part.text):
            yield Block(text=text, heading=heading)


def read_text(data: bytes) -> Iterator[Block]:
    """Markdown's headings, and lines in capitals; paragraphs are lines, or end at an empty one."""
    if b"\0" in data:
        raise Unreadable("is not a text")
    heading, lines = "", []
    for line in [*data.decode("utf-8-sig", "replace").splitlines(), ""]:
        marked = _MARKDOWN_HEADING.match(line)
        title = marked[1] if marked else _clean(line) if line.isupper() and len(line) <= HEADING_MAX else ""
        if (title or not line.strip()) and (text := _clean(" ".join(lines))):
            yield Block(text=text, heading=heading)
        lines = [] if title or not line.strip() else [*lines, line]
        heading = title or heading


_READERS: dict[str, Callable[[bytes], Iterable[Block]]] = {
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".md": read_text,
    ".txt": read_text,
}


def _from_lines(lines: list[tuple[int, str]]) -> Iterator[Block]:
    """Lines as a page is printed, to paragraphs. A paragraph ends with a sentence that leaves its line unfilled, and goes on over
    the turn of a page; a short line without an end, after a paragraph that has ended, is a heading."""
    lines = [(page, text) for page, line in lines if (text := _clean(line))]
    full = 0.75 * median([len(line) for _, line in lines] or [0])
    heading, text, start = "", "", None
    for page, line in lines:
        if not text and not _ENDED.search(line) and len(line) < full and line[0].isupper():
            heading = line
            continue
        start = start or page
        text = text[:-1] + line if text.endswith("-") and line[0].islower() else f"{text} {line}".strip()
        if _ENDED.search(line):
            yield Block(text=text, heading=heading, page=start)
            text, start = "", None
    if text:
        yield Block(text=text, heading=heading, page=start)


def _rows(table: list[list[str]]) -> Iterator[str]:
    """Each row with the names of its columns: found by either, and understood alone."""
    if len(table) < 2:
        return
    names = [_clean(cell) for cell in table[0]]
    for row in table[1:]:
        cells = [f"{name}: {value}" for name, cell in zip(names, row, strict=False) if (value := _clean(cell))]
        if cells:
            yield "; ".join(cells) + "."


def _clean(text: str) -> str:
    return " ".join(text.replace("\0", " ").split())
