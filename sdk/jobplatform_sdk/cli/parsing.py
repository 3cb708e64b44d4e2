"""What every command's arguments are made of: the parser, the words for times, verbs below a command."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

_AGE = re.compile(r"(\d{1,9})([smhd])")
_UNKNOWN = re.compile(r"argument (?:COMMAND|VERB): invalid choice: '([^']*)' \(choose from (.*)\)")
NONE = "none"
"""Said where a field is to be emptied."""


class Parser(argparse.ArgumentParser):
    """Keeps the lines of its texts, takes no abbreviations, and guesses what a mistyped command or verb was meant to be."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        if found := _UNKNOWN.fullmatch(message):
            near = difflib.get_close_matches(found[1], found[2].replace("'", "").split(", "), n=1)
            guess = f"; did you mean {near[0]}?" if near else "."
            self.exit(2, f"{self.prog}: there is no {found[1]!r}{guess} {self.prog} --help lists what there is.\n")
        super().error(message)


def common(to: argparse.ArgumentParser, default: Any = argparse.SUPPRESS) -> None:
    """What stands before or after the command: what stands after it wins."""
    group = to.add_argument_group("the platform")
    group.add_argument("--url", default=default, help="default: $JOBPLATFORM_URL")
    group.add_argument("--api-key", default=default, metavar="KEY", help="default: $JOBPLATFORM_API_KEY, which other users cannot see")
    group.add_argument("--json", action="store_true", default=default or False, help="output for programs")


def sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def verbs(to: argparse.ArgumentParser) -> Callable[[str, str], argparse.ArgumentParser]:
    """Verbs below a command. Gives `add(name, summary)`, of which one must be `list`: without a verb it is that."""
    below = to.add_subparsers(title="verbs", metavar="VERB", dest="verb", description="without one: list")

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        made = below.add_parser(name, help=summary, description=sentence(summary))
        common(made)
        return made

    return add


def without_verb(to: argparse.ArgumentParser, listed: argparse.ArgumentParser) -> None:
    """Call when `listed` has its arguments."""
    to.set_defaults(verb="list", **vars(listed.parse_args([])))


def seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise ValueError
    return value


def moment(text: str) -> datetime:
    """A time, or how long ago."""
    try:
        return datetime.now(UTC) - span(text) if _AGE.fullmatch(text) else instant(text)
    except (argparse.ArgumentTypeError, OverflowError):
        raise _not(text, "a time such as 2026-11-22T10:00, or an age such as 90s, 15m, 24h, 7d") from None


def span(text: str) -> timedelta:
    if not (found := _AGE.fullmatch(text)):
        raise _not(text, "a span such as 90s, 15m, 24h, 7d")
    return timedelta(seconds=int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]])


def seconds_of(text: str) -> int:
    """Whole seconds, from a number of them or a span."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else int(span(text).total_seconds())


def or_none(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Also takes the word that empties a field."""
    return lambda text: NONE if text == NONE else read(text)


def instant(text: str) -> datetime:
    """Local when it names no zone."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _not(text, "a time such as 2026-11-22T10:00") from None


def _not(text: str, wanted: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
