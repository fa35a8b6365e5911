"""When a run writes a checkpoint, when it stops, and what happens if it cannot write."""

import itertools
import time
from collections.abc import Mapping, Sequence

from sns.common.errors import first_line
from sns.record import store
from sns.record.lock import RunLock
from sns.record.schema import HISTORY_CSV
from sns.train.checkpoint import CannotSave
from sns.train.progress import Reporter
from sns.train.session import Session
from sns.train.stop import TIME_LIMIT, Interrupted, StopSignal

MAX_FAILURES = 3  # checkpoints in a row that cannot be written before the run fails
CHEAP_SHARE = 0.02  # a cheap checkpoint costs at most this share of the time since the last one
STOP_AFTER = "train.stop_after"
# Reasons to pause training, weakest first. All processes of a run follow the strongest among them.
REQUESTS = ("", "save", STOP_AFTER, "SIGINT", "SIGHUP", "SIGTERM", TIME_LIMIT, "SIGUSR2")


def longest_evaluation(history: Sequence[Mapping[str, float]]) -> float:
    """Seconds of the longest evaluation so far; 0 before the first."""
    marks = [0.0, *(row["measure_seconds"] for row in history)]
    return max((after - before for before, after in itertools.pairwise(marks)), default=0.0)


class Saver:
    """Decides after every update and every evaluation whether to save and whether to stop.

    All processes of a run come to the same decision.
    """

    def __init__(self, session: Session, reporter: Reporter, stop: StopSignal, lock: RunLock | None) -> None:
        """`lock`: that of the run directory; None on processes that do not write."""
        self.session, self.reporter, self.stop, self.lock = session, reporter, stop, lock
        self.start = stop.deadline.begin(longest_evaluation(session.history))  # seconds to the first update
        config = session.config.train
        self.interval = config.checkpoint_minutes * 60
        self.last_step = session.total  # of this session
        if config.stop_after is not None:
            self.last_step = min(self.last_step, session.step + config.stop_after)
        self.saved_at, self.away = time.monotonic(), session.away
        self.cost = 0.0  # seconds that the last checkpoint took
        self.failures = 0
        self.request = ""
        self.began, self.first_step = self.saved_at, session.step
        self.saved: tuple[int, int] | None = None  # updates and evaluations in the newest checkpoint
        reporter.saved(session.step)

    def due(self, cheap: bool = False) -> bool:
        """Whether to pause training for `save`; with `cheap` also if a checkpoint costs little."""
        self.reporter.pace(self.session.step, self.start, self.stop.deadline.longest)
        if self.lock is not None:
            self.lock.check()
        since = time.monotonic() - self.saved_at
        request = self.stop.asked() or ""
        if not request and self.session.step >= self.last_step:
            request = STOP_AFTER
        own = since - (self.session.away - self.away)
        if not request and (since > self.interval or (cheap and self.cost <= CHEAP_SHARE * own)):
            request = "save"
        self.request = REQUESTS[self.session.ranks.maximum(REQUESTS.index(request))]
        return self.request != ""

    def save(self) -> None:
        """Writes the checkpoint. Raises Interrupted if this session ends before the run does.

        If the checkpoint cannot be written the run continues, with a line in its log. CannotSave if
        this session ends now, or after MAX_FAILURES failures in a row.
        """
        session, began = self.session, time.monotonic()
        if self.lock is not None:
            self.lock.check()
        fault = None
        try:
            session.save()
        except CannotSave as error:
            fault = error
        if self._written(fault):
            self.saved = session.step, len(session.history)
            self.reporter.saved(session.step)
        self.saved_at, self.away = time.monotonic(), session.away
        self.cost = self.saved_at - began
        stop_after = self.request == STOP_AFTER
        if REQUESTS.index(self.request) > REQUESTS.index(STOP_AFTER) or (stop_after and session.step < session.total):
            why = f"{STOP_AFTER}={session.config.train.stop_after}" if stop_after else self.request
            raise Interrupted(
                f"stopped at update {session.step} of {session.total} ({why}); the same command resumes it",
                self.request,
            )

    def _written(self, fault: CannotSave | None) -> bool:
        """Whether the checkpoint was written; the same answer, or CannotSave, on every process."""
        if not self.session.ranks.maximum(fault is not None):
            self.failures = 0
            return True
        self.failures += 1
        fault = fault or CannotSave("the first process could not write the checkpoint")
        if self.failures >= MAX_FAILURES or REQUESTS.index(self.request) >= REQUESTS.index(STOP_AFTER):
            raise fault from None
        self.reporter.say(f"warning: {first_line(fault)}; training continues")
        return False

    def save_if_cheap(self) -> None:
        """Writes a checkpoint if one is due or costs little compared with the work it saves."""
        if self.due(cheap=True):
            self.save()

    def before_evaluation(self) -> None:
        """`save_if_cheap`; stops also if the evaluation may take longer than the time left."""
        session = self.session
        if not session.history and session.step > self.first_step:  # none was timed: assume at most an epoch
            an_update = (time.monotonic() - self.began - session.away) / (session.step - self.first_step)
            self.stop.deadline.expect(an_update * session.task.length.examples / session.task.length.batch)
        self.save_if_cheap()

    def after_last_evaluation(self) -> None:
        """Saves the trained run, so that the final measurements can be stopped without loss."""
        stopping = self.due() and REQUESTS.index(self.request) > REQUESTS.index(STOP_AFTER)
        if stopping or self.saved != (self.session.step, len(self.session.history)):
            self.save()

    def after_evaluation(self) -> None:
        """Writes history.csv, and a checkpoint as `save_if_cheap` does."""
        session = self.session
        try:
            if session.ranks.first:
                store.write_rows(session.directory / HISTORY_CSV, session.columns, session.history)
        except OSError as error:  # the rows are also in the checkpoint, and written again with the next row
            self.reporter.say(f"warning: {HISTORY_CSV} cannot be written ({error.strerror}); training continues")
        self.save_if_cheap()
