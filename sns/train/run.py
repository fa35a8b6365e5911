"""A run, from its configuration to its record, on one screen."""

import warnings
from collections.abc import Callable
from functools import partial

import torch
import yaml

from sns.common.files import clear_leftovers, write_text
from sns.common.precision import fastest_kernels
from sns.config.schema import Config, to_dict
from sns.data.identity import require_same_images
from sns.optim.schedule import learning_rate
from sns.record import store
from sns.record.lock import RunLock
from sns.record.schema import CONFIG, Result
from sns.track.client import Tracker
from sns.train.configure import configure
from sns.train.distributed import join
from sns.train.guard import alone_in, disk_errors
from sns.train.memory import PassSizes, release
from sns.train.progress import Reporter
from sns.train.result import divergence, finish
from sns.train.saver import Saver
from sns.train.session import Session, start
from sns.train.stop import StopSignal, stopping
from sns.train.turns import Place, Run, Steps, take_turns

__all__ = ["configure", "run"]


def run(config: Config, command: str = "") -> Result:
    """Trains one run to its end and writes its record; resumes where an earlier session stopped.

    The result of a finished run is returned without training. A diverged run is a result, not an
    error. Raises Interrupted if asked to stop, with a checkpoint on disk; UserError, one sentence,
    for anything that the user can fix.
    """
    return alone(config, partial(training, config, command))


def alone(config: Config, steps: Callable[[StopSignal], Steps[Result]]) -> Result:
    """The result of one run that has the process for itself."""
    with stopping(config.train.time_limit_minutes, config.run_id) as stop:
        (result,) = take_turns([Run(steps(stop), config.train.precision)], [Place()])
    return result


def training(config: Config, command: str, stop: StopSignal) -> Steps[Result]:
    """`run` in steps: the other runs of this process go on after each update."""
    ranks = join(config.train.device)
    if ranks.from_first(lambda: store.is_finished(config.directory)):
        return ranks.from_first(lambda: _finished(config))
    sizes = PassSizes(config, ranks)
    with disk_errors(config), alone_in(config.directory, ranks) as lock:
        if ranks.from_first(lambda: store.is_finished(config.directory)):  # meanwhile, by another process
            return ranks.from_first(lambda: _finished(config))
        while True:
            try:
                return (yield from _train(sizes, command, stop, lock))
            except torch.OutOfMemoryError as error:
                sizes.reduce(error)  # UserError the second time
            release()


def _finished(config: Config) -> Result:
    """The record of the finished run; RecordError if it belongs to other images."""
    record = store.read(config.directory)
    require_same_images(config, record)
    return record.result


def _train(sizes: PassSizes, command: str, stop: StopSignal, lock: RunLock | None) -> Steps[Result]:
    config, ranks = sizes.config, sizes.ranks
    # Set up: build the task and resume from the checkpoint.
    if ranks.first:
        clear_leftovers(config.directory)
        write_text(config.directory / CONFIG, yaml.safe_dump(to_dict(config), sort_keys=False))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        session = start(config, ranks=ranks)
    sizes.chosen = session.task.sizes
    with (
        Reporter.of(session) as reporter,
        Tracker(config, session.history, reporter.say, ranks.first) as tracker,
    ):
        saver = Saver(session, reporter, stop, lock)
        for line in [*sizes.notes, *session.notes, *(f"warning: {warning.message}" for warning in caught)]:
            reporter.say(line)
        if session.step:
            reporter.say(f"resumed at update {session.step} of {session.total}")
        # Train: updates up to each evaluation, with pauses for checkpoints.
        reason = None
        for target in session.evaluations_left():
            while session.step < target:
                with session.timed("train"):
                    paused = False
                    while session.step < target and not paused:
                        advance(session)
                        yield from session.turn_of_others()
                        paused = saver.due()
                if session.step < target:
                    saver.save()
            saver.before_evaluation()
            row = session.evaluate()
            reason = ranks.from_first(partial(divergence, session, row))
            if reason is not None:
                break
            session.history.append(row)
            reporter.evaluation(row, *session.pace())
            saver.after_evaluation()
            tracker.update()
        # Finish: make the final measurements and write the record.
        if reason is None:
            saver.after_last_evaluation()
        result = ranks.from_first(lambda: finish(session, reason, command, stop))
        reporter.say(f"done: {result.outcome}" if reason is None else result.outcome)
    return result


def advance(session: Session) -> None:
    """One update: the host sets learning rates and draws the batch, the device does the rest.

    The host waits only if it is more than two updates ahead.
    """
    for optimizer in session.task.optimizers:
        optimizer.set_rate(learning_rate(session.step, session.total, optimizer.options))
    session.rate = session.task.optimizers[0].rate
    session.task.draw()
    with fastest_kernels():
        session.execute()
    session.ahead.mark()
    session.step += 1
