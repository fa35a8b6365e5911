"""What every script shares: arguments, one sentence with exit code 1 for an error, and output that
cannot fail."""

import argparse
import codecs
import errno
import functools
import io
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from sns.common.errors import UserError, file_error

Main = Callable[[list[str] | None], int]
INTERRUPTED = 130  # the shell's exit code after Ctrl-C
CHUNK = 4096  # bytes that a pipe takes without blocking once it takes any
PLAIN = "sns-plain"  # the error handler that writes characters which a stream's encoding lacks
PLAINER = str.maketrans(
    {"±": "+-", "α": "alpha", "✓": "+", "✗": "x", "×": "x", "≈": "~", "–": "-", "−": "-", "Π": "prod", "σ": "sigma"}
)


class Parser(argparse.ArgumentParser):
    """A parser for a `main` with `reports_errors`: wrong arguments raise UserError."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError, so that the exit code is 1 instead of argparse's 2."""
        raise UserError(f"{message}; --help lists the arguments")


def reports_errors(main: Main) -> Main:
    """Decorates a script's `main`: an error that the user can fix is printed to stderr as one line,
    and the exit code is 1. A full stdout is such an error; a pipe without reader is none."""

    @functools.wraps(main)
    def run(arguments: list[str] | None = None) -> int:
        safe_streams()
        try:
            return main(arguments) or _lost_output()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            print(f"error: {file_error(error)}", file=sys.stderr)
        except KeyboardInterrupt:
            return INTERRUPTED
        return 1

    return run


class SafeOutput(io.FileIO):
    """The raw file of stdout or stderr, which drops what it cannot write and raises nothing."""

    def __init__(self, descriptor: int, patience: float | None) -> None:
        """`patience`: seconds to wait for a reader that does not read; None to wait for ever."""
        super().__init__(descriptor, "w", closefd=False)
        self.patience, self.stalled = patience, False
        self.lost = ""  # why output was lost, unless the reader of a pipe went away
        self.reported = False

    def write(self, data: Any) -> int:
        """The number of bytes in `data`, written or not."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest:
                ready = select.select([], [self], [], 0 if self.stalled else self.patience)[1]
                self.stalled = not ready
                if self.stalled:
                    break
                rest = rest[super().write(rest[:CHUNK]) or 0 :]
        except OSError as error:
            if error.errno != errno.EPIPE:
                self.lost = error.strerror or str(error)
        return size


def safe_streams(patience: float | None = None) -> None:
    """Makes stdout and stderr of this process streams that never raise: closed, full, without
    reader, or without the characters that are printed. `patience`: as for SafeOutput."""
    codecs.register_error(PLAIN, _plain)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        with suppress(OSError):
            _fill(number)
        stream = getattr(sys, name)
        if stream is None and number:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for the whole process
        elif number and stream is getattr(sys, f"__{name}__"):  # not one that a notebook or a test put there
            setattr(sys, name, _safe(stream, patience))


def _fill(number: int) -> None:
    """Opens a closed descriptor, so that no file which is opened later gets its number, and with it
    what a library prints."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, number)
        os.set_inheritable(number, True)
        if null != number:
            os.close(null)


def _safe(stream: Any, patience: float | None) -> io.TextIOWrapper:
    with suppress(OSError, ValueError):
        stream.flush()
    raw = SafeOutput(stream.fileno(), patience)
    file: Any = raw if stream.write_through else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        file, stream.encoding, PLAIN, line_buffering=stream.line_buffering, write_through=stream.write_through
    )


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(PLAINER)
    return text.encode("ascii", "replace").decode("ascii"), error.end


def _lost_output() -> int:
    """1, with a line on stderr, if this process could not write its stdout; else 0."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    file = getattr(sys.stdout, "buffer", None)
    raw = getattr(file, "raw", file)  # without a buffer under PYTHONUNBUFFERED
    if not isinstance(raw, SafeOutput) or not raw.lost:
        return 0
    if not raw.reported:
        print(f"error: the output could not be written ({raw.lost}); print it elsewhere", file=sys.stderr)
    raw.reported = True
    return 1
