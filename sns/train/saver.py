"""When a run saves itself, when it leaves, and what becomes of it where nothing can be written."""

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

ATTEMPTS = 3  # checkpoints in a row that cannot be written before the run gives up
CHEAP = 0.02  # of the time since the last checkpoint: what one may cost at the end of an epoch
LIMIT = "train.stop_after"
WISHES = ("", "save", LIMIT, "SIGINT", "SIGTERM", TIME_LIMIT, "SIGUSR2")  # of several processes the strongest counts


def longest_evaluation(history: Sequence[Mapping[str, float]]) -> float:
    """Seconds that the longest evaluation so far took; 0 before the first."""
    marks = [0.0, *(row["measure_seconds"] for row in history)]
    return max((after - before for before, after in itertools.pairwise(marks)), default=0.0)


class Saver:
    """Asked after every update and every evaluation; all processes of a run come to the same
    decision."""

    def __init__(self, session: Session, reporter: Reporter, stop: StopSignal, lock: RunLock | None) -> None:
        """`lock`: of the one process that writes."""
        self.session, self.reporter, self.stop, self.lock = session, reporter, stop, lock
        stop.deadline.begin(longest_evaluation(session.history))
        config = session.config.train
        self.interval = config.checkpoint_minutes * 60
        self.limit = session.total
        if config.stop_after is not None:
            self.limit = min(self.limit, session.step + config.stop_after)
        self.saved, self.cost = time.monotonic(), 0.0  # seconds; the cost is that of the last checkpoint
        self.failures = 0
        self.wish = ""
        self.begun, self.first = self.saved, session.step
        self.secured: tuple[int, int] | None = None  # updates and evaluations in the newest checkpoint
        reporter.saved(session.step)

    def due(self, cheap: bool = False) -> bool:
        """Whether training should pause for `save`. `cheap`: also if a checkpoint costs little."""
        self.reporter.pace(self.session.step, self.begun - self.stop.deadline.began, self.stop.deadline.longest)
        if self.lock is not None:
            self.lock.check()
        since = time.monotonic() - self.saved
        wish = self.stop.asked() or ""
        if not wish and self.session.step >= self.limit:
            wish = LIMIT
        if not wish and (since > self.interval or (cheap and self.cost <= CHEAP * since)):
            wish = "save"
        self.wish = WISHES[self.session.ranks.most(WISHES.index(wish))]
        return self.wish != ""

    def save(self) -> None:
        """Writes the checkpoint, and raises Interrupted if this session is to end before the run
        does.

        CannotSave where it cannot be written and that matters now; else the run goes on, with a
        line in its log.
        """
        session, began = self.session, time.monotonic()
        if self.lock is not None:
            self.lock.check()
        fault = None
        try:
            session.save()
        except CannotSave as error:
            fault = error
        if self._judge(fault):
            self.secured = session.step, len(session.history)
            self.reporter.saved(session.step)
        self.saved = time.monotonic()
        self.cost = self.saved - began
        if WISHES.index(self.wish) > WISHES.index(LIMIT) or (self.wish == LIMIT and session.step < session.total):
            why = f"{LIMIT}={session.config.train.stop_after}" if self.wish == LIMIT else self.wish
            raise Interrupted(
                f"stopped at update {session.step} of {session.total} ({why}); the same command resumes it", self.wish
            )

    def _judge(self, fault: CannotSave | None) -> bool:
        """Whether the checkpoint was written, and what it means if not; on every process alike."""
        if not self.session.ranks.most(fault is not None):
            self.failures = 0
            return True
        self.failures += 1
        fault = fault or CannotSave("the first process could not write the checkpoint")
        if self.failures >= ATTEMPTS or WISHES.index(self.wish) >= WISHES.index(LIMIT):
            raise fault from None
        self.reporter.say(f"warning: {first_line(fault)}; training goes on")
        return False

    def save_if_cheap(self) -> None:
        """At the end of an epoch: a checkpoint if it is time for one or costs little beside the
        work it secures."""
        if self.due(cheap=True):
            self.save()

    def before_evaluation(self) -> None:
        """`save_if_cheap`; and the end of this session where the evaluation may take longer than
        what is left."""
        session = self.session
        if not session.history and session.step > self.first:  # none was timed yet: as long as an epoch, at most
            an_update = (time.monotonic() - self.begun) / (session.step - self.first)
            self.stop.deadline.expect(an_update * session.task.length.examples / session.task.length.batch)
        self.save_if_cheap()

    def secure(self) -> None:
        """After the last evaluation: a checkpoint of it, so that what comes now can be stopped
        without loss."""
        stopping = self.due() and WISHES.index(self.wish) > WISHES.index(LIMIT)
        if stopping or self.secured != (self.session.step, len(self.session.history)):
            self.save()

    def evaluated(self) -> None:
        """After a new row of the history: writes the table, and a checkpoint as `save_if_cheap`
        does."""
        session = self.session
        try:
            if session.ranks.first:
                store.write_rows(session.directory / HISTORY_CSV, session.columns, session.history)
        except OSError as error:  # the rows are in the checkpoint too, and written again with the next one
            self.reporter.say(f"warning: {HISTORY_CSV} cannot be written ({error.strerror}); training goes on")
        self.save_if_cheap()
