"""One attempt at a run: counted in the run directory, and given up after `launch.retries` failures.

`attempt` is the step between the command line and the trainer. `write_down` is the only
place where what `sns.record.state` infers from a run directory is written into it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from sns.common.errors import UserError, first_line
from sns.config.schema import Config
from sns.launch.budget import end_in_time, had_its_share
from sns.record import attempts, lock, store
from sns.record.attempts import Attempts
from sns.record.schema import Result
from sns.record.state import RunState, state_of
from sns.train.result import write_failed
from sns.train.run import alone, training
from sns.train.stop import Interrupted, StopSignal
from sns.train.turns import Steps


class Fault(Exception):  # noqa: N818  reported in one line like a UserError, but tried again
    """An unexpected error of one run. `again`: whether it has retries left."""

    def __init__(self, message: str, again: bool) -> None:
        super().__init__(message)
        self.again = again


def attempt(config: Config, command: str, in_sweep: bool) -> Result:
    """Trains one run that has the process for itself; see `attempting`."""
    return alone(config, lambda stop: attempting(config, command, in_sweep, stop))


def attempting(config: Config, command: str, in_sweep: bool, stop: StopSignal) -> Steps[Result]:
    """Trains one run as `training` does, and counts the attempt.

    In a sweep, a run that failed more than `launch.retries` times in a row without a new checkpoint
    in between ends as a record with status failed. Outside of one, a person asks for the run: the
    count starts again at 0. Raises what `training` raises, and Fault for any unexpected exception.
    """
    directory = config.directory
    if int(os.environ.get("RANK", "0")) > 0 or lock.held(directory):
        with end_in_time(config.launch, lambda: f"{config.run_id} is cut off: its time budget is spent"):
            return (yield from training(config, command, stop))  # another process counts
    if not in_sweep:
        _forget_failures(config)
    state = write_down(config, command)
    if state.result is not None and state.retry:
        (directory / store.RESULT).unlink()
    if store.is_finished(directory):
        return (yield from training(config, command, stop))  # the record, or why it cannot be read
    with _counted(config, command, in_sweep):
        return (yield from training(config, command, stop))


def write_down(config: Config, command: str = "", job: str = "") -> RunState:
    """Writes into the run directory what `state_of` infers, and returns the state after it.

    A process that was killed is counted as a failure. A run without a record whose retries are
    spent gets a record with status failed. `job`: what Slurm calls the run, if it is queued.
    """
    directory, retries = config.directory, config.launch.retries
    attempts.settle(directory)
    state = state_of(directory, retries, job)
    if state.name in ("failed", "dead") and not state.retry and not store.is_finished(directory):
        give_up(config, command)
        state = state_of(directory, retries, job)
    return state


def give_up(config: Config, command: str = "") -> Result:
    """Writes the record of a run whose retries are spent."""
    last = attempts.load(config.directory)
    times = "once" if last.failures == 1 else f"{last.failures} times in a row without a new checkpoint"
    return write_failed(config, f"failed {times}: {last.reason}", command)


def _forget_failures(config: Config) -> None:
    last = attempts.settle(config.directory)
    if last.failures:
        last.failures = 0
        attempts.save(config.directory, last)


@contextmanager
def _counted(config: Config, command: str, in_sweep: bool) -> Iterator[None]:
    """Within the context this process attempts the run; how it ends is written to attempts.json."""
    last = attempts.begin(config.directory)
    try:
        with end_in_time(config.launch, partial(_cut_off, config, last, attempts.checkpoint_time(config.directory))):
            yield
    except UserError as error:
        _end(config, last, "refused", str(error))
        raise
    except Exception as error:
        if isinstance(error, Interrupted):
            _end(config, last, "stopped")
            raise
        text = f"{type(error).__name__}: {first_line(error)}"
        _end(config, last, "failed", text)
        again = in_sweep and last.failures <= config.launch.retries
        if in_sweep and not again:
            give_up(config, command)
        if os.environ.get("SNS_DEBUG") or os.environ.get("HYDRA_FULL_ERROR"):
            raise
        raise Fault(f"{text} (SNS_DEBUG=1 shows the trace)", again) from error
    except BaseException:  # a second Ctrl-C
        _end(config, last, "stopped")
        raise
    _end(config, last, "finished")


def _end(config: Config, last: Attempts, state: str, reason: str | None = None) -> None:
    with suppress(UserError):  # a full disk: what ended the attempt is the better message
        attempts.end(config.directory, last, state, reason)


def _cut_off(config: Config, last: Attempts, checkpoint: float | None) -> str:
    """Writes down that the time budget ended before the run could stop, and returns a line that
    says so.

    `checkpoint`: when the newest one was written before this attempt. A run that had most of a
    budget and wrote none counts as refused, so that later launches try it last.
    """
    no_progress = attempts.checkpoint_time(config.directory) == checkpoint
    if no_progress and had_its_share(config.launch, time.time() - last.started):
        reason = f"launch.budget={config.launch.budget} is too short for it to reach a checkpoint: give it more"
        _end(config, last, "refused", reason)
        return f"error: {config.run_id}: {reason}"
    _end(config, last, "stopped")
    return f"{config.run_id} is cut off where it cannot stop; it resumes from its last checkpoint"
