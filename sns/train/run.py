"""A run, from its configuration to its record, on one screen."""

import warnings
from contextlib import nullcontext
from functools import partial

import torch
import yaml

from sns.common.errors import UserError
from sns.common.files import clear_leftovers, write_text
from sns.common.precision import training_precision
from sns.common.ranks import Ranks
from sns.config.compose import parse
from sns.config.schema import Config, to_dict
from sns.method import METHODS
from sns.model import MODELS
from sns.record import store
from sns.record.lock import RunLock
from sns.record.schema import Result
from sns.track.client import Tracker
from sns.train import memory
from sns.train.distributed import join
from sns.train.epoch import train_until
from sns.train.evaluate import divergence, history_row, longest_evaluation
from sns.train.progress import Reporter
from sns.train.result import finish
from sns.train.saver import Saver
from sns.train.schedule import evaluation_steps
from sns.train.session import Session, start
from sns.train.stop import Interrupted, StopSignal, hand_over


def configure(tree: object) -> Config:
    """A composed configuration tree, checked; ConfigError, one sentence, for anything wrong in
    it."""
    return parse(
        tree,
        {name: cls.Config for name, cls in MODELS.items()},
        {name: cls.Config for name, cls in METHODS.items()},
    )


def run(config: Config, command: str = "") -> Result:
    """Trains one cell to its end and leaves its record, resuming where an earlier session stopped.

    A run that is over is not touched again: its result is returned. Raises Interrupted when asked
    to stop, with a checkpoint on disk; UserError, one sentence, for anything the user can mend. A
    diverged run is a result, no error.
    """
    directory, ranks = config.directory, join(config.train.device)
    if ranks.from_first(lambda: store.is_finished(directory)):
        return ranks.from_first(lambda: store.read(directory).result)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with RunLock(directory) if ranks.first else nullcontext() as lock, training_precision(config.train.precision):
            with StopSignal(config.train.time_limit_minutes) as stop:
                result = _run_alone(config, command, stop, lock, ranks)
            if stop.received is not None:
                raise Interrupted(
                    f"{config.run_id} is over, whatever else was to come is not ({stop.received})", stop.received
                )
            return result
    except Interrupted as interrupted:
        hand_over(interrupted.cause)
        raise
    except OSError as error:
        where = error.filename or directory
        raise UserError(
            f"{where} cannot be used ({error.strerror}): make room or name another folder by results=..."
        ) from None


def _run_alone(config: Config, command: str, stop: StopSignal, lock: RunLock | None, ranks: Ranks) -> Result:
    """The run, by those who hold its lock; once more in smaller passes if the device is too
    small."""
    if ranks.from_first(lambda: store.is_finished(config.directory)):  # another process finished it meanwhile
        return ranks.from_first(lambda: store.read(config.directory).result)
    if ranks.first:
        clear_leftovers(config.directory)
    try:
        return _attempt(config, command, stop, lock, ranks)
    except memory.DoesNotFit as fault:
        if ranks.world > 1:  # the others are waiting in the middle of an update
            raise memory.no_room(config, fault) from None
        config, note = memory.smaller(config, fault)
    memory.release()
    try:
        return _attempt(config, command, stop, lock, ranks, note)
    except memory.DoesNotFit as fault:
        raise memory.no_room(config, fault) from None


def _attempt(config: Config, command: str, stop: StopSignal, lock: RunLock | None, ranks: Ranks, *notes: str) -> Result:
    if ranks.first:
        write_text(config.directory / store.CONFIG, yaml.safe_dump(to_dict(config), sort_keys=False))
    sizes = config.batch.micro or config.batch.size, config.measure.batch_size or config.batch.size
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            session = start(config, ranks=ranks)
        stop.deadline.begin(longest_evaluation(session.history))
        sizes = session.pass_size, session.measure_size
        title = f"{config.setting} {config.method.name} b{config.batch.size} s{config.seed}"
        shown, where = (config.train.progress, config.directory) if ranks.first else ("none", None)
        with (
            Reporter(shown, where, title, session.total) as reporter,
            Tracker(config, session.history, reporter.say, ranks.first) as tracker,
        ):
            for line in [*notes, *session.notes, *(f"warning: {warning.message}" for warning in told)]:
                reporter.say(line)
            if session.step:
                reporter.say(f"resumed at update {session.step} of {session.total}")
            reason = _train(session, reporter, Saver(session, reporter, stop, lock), tracker)
            result = ranks.from_first(lambda: finish(session, reason, command, stop))
            reporter.say(_closing(result))
        return result
    except torch.OutOfMemoryError as error:
        raise memory.DoesNotFit(*sizes, error) from None


def _train(session: Session, reporter: Reporter, saver: Saver, tracker: Tracker) -> str | None:
    """Updates and evaluations to the end; the reason if the run diverged. Raises what `Saver.save`
    raises."""
    config = session.config
    steps = evaluation_steps(config.train.epochs, config.measure.every, len(session.dataset.train), config.batch.size)
    for target in steps[len(session.history) :]:
        while not train_until(session, target, saver.due):
            saver.save()
        saver.before_evaluation()
        row = history_row(session)
        reason = session.ranks.from_first(partial(divergence, session, row))
        if reason is not None:
            return reason
        session.history.append(row)
        reporter.evaluation(row, *_pace(session))
        saver.evaluated()
        tracker.update()
    saver.secure()
    return None


def _pace(session: Session) -> tuple[float, float]:
    """Training images a second and the seconds that the remaining updates and evaluations will
    take."""
    spent = session.seconds["train"] + session.seconds["measure"]
    speed = session.step * session.config.batch.size / max(session.seconds["train"], 1e-9)
    return speed, spent / session.step * (session.total - session.step)


def _closing(result: Result) -> str:
    if result.status != "ok":
        return f"{result.status}: {result.reason}"
    return f"done: test accuracy {result.final['test_accuracy']:.4f}, gap {result.final['gap']:.4f}"
