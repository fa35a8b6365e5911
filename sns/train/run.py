"""A run, from its configuration to its record, on one screen."""

import time

import torch
import yaml

from sns.config import Config, to_dict
from sns.errors import UserError
from sns.method import METHODS
from sns.model import MODELS
from sns.parse import parse
from sns.precision import training_precision
from sns.record import store
from sns.record.schema import HISTORY, Result
from sns.train.epoch import train_until
from sns.train.evaluate import divergence, history_row
from sns.train.finish import finish
from sns.train.lock import RunLock
from sns.train.progress import Reporter
from sns.train.schedule import evaluation_steps
from sns.train.session import Session, start
from sns.train.signals import Interrupted, StopSignal


def configure(tree: object) -> Config:
    """A composed configuration tree, checked; ConfigError, one sentence, for anything wrong in it."""
    return parse(
        tree,
        {name: cls.Config for name, cls in MODELS.items()},
        {name: cls.Config for name, cls in METHODS.items()},
    )


def run(config: Config, command: str = "") -> Result:
    """Trains one cell to its end and leaves its record, resuming where an earlier session stopped.

    A run that is over is not touched again: its result is returned. Raises Interrupted when asked to stop, with a
    checkpoint on
    disk; UserError, one sentence, for anything the user can mend. A diverged run is a result, not an error.
    """
    directory = config.directory
    if store.is_over(directory):
        return store.read(directory).result
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with RunLock(directory), training_precision(config.train.precision), StopSignal() as stop:
            result = _run_alone(config, command, stop)
            if stop.received is not None:
                raise Interrupted(f"{config.run_id} is over, whatever else was to come is not ({stop.received})")
            return result
    except OSError as error:
        where = error.filename or directory
        raise UserError(
            f"{where} cannot be used ({error.strerror}): make room or name another folder by results=..."
        ) from None
    except torch.OutOfMemoryError:
        raise UserError(
            f"{config.run_id} does not fit the device's memory: lower batch.micro (now {config.batch.micro}) to a "
            f"smaller multiple of batch.ghost={config.batch.ghost}, or measure.batch_size={config.measure.batch_size}"
        ) from None


def _run_alone(config: Config, command: str, stop: StopSignal) -> Result:
    """The run, by the one process that holds its lock."""
    if store.is_over(config.directory):  # another process finished it meanwhile
        return store.read(config.directory).result
    store.write_text(config.directory / store.CONFIG, yaml.safe_dump(to_dict(config), sort_keys=False))
    session = start(config)
    title = f"{config.setting} {config.method.name} b{config.batch.size} s{config.seed}"
    with Reporter(config.train.progress, config.directory, title, session.total) as reporter:
        for note in session.notes:
            reporter.say(note)
        if session.step:
            reporter.say(f"resumed at update {session.step} of {session.total}")
        reason = _train(session, reporter, stop)
        result = finish(session, reason, command)
        reporter.say(_closing(result))
    return result


def _train(session: Session, reporter: Reporter, stop: StopSignal) -> str | None:
    """Updates and evaluations to the end; the reason if the run diverged. Saves and raises Interrupted if asked to
    stop.
    """
    config = session.config
    limit = session.total
    if config.train.stop_after is not None:
        limit = min(limit, session.step + config.train.stop_after)
    saved = time.monotonic()

    def pause() -> bool:
        reporter.step(session.step)
        late = time.monotonic() - saved > config.train.checkpoint_minutes * 60
        return late or stop.received is not None or session.step >= limit

    def save_and_leave_if_asked() -> None:
        nonlocal saved
        session.save()
        saved = time.monotonic()
        if stop.received is not None or session.step >= limit < session.total:
            why = stop.received or f"train.stop_after={config.train.stop_after}"
            raise Interrupted(
                f"stopped at update {session.step} of {session.total} ({why}); the same command resumes it"
            )

    steps = evaluation_steps(config.train.epochs, config.measure.every, len(session.dataset.train), config.batch.size)
    for target in steps[len(session.history) :]:
        while not train_until(session, target, pause):
            save_and_leave_if_asked()
        row = history_row(session)
        reason = divergence(session, row)
        if reason is not None:
            return reason
        session.history.append(row)
        store.write_rows(session.directory / store.HISTORY_CSV, HISTORY, session.history)
        reporter.evaluation(row, *_pace(session))
        if pause() or session.step == session.total:
            save_and_leave_if_asked()
    return None


def _pace(session: Session) -> tuple[float, float]:
    """Training images a second and the seconds that the remaining updates and evaluations will take."""
    spent = session.seconds["train"] + session.seconds["measure"]
    speed = session.step * session.config.batch.size / max(session.seconds["train"], 1e-9)
    return speed, spent / session.step * (session.total - session.step)


def _closing(result: Result) -> str:
    if result.status != "ok":
        return f"{result.status}: {result.reason}"
    return f"done: test accuracy {result.final['test_accuracy']:.4f}, gap {result.final['gap']:.4f}"
