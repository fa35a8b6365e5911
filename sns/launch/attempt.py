"""One attempt at one run: counted, judged, and given up after as many failures as `launch.retries`
allows."""

import os
import time
from functools import partial

from sns.common.errors import UserError, first_line
from sns.config.schema import Config
from sns.launch.budget import backstop, had_its_share
from sns.record import attempts, lock, store
from sns.record.attempts import Attempts
from sns.record.schema import Result
from sns.train.result import write_failed
from sns.train.run import run
from sns.train.stop import Interrupted

RETRY = 70  # exit code, EX_SOFTWARE of sysexits: a fault of ours with retries left


class Fault(Exception):  # noqa: N818  told to the user in a line, like a UserError, but tried again
    """An unexpected error of one run. `again`: whether it has retries left."""

    def __init__(self, message: str, again: bool) -> None:
        super().__init__(message)
        self.again = again


def attempt(config: Config, command: str, counted: bool) -> Result:
    """Trains one cell as `run` does and keeps count in its directory.

    Where `counted`, a run that failed more than `launch.retries` times in a row without a new
    checkpoint in between ends as a record of status failed. Otherwise, when a person types the
    command, the count starts anew. Raises what `run` raises, and Fault in place of any unexpected
    exception.
    """
    directory = config.directory
    if int(os.environ.get("RANK", "0")) > 0 or lock.held(directory):
        with backstop(config.launch, lambda: f"{config.run_id} is cut off: its time is up"):
            return run(config, command)  # another process keeps the count
    _reopen(config, counted)
    state = attempts.settle(directory)
    if counted and state.failures > config.launch.retries and not store.is_finished(directory):
        give_up(config, command)
    if store.is_finished(directory):
        return run(config, command)  # which says so to all processes of the run alike
    if not counted:
        state.failures = 0
        attempts.save(directory, state)
    return _attempt(config, command, counted)


def _attempt(config: Config, command: str, counted: bool) -> Result:
    directory = config.directory
    state = attempts.begin(directory)
    try:
        with backstop(config.launch, partial(_cut_off, config, state, attempts.checkpoint_time(directory))):
            result = run(config, command)
    except UserError as error:
        _note(config, state, "refused", str(error))
        raise
    except Exception as error:
        if isinstance(error, Interrupted):
            _note(config, state, "stopped")
            raise
        text = f"{type(error).__name__}: {first_line(error)}"
        _note(config, state, "failed", text)
        again = counted and state.failures <= config.launch.retries
        if counted and not again:
            give_up(config, command)
        if os.environ.get("SNS_DEBUG") or os.environ.get("HYDRA_FULL_ERROR"):
            raise
        raise Fault(f"{text} (SNS_DEBUG=1 shows the trace)", again) from error
    except BaseException:  # a second Ctrl-C
        _note(config, state, "stopped")
        raise
    _note(config, state, "over")
    return result


def _cut_off(config: Config, state: Attempts, mark: float | None) -> str:
    """Notes that the box of time ended before the run could stop; `mark`: its checkpoint when it
    began.

    Refused, and so tried last, where it had most of a box and got nowhere.
    """
    nowhere = attempts.checkpoint_time(config.directory) == mark
    if nowhere and had_its_share(config.launch, time.time() - state.started):
        reason = f"launch.budget={config.launch.budget} is too short for it to reach a checkpoint: give it more"
        _note(config, state, "refused", reason)
        return f"error: {config.run_id}: {reason}"
    _note(config, state, "stopped")
    return f"{config.run_id} is cut off where it cannot stop; it goes on from its last checkpoint"


def _note(config: Config, state: Attempts, how: str, reason: str | None = None) -> None:
    try:
        attempts.end(config.directory, state, how, reason)
    except UserError:  # a full disk: what ended the attempt is the better message
        state.state, state.reason = how, reason


def _reopen(config: Config, counted: bool) -> None:
    """Takes back a failed record where it may be tried again."""
    directory = config.directory
    if not store.is_finished(directory) or store.read(directory).result.status != "failed":
        return
    if not counted or attempts.load(directory).failures <= config.launch.retries:
        (directory / store.RESULT).unlink()


def give_up(config: Config, command: str = "") -> Result:
    """Writes the record of a run whose retries are spent."""
    state = attempts.load(config.directory)
    times = "once" if state.failures == 1 else f"{state.failures} times in a row without a new checkpoint"
    return write_failed(config, f"failed {times}: {state.reason}", command)
