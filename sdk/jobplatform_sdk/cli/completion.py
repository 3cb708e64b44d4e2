"""`completion`: what bash and zsh need to complete commands, verbs and options. Written out once, so no key starts Python."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

COMPLETION_MORE = """\
Bash and zsh, for this shell or in ~/.bashrc or ~/.zshrc:
  eval "$(jobctl completion)"
"""

_SCRIPT = """\
if [ -n "$ZSH_VERSION" ]; then autoload -Uz compinit bashcompinit && compinit && bashcompinit; fi
_jobctl() {
  local word path="" at=1
  while [ "$at" -lt "$COMP_CWORD" ]; do
    word="${COMP_WORDS[$at]}"
    case "$path/$word" in
      %(paths)s) path="$path/$word" ;;
    esac
    at=$((at + 1))
  done
  local words=""
  case "$path" in
%(cases)s
  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[$COMP_CWORD]}"))
}
complete -o default -F _jobctl jobctl
"""


def script(parser: argparse.ArgumentParser) -> str:
    found = dict(_words(parser, ""))
    cases = "\n".join(f"    {shlex.quote(path)}) words={shlex.quote(' '.join(words))} ;;" for path, words in found.items())
    return _SCRIPT % {"paths": "|".join(path for path in found if path), "cases": cases}


def _words(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, list[str]]]:
    """What may be typed after each path of commands: `("/sessions", ["run", "list", …, "--json"])`."""
    words: list[str] = []
    below: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001  argparse has no other way to ask
        words += [option for option in action.option_strings if option.startswith("--")]
        if isinstance(action.choices, dict):
            below = action.choices
        if not action.option_strings and action.choices:
            words += map(str, action.choices)
    yield path, words
    for name, each in below.items():
        yield from _words(each, f"{path}/{name}")
