"""Reads prose (Markdown, reStructuredText, plain text): words, sentences, readability, headings, links that lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from demo.agents.runtime import CannotAnalyse, run

WORDS_PER_MINUTE = 230

_FENCE = re.compile(r"^(```+|~~~+)[^\n]*\n.*?^\1[ \t]*$", re.M | re.S)
_INLINE_CODE = re.compile(r"`[^`\n]+`")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$|^(\S[^\n]*)\n(?:=+|-{3,}|~{3,})[ \t]*$", re.M)
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+[\"'(][^)]*)?\)")
_DEFINITION = re.compile(r"^[ \t]{0,3}\[[^\]\n]+\]:[ \t]*<?(\S+?)>?(?:[ \t].*)?$", re.M)
_RST_LINK = re.compile(r"`[^`<]*<([^>`]+)>`__?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_MARKUP = re.compile(r"^[ \t]*(?:[-*+>|#]+|\d+[.)])[ \t]+|[*_|]{1,3}", re.M)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)|\n\s*\n")
_VOWELS = re.compile(r"[aeiouyäöüàâéèêëîïôûù]+")


def analyse(data: bytes, path: Path, root: Path) -> dict[str, Any]:
    """Figures of one text. CannotAnalyse when it is not UTF-8."""
    try:
        source = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CannotAnalyse(f"not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}") from None
    source = source.replace("\r\n", "\n")
    body = _FENCE.sub("", source)
    headings = [first or second for first, second in _HEADING.findall(body)]
    without_code = _INLINE_CODE.sub(" ", body)
    links = [target for pattern in (_LINK, _DEFINITION) for target in pattern.findall(without_code)]
    if path.suffix.lower() == ".rst":
        links += _RST_LINK.findall(body)
    broken = [target for target in links if not _leads_somewhere(target, path, root, headings)]
    text = _MARKUP.sub("", _LINK.sub(" ", without_code))
    words = _WORD.findall(text)
    sentences = [part for part in _SENTENCE_END.split(text) if _WORD.search(part)]
    ease = reading_ease(words, len(sentences))
    summary = f"{len(words)} words, {_level(ease)}" if words else "no words"
    summary += f", {len(links)} links, {len(broken)} broken" if broken else f", {len(links)} links"
    return {
        "summary": summary,
        "words": len(words),
        "sentences": len(sentences),
        "reading_ease": ease,
        "minutes": round(len(words) / WORDS_PER_MINUTE, 1),
        "headings": headings[:50],
        "links": len(links),
        "broken_links": broken[:50],
    }


def reading_ease(words: list[str], sentences: int) -> float | None:
    """Flesch: 100 very easy, 0 very hard. None without words."""
    if not words:
        return None
    syllables = sum(_syllables(word) for word in words)
    score = 206.835 - 1.015 * len(words) / max(1, sentences) - 84.6 * syllables / len(words)
    return round(max(0.0, min(100.0, score)), 1)


def _syllables(word: str) -> int:
    word = word.lower()
    groups = len(_VOWELS.findall(word))
    return max(1, groups - (word.endswith("e") and not word.endswith("le")))


def _level(ease: float | None) -> str:
    return next(name for low, name in ((60, "easy"), (40, "fair"), (20, "hard"), (0, "very hard")) if (ease or 0.0) >= low)


def _leads_somewhere(target: str, path: Path, root: Path, headings: list[str]) -> bool:
    """Only what can be seen from here is judged: files below the root and headings of this text, never the web."""
    if _SCHEME.match(target):
        return True
    name, _, fragment = target.partition("#")
    if not name:
        return not fragment or fragment.lower() in {_slug(heading) for heading in headings}
    name = unquote(name.partition("?")[0])
    there = (root / name.lstrip("/") if name.startswith("/") else path.parent / name).resolve()
    return not there.is_relative_to(root) or there.exists()


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


if __name__ == "__main__":
    run(analyse)
