"""A script as HTML with colours and line numbers, for people in the admin. One pass, everything escaped."""

from __future__ import annotations

import re

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

KEYWORDS = "and|break|continue|def|elif|else|for|if|in|lambda|load|not|or|pass|return"
TOKEN = re.compile(
    rf"""
      (?P<comment>\#[^\n]*)
    | (?P<text>[rb]?(?:\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))
    | (?P<keyword>\b(?:{KEYWORDS})\b)
    | (?P<constant>\b(?:True|False|None|\d[\w.]*)\b)
    | (?P<entry>\b(?:approve|prioritize|auction|select)\b)
    """,
    re.VERBOSE | re.DOTALL,
)


def coloured_diff(lines: list[str]) -> SafeString:
    """A unified diff: `<pre class="policy-diff">`, what came and what went in colours."""
    kinds = {"+": "came", "-": "went", "@": "place"}
    shown = "\n".join(
        f'<span class="policy-{"file" if at < 2 else kinds.get(line[:1], "same")}">{escape(line)}</span>' for at, line in enumerate(lines)
    )
    return mark_safe(f'<pre class="policy-diff">{shown}</pre>')  # noqa: S308


def coloured(source: str) -> SafeString:
    """`<ol class="policy-source">`, one `<li>` a line, its tokens in `<span class="policy-…">`."""
    pieces, at = [], 0
    for token in TOKEN.finditer(source):
        pieces.append(escape(source[at : token.start()]))
        # A text may run over several lines; each line closes its own span.
        pieces.append("\n".join(f'<span class="policy-{token.lastgroup}">{escape(line)}</span>' for line in token.group().split("\n")))
        at = token.end()
    pieces.append(escape(source[at:]))
    lines = "".join(pieces).rstrip("\n").split("\n")
    return mark_safe('<ol class="policy-source">' + "".join(f"<li><code>{line}</code></li>" for line in lines) + "</ol>")  # noqa: S308
