"""Runs modules beside a platform, one after the other, each in a process of its own: `{"module", "wishes"}` per line on standard
input, `{"status", "said", "error"}` per line on standard output.

Django and the platform's models are loaded once, and forked for each.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
import traceback
from typing import IO, Any


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    import django

    django.setup()
    for line in sys.stdin:
        print(json.dumps(answered(**json.loads(line))), flush=True)


def answered(module: str, wishes: Any) -> dict[str, Any]:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as error:
        given.write(json.dumps(wishes).encode())
        given.seek(0)
        if not (child := os.fork()):
            _be(module, given, said, error)
        _, status = os.waitpid(child, 0)
        return {"status": os.waitstatus_to_exitcode(status), "said": _all(said), "error": _all(error)}


def _be(module: str, given: IO[bytes], said: IO[bytes], error: IO[bytes]) -> None:
    status = 1
    try:
        for number, file in enumerate((given, said, error)):
            os.dup2(file.fileno(), number)
        sys.stdin = os.fdopen(os.dup(0), encoding="utf-8")
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _all(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


if __name__ == "__main__":
    main()
