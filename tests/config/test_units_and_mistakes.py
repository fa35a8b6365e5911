"""What a user reads on the terminal: mistakes in one sentence, help, colours, short logs."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, TINY, compose_tree
from hydra.errors import HydraException

from sns.common.errors import ConfigError, RecordError, UserError
from sns.config.compose import all_keys
from sns.config.schema import Config
from sns.launch.mistakes import explain
from sns.record import store
from sns.train.configure import configure, registered_options
from sns.train.run import run

CONFIGS = ROOT / "configs"
FAST = [*TINY, "measure.hessian=false", "measure.spectra=false"]
COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-7]|4[0-7]|38|48|9[0-7])[;m]")


def train(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/train.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epoch=3", "there is no train.epoch (did you mean train.epochs?); train.* has checkpoint_minutes, "),
        ("optim.lrr=1", "there is no optim.lrr (did you mean optim.lr?)"),
        ("model.width=3", "(did you mean model.widths?)"),
        ("method.lamda=1", "there is no method.lamda"),
        ("epochs=3", "there is no epochs (did you mean train.epochs?)"),
        ("metod=spectral", "there is no metod (did you mean method?); there are batch, data, "),
        ("+train.epochs=3", "train.epochs exists already: write train.epochs=VALUE without the +"),
        ("method.epsilon=2", "method.epsilon belongs to method=adversarial"),
        ("method.scale=2", "method.scale belongs to method=decay, method="),
        (
            "method=spectal",
            "there is no method=spectal (did you mean spectral?); choose one of adversarial, batch_norm, ",
        ),
        ("setting=vgg", "there is no setting=vgg (did you mean vgg_cifar10?)"),
        ("batch=medium", "there is no batch=medium; choose one of large, small"),
        ("track=of", "there is no track=of"),
        ("experiment=tabel1", "there is no experiment=tabel1 (did you mean table1?)"),
        ("seed", "'seed' cannot be read as KEY=VALUE"),
        ("train.epochs=[1", "'train.epochs=[1' cannot be read as KEY=VALUE"),
        ("results=/é", """; write other than ASCII in quotes: 'results="é"'"""),
    ],
)
def test_a_mistyped_word_is_reported_with_the_nearest_one(override: str, says: str) -> None:
    with pytest.raises((HydraException, ConfigError)) as caught:
        configure(compose_tree(*TINY, override))
    message = str(caught.value) if isinstance(caught.value, ConfigError) else explain(caught.value, CONFIGS)
    assert message.startswith(says) or says in message
    assert "\n" not in message


def test_every_key_is_listed() -> None:
    keys = set(all_keys(registered_options(), ("setting", "experiment")))
    tree = compose_tree(*TINY)
    assert {str(key) for key in tree if key != "regimes"} <= keys
    assert {f"{key}.{name}" for key in ("train", "data", "track", "model", "method") for name in tree[key]} <= keys


@pytest.mark.parametrize("flags", [(), ("-m",)])
def test_a_typo_ends_the_command_with_one_line(tmp_path: Path, flags: tuple[str, ...]) -> None:
    done = train(*flags, *FAST, f"results={tmp_path}", "train.epoch=3")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no train.epoch (did you mean train.epochs?)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("switch", ["SNS_DEBUG", "HYDRA_FULL_ERROR"])
def test_the_stack_trace_is_shown_on_request(switch: str) -> None:
    assert "Traceback" in train("train.epoch=3", **{switch: "1"}).stderr


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.mode=graph", "train.mode=graph needs a CUDA GPU, this run is on cpu; use train.mode=auto"),
        ("data=cifar10 data.root=/nowhere data.download=false", "/nowhere/cifar-10-batches-py does not exist"),
    ],
)
def test_what_is_missing_is_reported(tiny: Callable[..., Config], override: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        run(tiny("data.subset=null", "data.test_subset=null", *override.split()))


def test_bf16_needs_no_gpu(tiny: Callable[..., Config]) -> None:
    assert run(tiny("train.precision=bf16", "train.epochs=0.2", "measure.hessian=false")).status == "ok"


def test_a_results_folder_of_another_version_is_reported(tiny: Callable[..., Config]) -> None:
    config = tiny()
    config.directory.mkdir(parents=True)
    (config.directory / store.RESULT).write_text('{"schema": 99}')
    with pytest.raises(RecordError, match="has schema 99, this version reads 1 and 2: use the version that wrote it"):
        run(config)


def test_help_shows_examples_groups_and_fields() -> None:
    page = train("--help").stdout
    for words in (
        "-m experiment=table1 seed=0,1,2",
        "method: adversarial, batch_norm,",
        "epochs: 20",
        "SNS_DEBUG=1",
        "75",
    ):
        assert words in page
    choices = ("setting: ", "method: ", "experiment: ")  # Hydra writes those of a group in one line
    assert max(len(line) for line in page.splitlines() if not line.startswith(choices)) <= 120


def on_a_terminal(*arguments: str, **environment: str) -> bytes:
    """The output of the training command on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "scripts/train.py"), *arguments]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"} | environment)
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    assert process.wait() == 0
    return written


def test_a_terminal_gets_a_bar_with_colours_unless_they_are_unwanted(tmp_path: Path) -> None:
    arguments = [*FAST, "train.progress=auto", f"results={tmp_path}"]
    assert COLOUR.search(on_a_terminal(*arguments, "seed=0", NO_COLOR=""))
    plain = on_a_terminal(*arguments, "seed=1", NO_COLOR="1")
    assert b"\x1b[" in plain  # still a bar
    assert not COLOUR.search(plain)


def test_a_file_gets_one_plain_line_an_evaluation(tmp_path: Path) -> None:
    done = train(*FAST, "train.progress=auto", f"results={tmp_path}")
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(word in line for word, line in zip(("disabled", "epoch 0.96", "epoch", "done"), lines, strict=True)), (
        lines
    )
