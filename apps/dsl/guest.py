"""The program that runs policy scripts: a guest house with nothing in it and no door but its two pipes.

Started by `sandbox.py` as a plain script, without Django and without the platform's environment. It reads requests
from stdin and writes one answer each, in order, to stdout; both are frames of a 4-byte big-endian length and JSON.

    request  {"sha", "source"?, "function", "arguments": JSON text of a list | null, "timeout_ms"}   null: only check it
    answer   {"value"} or {"error": kind, "message", "line"?}, with "us" (its duration), "cpu" (seconds this process has
             used so far) and, when the process is used up, "tired": true

A script can end this process (deep nesting overflows the native stack, memory runs out): the engine sees the pipe
close, knows by the order of answers who did it, and starts another.
"""

import os
import resource
import sys
import time

OUTPUT_BYTES = 64 * 1024
OUTPUT_DEPTH = 32
CALL_DEPTH = 50
COMPILE_SECONDS = 0.25
SCRIPTS_KEPT = 512
MEMORY_TIRED = 0.5
"""Share of the address space in use after an answer at which this process asks to be replaced."""

ENTRY = """
load("policy", "{function}")
kind = type({function})
def call(arguments):
    return {function}(*json.decode(arguments))
"""

CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS = 0x40000000, 0x08000000, 0x04000000
PR_SET_NO_NEW_PRIVS = 38
NOBODY = 65534


def confine(memory_bytes):
    """Give everything away, best effort first, then the limits that always hold. Returns the names of what held."""
    held = []
    os.chdir("/")
    os.umask(0o077)
    try:
        import ctypes

        libc = ctypes.CDLL(None)
        if libc.unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0:
            held.append("network")
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
            held.append("privileges")
    except (ImportError, OSError, AttributeError):
        pass
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        held.append("user")
    except (OSError, AttributeError):
        pass
    # No new descriptor means no file, no socket and no pipe, whoever we are; those open now stay.
    for name, limit in (("CORE", 0), ("FSIZE", 0), ("NPROC", 0), ("NOFILE", 0), ("AS", memory_bytes)):
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
            held.append(name.lower())
        except (OSError, ValueError, AttributeError):
            pass
    return held


class Unfit(Exception):
    """The answer is not small, plain JSON."""


def fit(value):
    """Raise `Unfit` unless `value` is plain JSON within the limits of depth, size and 64-bit numbers."""
    budget = OUTPUT_BYTES
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        kind = type(item)
        budget -= 1
        if kind is str:
            budget -= len(item) if item.isascii() else len(item.encode())
            if "\x00" in item:
                raise Unfit("the answer holds a NUL character")
        elif kind is int:
            if not -(2**63) <= item < 2**63:
                raise Unfit("the answer holds a number beyond 64 bits")
        elif kind is dict or kind is list:
            if depth > OUTPUT_DEPTH:
                raise Unfit(f"the answer is nested deeper than {OUTPUT_DEPTH}")
            budget -= len(item)
            if budget >= 0:
                if kind is dict:
                    for key in item:
                        if type(key) is not str:
                            raise Unfit("the answer holds a key that is not text")
                        waiting.append((key, depth))
                    waiting.extend((child, depth + 1) for child in item.values())
                else:
                    waiting.extend((child, depth + 1) for child in item)
        elif kind is not bool and kind is not float and item is not None:
            raise Unfit("the answer is not plain JSON")
        if budget < 0:
            raise Unfit(f"the answer is larger than {OUTPUT_BYTES // 1024} kB")


class Guest:
    """Compiles each script once and calls it on a fresh heap every time; a frozen module cannot remember."""

    def __init__(self, starlark, memory_bytes):
        self._starlark = starlark
        self._memory_pages = memory_bytes * MEMORY_TIRED / resource.getpagesize()
        self._globals = starlark.Globals.standard()
        self._entry_globals = starlark.Globals.extended_by([starlark.LibraryExtension.Json])
        self._dialect = starlark.Dialect.standard()
        self._dialect.enable_load = False
        self._options = starlark.EvalOptions(check_cancelled=self._late, max_callstack_size=CALL_DEPTH)
        self._modules = {}
        self._deadline = 0.0
        self._cpu_until = 0.0
        self._cancelled = self._tired = False
        try:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        except OSError:
            self._statm = None

    def answer(self, request):
        self._cancelled = self._tired = False
        self._renew_cpu(request["timeout_ms"] / 1000)
        started = time.perf_counter()
        try:
            answer = self._evaluate(request)
        except Unfit as unfit:
            answer = {"error": "answer", "message": str(unfit)}
        except (TypeError, ValueError, OverflowError, RecursionError):  # on the way to Python: a tuple as a key, for example
            answer = {"error": "answer", "message": "the answer is not plain JSON"}
        except self._starlark.StarlarkError as error:
            answer = self._explain(error)
        answer["us"] = int((time.perf_counter() - started) * 1e6)
        answer["cpu"] = time.process_time()
        if self._tired or self._is_full():
            answer["tired"] = True
        return answer

    def _evaluate(self, request):
        module = self._compiled(request["sha"], request.get("source"), request["function"])
        if type(module) is dict:
            return dict(module)
        if request["arguments"] is None:
            return {"value": None}
        self._deadline = time.monotonic() + request["timeout_ms"] / 1000
        value = module.call_with(self._options, "call", request["arguments"]).value
        fit(value)
        return {"value": value}

    def _compiled(self, sha, source, function):
        """The frozen module, or the answer that says why there is none."""
        found = self._modules.get((sha, function))
        if found is None:
            try:
                found = self._compile(source, function)
            except self._starlark.StarlarkError as error:
                found = self._explain(error)
                # Perhaps only the machine was slow: remember it for this batch, but not for the next process.
                self._tired = self._cancelled
            self._modules[sha, function] = found
        return found

    def _compile(self, source, function):
        starlark = self._starlark
        self._deadline = time.monotonic() + COMPILE_SECONDS
        script = starlark.Module()
        starlark.eval_with(self._options, script, starlark.parse("policy", source, self._dialect), self._globals)
        frozen = script.freeze()
        # The arguments are decoded inside: twice as fast as handing over Python objects one by one.
        entry = starlark.Module()
        tree = starlark.parse("entry", ENTRY.format(function=function))
        loader = starlark.FileLoader(lambda _: frozen)
        try:
            starlark.eval_with(self._options, entry, tree, self._entry_globals, file_loader=loader)
        except starlark.StarlarkError:
            if self._cancelled:
                raise
            return {"error": "entry", "message": f"the script has no function {function}"}
        if entry["kind"] != "function":
            return {"error": "entry", "message": f"{function} is not a function"}
        return entry.freeze()

    def _explain(self, error):
        if self._cancelled:
            return {"error": "timeout", "message": "took too long"}
        answer = {"error": "script", "message": str(error)}
        for line in str(error).splitlines():
            if line.startswith("error: "):
                answer["message"] = line.removeprefix("error: ")
            elif line.lstrip().startswith("--> policy:"):
                answer["line"] = int(line.split(":")[1])
                break
        answer["message"] = answer["message"].replace("\x00", "\ufffd")[:500]
        return answer

    def _late(self):
        if time.monotonic() < self._deadline:
            return False
        self._cancelled = True
        return True

    def _renew_cpu(self, seconds):
        """A process that lives long uses much CPU rightly: the soft limit moves ahead of it. The engine's clock is
        what normally ends a runaway; this holds even while the engine itself is stopped."""
        used = time.process_time()
        if used + seconds + 1 > self._cpu_until:
            self._cpu_until = used + seconds + 2
            resource.setrlimit(resource.RLIMIT_CPU, (int(self._cpu_until) + 1, resource.RLIM_INFINITY))

    def _is_full(self):
        if len(self._modules) >= SCRIPTS_KEPT:
            return True
        return self._statm is not None and int(os.pread(self._statm, 32, 0).split()[0]) > self._memory_pages


def serve(guest, json):
    buffer = bytearray()
    while chunk := os.read(0, 1 << 18):
        buffer += chunk
        start = 0
        while len(buffer) >= start + 4:
            end = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if len(buffer) < end:
                break
            write(json.dumps(guest.answer(json.loads(buffer[start + 4 : end])), ensure_ascii=False))
            start = end
        del buffer[:start]


def write(text):
    frame = text.encode()
    frame = len(frame).to_bytes(4, "big") + frame
    while frame:
        frame = frame[os.write(1, frame) :]


def main():
    import gc
    import json
    import signal

    memory_bytes, library = int(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the engine's to hear
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    sys.path.append(library)
    import starlark

    # Values that come back from Starlark hold no cycles, so reference counts are enough.
    gc.disable()
    guest = Guest(starlark, memory_bytes)
    source = "def warm(x):\n    return {'seen': [x['a'], 1.5, str(x)]}\n"
    request = {"sha": "", "source": source, "function": "warm", "arguments": '[{"a": null}]', "timeout_ms": 1000}
    guest.answer(request)  # whatever is imported lazily must come before the doors close
    write(json.dumps({"value": confine(memory_bytes)}))
    try:
        serve(guest, json)
    except BaseException:  # a Rust panic or no memory: this process is not to be trusted any more
        os._exit(70)


if __name__ == "__main__":
    main()
