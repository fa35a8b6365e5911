"""Configurations compose, are checked, and identify a run."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, TINY, compose_tree
from omegaconf import OmegaConf

from sns.common.errors import ConfigError
from sns.config.compose import SECTIONS
from sns.config.schema import Config, MeasureConfig, identity, later
from sns.method import METHODS
from sns.model import MODELS
from sns.optim.nesterov import NesterovOptions
from sns.train.configure import configure

SETTINGS = sorted(
    path.stem for path in (ROOT / "configs/setting").glob("*.yaml") if "/task: gan" not in path.read_text()
)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("regime", ["small", "large"])
@pytest.mark.parametrize("method", ["vanilla", "decay", "adversarial", "spectral"])
def test_every_cell_composes_with_its_own_learning_rate(setting: str, regime: str, method: str) -> None:
    tree = compose_tree(f"setting={setting}", f"batch={regime}", f"method={method}")
    config = configure(tree)
    regimes = yaml.safe_load((ROOT / f"configs/setting/{setting}.yaml").read_text())["regimes"]
    assert config.setting == setting
    assert config.batch.size == regimes[regime]["size"]
    assert config.optim.lr == regimes[regime]["lr"]
    assert config.task.alpha == regimes[regime]["alpha"]
    assert config.run_id.startswith(f"{setting}__{method}__b{config.batch.size}__s0__")


EXPERIMENTS = sorted(
    path.relative_to(ROOT / "configs/experiment") for path in (ROOT / "configs/experiment").rglob("*.yaml")
)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=str)
def test_every_experiment_composes_and_has_the_folder_of_its_name(path: Path) -> None:
    config = configure(compose_tree(f"experiment={path.with_suffix('')}"))
    assert config.experiment.name in path.with_suffix("").parts


def offered(path: Path) -> dict[str, Any]:
    """The options of a file of configs/model or configs/method, in a setting without any."""
    tree = OmegaConf.create({"batch": {"regime": "small"}, "regimes": {"small": {}}, "options": OmegaConf.load(path)})
    options: dict[str, Any] = OmegaConf.to_container(tree.options, resolve=True)
    return options


def test_every_field_of_the_fixed_sections_can_be_set_on_the_command_line() -> None:
    tree = compose_tree("setting=vgg_cifar10")
    for name, cls in SECTIONS.items():
        assert set(tree[name]) == {field.name for field in dataclasses.fields(cls)}, name


def test_yaml_files_of_models_and_methods_state_no_default_again() -> None:
    """Defaults, the paper's, stand in the dataclasses; a YAML file names its class and what follows
    from the setting."""
    for group, registry in (("model", MODELS), ("method", METHODS)):
        for path in (ROOT / f"configs/{group}").glob("*.yaml"):
            stated = OmegaConf.to_container(OmegaConf.load(path))
            cls = registry[stated["name"]].Config
            fields = {field.name for field in dataclasses.fields(cls)}
            assert set(stated) <= fields, path
            assert all(name == "name" or str(value).startswith("${") for name, value in stated.items()), path
            assert cls(**offered(path)) == cls(name=stated["name"]), path


def unread(cls: type, owners: str, files: list[Path]) -> list[str]:
    """Fields of an options dataclass that `files` never read as `<owner>.<field>`."""
    text = "\n".join(path.read_text() for path in files if path != ROOT / "sns/config/schema.py")
    names = [field.name for field in dataclasses.fields(cls)]
    return [name for name in names if not re.search(rf"\b(?:{owners})\.{name}\b(?!=)", text)]


def test_every_field_is_read_somewhere() -> None:
    everywhere = [*(ROOT / "sns").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    for section, cls in SECTIONS.items():
        assert not unread(cls, f"{section}|config", everywhere), section
    own = (ROOT / "sns/config/schema.py").read_text()
    for field in dataclasses.fields(Config):
        outside = "\n".join(path.read_text() for path in everywhere if path.name != "schema.py")
        assert re.search(rf"\bconfig\.{field.name}\b", outside) or f"self.{field.name}" in own, field.name
    for model in MODELS.values():
        file = ROOT / "sns/model" / f"{model.__module__.split('.')[-1]}.py"
        assert unread(model.Config, "config", [file]) in ([], ["name"]), model
    for method in METHODS.values():
        bases = (*method.__mro__, *method.Config.__mro__)
        modules = {base.__module__ for base in bases if base.__module__.startswith("sns.method.")}
        files = [ROOT / f"{name.replace('.', '/')}.py" for name in modules]
        assert unread(method.Config, "options", files) in ([], ["name"]), method


def test_an_unread_field_is_noticed() -> None:
    @dataclasses.dataclass
    class Unused(MeasureConfig):
        forgotten: int = 0

    assert unread(Unused, "measure|config", list((ROOT / "sns").rglob("*.py"))) == ["forgotten"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs=abc", "train.epochs"),
        ("train.epochs=0", "train.epochs=0.0 must be positive"),
        ("train.epochs=inf", "train.epochs=inf must be a finite number"),
        ("optim.drops=[0.5,nan]", "optim.drops=nan must be a finite number"),
        ("train.precision=fp8", "train.precision=fp8 is unknown; choose one of fp32, tf32, bf16"),
        ("train.memory_format=x", "train.memory_format=x is unknown; choose one of auto, "),
        ("train.stop_after=0", "train.stop_after=0 must be positive, or null for the end"),
        ("measure.precision=tf32", "measure.precision=tf32 is unknown; choose one of fp32, bf16"),
        ("batch.size=100 batch.micro=50 batch.ghost=30", "batch.ghost=30"),
        ("batch.size=100 batch.micro=50", "batch.micro=50 must be a multiple of batch.ghost=None"),
        ("data.gcn=zca", "choose one of std, l2, none"),
        ("data.name=cifar11", "data.name=cifar11 is unknown"),
        ("optim.drops=[0.75,0.5]", "optim.drops"),
        ("model.dropout=[[0.1]]", "model.dropout"),
        ("++model.widht=3", "did you mean model.widths?"),
        ("++method.name=spectal", "did you mean spectral?"),
        ("++sede=3", "did you mean seed?"),
        ("task.alpha=${nothing}", "cannot be resolved"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        configure(compose_tree(*TINY, *override.split()))
    assert "\n" not in str(caught.value)


def test_identity_ignores_what_cannot_change_the_result_and_nothing_else() -> None:
    base = configure(compose_tree(*TINY))
    free = ["results=elsewhere", "train.device=cpu", "train.threads=2", "data.root=/x", "measure.batch_size=7"]
    assert configure(compose_tree(*TINY, *free)).run_id == base.run_id
    for changed in ("seed=1", "optim.lr=0.5", "train.epochs=3", "model.hidden=9", "method=spectral", "data.gcn=l2"):
        assert configure(compose_tree(*TINY, changed)).run_id != base.run_id, changed
    other_seed = configure(compose_tree(*TINY, "seed=1"))
    assert other_seed.variant == base.variant
    assert configure(compose_tree(*TINY, "optim.lr=0.5")).variant != base.variant


def test_a_field_added_later_leaves_old_run_ids_alone() -> None:
    @dataclasses.dataclass
    class Grown(NesterovOptions):
        warmup: int = later(0)

    assert identity(Grown(lr=0.1)) == identity(NesterovOptions(lr=0.1))
    assert identity(Grown(lr=0.1, warmup=1)) == identity(NesterovOptions(lr=0.1)) | {"warmup": 1}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.resolution=0", "data.resolution=0 must be positive"),
        ("data.holdout=-1", "data.holdout=-1 must be positive"),
        ("method=decay method.scale=-1", "method.scale=-1.0 must not be negative"),
        ("method=spectral method.scale=-1", "method.scale=-1.0 must not be negative"),
    ],
)
def test_later_fields_are_checked_and_count_only_where_they_are_set(override: str, says: str) -> None:
    plain = configure(compose_tree(*TINY, *override.split()[:-1])).run_id
    key = override.split()[-1].split("=")[0]
    assert configure(compose_tree(*TINY, *override.split()[:-1], f"{key}=2")).run_id != plain
    with pytest.raises(ConfigError, match=re.escape(says)):
        configure(compose_tree(*TINY, *override.split()))


def test_a_setting_scales_every_penalty_by_its_regimes_dose_factor() -> None:
    for method in ("decay", "spectral"):
        for regime, factor in (("small", 7.0), ("large", 1.0)):
            tree = compose_tree(*TINY, f"method={method}", f"batch={regime}", "+regimes.small.dose_factor=7")
            assert configure(tree).method.scale == factor


def test_run_id_is_the_same_on_every_machine() -> None:
    """A literal run_id, so that no change of the hash, which orphans every record, is unnoticed."""
    config = configure(
        compose_tree("setting=vgg_cifar10", "method=spectral", "batch=large", "seed=3", "train.precision=fp32")
    )
    assert config.run_id == "vgg_cifar10__spectral__b4096__s3__e0f2a824"


def test_npz_identity_is_the_archive_name_not_its_folder() -> None:
    def run_id(path: str) -> str:
        return configure(compose_tree("setting=vgg_cifar10", "data=npz", f"data.path={path}")).run_id

    assert run_id("/a/x.npz") == run_id("/b/x.npz") != run_id("/a/y.npz")


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("decay", "factor"),
        ("spectral_operator", "factor"),
        ("adversarial", "epsilon"),
        ("layerwise_jacobian", "factor"),
        ("sam", "rho"),
    ],
)
def test_strength_sets_the_option_that_says_how_strong_a_method_is(method: str, option: str) -> None:
    by_name = configure(compose_tree(f"method={method}", f"method.{option}=0.3"))
    assert configure(compose_tree(f"method={method}", "strength=0.3")) == by_name
    assert configure(compose_tree(f"method={method}")) == configure(compose_tree(f"method={method}", "strength=null"))


def test_a_method_without_strength_says_so() -> None:
    with pytest.raises(ConfigError, match=r"strength=0\.3 has no meaning for method=vanilla"):
        configure(compose_tree("strength=0.3"))
