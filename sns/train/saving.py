"""When a run saves itself, when it leaves, and what becomes of it where nothing can be written."""

import time

from sns.errors import first_line
from sns.record import store
from sns.record.schema import HISTORY
from sns.train.checkpoint import CannotSave
from sns.train.lock import RunLock
from sns.train.progress import Reporter
from sns.train.session import Session
from sns.train.signals import Interrupted, StopSignal

ATTEMPTS = 3  # checkpoints in a row that cannot be written before the run gives up
CHEAP = 0.02  # of the time since the last checkpoint: what one may cost at the end of an epoch


class Saver:
    """Asked after every update and every evaluation."""

    def __init__(self, session: Session, reporter: Reporter, stop: StopSignal, lock: RunLock) -> None:
        self.session, self.reporter, self.stop, self.lock = session, reporter, stop, lock
        config = session.config.train
        self.interval = config.checkpoint_minutes * 60
        self.limit = session.total
        if config.stop_after is not None:
            self.limit = min(self.limit, session.step + config.stop_after)
        self.saved, self.cost = time.monotonic(), 0.0  # seconds; the cost is that of the last checkpoint
        self.failures = 0

    def due(self) -> bool:
        """Whether training should pause for `save`."""
        self.reporter.step(self.session.step)
        self.lock.check()
        late = time.monotonic() - self.saved > self.interval
        return self.stop.asked() is not None or late or self.session.step >= self.limit

    def save(self) -> None:
        """Writes the checkpoint, and raises Interrupted if this session is to end before the run does.

        CannotSave where it cannot be written and that matters now; else the run goes on, with a line in its log.
        """
        session, asked = self.session, self.stop.asked()
        leaving = asked is not None or session.step >= self.limit
        began = time.monotonic()
        self.lock.check()
        try:
            session.save()
            self.failures = 0
        except CannotSave as error:
            self.failures += 1
            if leaving or self.failures >= ATTEMPTS:
                raise
            self.reporter.say(f"warning: {first_line(error)}; training goes on")
        self.saved = time.monotonic()
        self.cost = self.saved - began
        if asked is not None or self.limit <= session.step < session.total:
            why = asked or f"train.stop_after={session.config.train.stop_after}"
            raise Interrupted(
                f"stopped at update {session.step} of {session.total} ({why}); the same command resumes it", why
            )

    def save_if_cheap(self) -> None:
        """At the end of an epoch: a checkpoint if it is time for one or costs little beside the work it secures."""
        if self.cost <= CHEAP * (time.monotonic() - self.saved) or self.due():
            self.save()

    def evaluated(self) -> None:
        """After a new row of the history: writes the table, and a checkpoint as `save_if_cheap` does."""
        session = self.session
        try:
            store.write_rows(session.directory / store.HISTORY_CSV, HISTORY, session.history)
        except OSError as error:  # the rows are in the checkpoint too, and written again with the next one
            self.reporter.say(f"warning: {store.HISTORY_CSV} cannot be written ({error.strerror}); training goes on")
        self.save_if_cheap()
