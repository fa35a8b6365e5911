"""The state of a run: one vocabulary, decided in one place, for status, plans and launchers.

The state follows from the run's directory, not from what a launcher reports. `state_of` only reads,
and needs neither torch nor pandas. `sns.launch.attempt` records the attempts.
"""

from dataclasses import dataclass
from pathlib import Path

from sns.common.errors import RecordError
from sns.record import attempts, store
from sns.record.faults import damaged, partial, unreadable
from sns.record.schema import Result

STATES = ("running", "stopped", "dead", "queued", "to do", "failed", "diverged", "done")  # as a page lists them


@dataclass(frozen=True)
class RunState:
    """How a run stands.

    name, one of STATES:
        to do     no attempt was made yet
        queued    it is in Slurm's queue, for the first time or again
        running   a process trains it now
        stopped   it was asked to stop, and saved
        dead      its process was killed
        failed    an error ended it, or its record cannot be read
        diverged  its loss was not finite: a result
        done      trained to its end
    retry: whether the next launch trains it. refused: the user has to fix the error first.
    result: the record, if the run is finished and the record can be read.
    """

    name: str
    reason: str | None = None
    retry: bool = False
    refused: bool = False
    result: Result | None = None

    @property
    def pending(self) -> bool:
        """Whether the same command, or a process that holds the run now, will continue it."""
        return self.name in ("queued", "running") or (self.retry and not self.refused)


def state_of(directory: Path, retries: int | None = None, job: str = "") -> RunState:
    """The state of the run in `directory`. Reads only.

    `retries`: the run's launch.retries. Without it, a failed run with a record is not tried again,
    and one without a record is. `job`: the Slurm job of the run, if it is in the queue.
    """
    last = attempts.current(directory)
    if attempts.alive(directory, last):
        return RunState("running")
    if store.is_finished(directory):
        return _finished(directory, retry=retries is not None and last.failures <= retries)
    if job:
        return RunState("queued")
    if last.state in ("failed", "dead"):
        return RunState(last.state, last.reason, retry=retries is None or last.failures <= retries)
    if last.state == "refused":
        return RunState("failed", last.reason, retry=True, refused=True)
    if last.state == "stopped" or attempts.checkpoint_time(directory) is not None:
        return RunState("stopped", last.reason, retry=True)
    return RunState("to do", retry=True)


def _finished(directory: Path, retry: bool) -> RunState:
    """The state of a run with a record; `retry`: whether one that failed is tried again."""
    history = directory / store.HISTORY_CSV
    try:
        result = store.read_result(directory)
        if result.status == "ok" and history.read_bytes().count(b"\n") < 2:  # without pandas, which `read` needs
            raise damaged(history, "it has no rows although the run ended well")
    except RecordError as error:
        return RunState("failed", str(error))
    except OSError as error:
        fault = partial(history) if isinstance(error, FileNotFoundError) else unreadable(history, error)
        return RunState("failed", str(fault))
    name = "done" if result.status == "ok" else result.status
    return RunState(name, result.reason, name == "failed" and retry, result=result)
