"""MotionSmoothness as a metric: tiny network, published files, what is missing, short and broken clips."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import LlamaTokenizer

from refeval.cases import Case, Category
from refeval.clips import Clip, Frame
from refeval.errors import BadInput, CorruptFile, MissingPrerequisite, UnusableClip
from refeval.metrics.motion_smoothness import SOURCE, MotionSmoothness
from refeval.metrics.networks import qalign
from refeval.metrics.networks.qalign_input import LEVELS, read_question
from refeval.place import Place
from refeval.wanted_tensors import shapes_of
from tests.metrics.seeded_weights import seeded_state

_CASE = Case(id="faceobj_1", category=Category.FACEOBJ, prompt="", references=())
_BEFORE = "USER: How would you rate the quality of this video?\n"
_AFTER = "\nASSISTANT: The quality of the video is"
_VOCABULARY = 400


@pytest.fixture(scope="module")
def metric() -> MotionSmoothness:
    metric = MotionSmoothness(tiny=True)
    metric.prepare()
    return metric


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece model of Llama's kind: byte pairs, bytes for the rest, no normalisation."""
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([_BEFORE, _AFTER, *LEVELS] * 20),
        model_writer=content,
        vocab_size=_VOCABULARY,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    path.write_bytes(content.getvalue())
    return path


@pytest.fixture
def published(tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder as it is fetched, with a small network in it."""
    config = replace(qalign.TINY, language=replace(qalign.TINY.language, vocabulary=_VOCABULARY))
    monkeypatch.setattr(qalign, "QAlignConfig", lambda: config)
    with torch.device("meta"):
        shapes = shapes_of(qalign.QAlign(config))
    state = {key: value.half() for key, value in seeded_state(shapes, weight_seed=1).items()}
    folder = tmp_path / SOURCE.repository
    folder.mkdir(parents=True)
    index: dict[str, Any] = {"weight_map": {}}
    for number, keys in enumerate((list(state)[::2], list(state)[1::2]), start=1):
        name = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({key: state[key] for key in keys}, folder / name)
        index["weight_map"] |= dict.fromkeys(keys, name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.model").write_bytes(tokenizer.read_bytes())
    return tmp_path


def _frames(count: int, *, seed: int = 0) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (count, 40, 64, 3), np.uint8)


def _with_device(weights: Path | None, device: str = "cpu") -> MotionSmoothness:
    metric = MotionSmoothness()
    metric.place = Place(weights=weights, device=device)
    return metric


def test_a_still_clip_is_smooth_and_noise_is_not(metric: MotionSmoothness) -> None:
    still = metric.score(_CASE, Clip.from_frames(np.repeat(_frames(1), 9, axis=0), 8))
    assert (still.value, still.strict_value, still.frames_used) == (1.0, 1.0, 9)
    cut = np.concatenate([np.zeros((6, 40, 64, 3), np.uint8), np.full((6, 40, 64, 3), 255, np.uint8)])
    broken = metric.score(_CASE, Clip.from_frames(cut, 8))
    assert set(broken.details["artefact_frames"]) & {5, 6}
    assert broken.value == 1 - len(broken.details["artefact_frames"]) / 12
    assert len(broken.details["window_scores"]) == 12


def test_the_same_clip_gives_the_same_score_and_json(metric: MotionSmoothness) -> None:
    scores = [metric.score(_CASE, Clip.from_frames(_frames(5), 8)) for _ in range(2)]
    again = MotionSmoothness(tiny=True)
    scores.append(again.score(_CASE, Clip.from_frames(_frames(5), 8)))
    assert scores[0] == scores[1] == scores[2]
    assert json.loads(json.dumps(scores[0].details)) == scores[0].details


def test_windows_are_judged_in_the_official_batches(metric: MotionSmoothness) -> None:
    # In float16 another batch gives other last bits.
    batches: list[int] = []
    assert metric._scorer is not None
    network = metric._scorer.network
    handle = network.register_forward_pre_hook(lambda _module, inputs: batches.append(len(inputs[1])))
    try:
        metric.score(_CASE, Clip.from_frames(_frames(70), 8))
    finally:
        handle.remove()
    assert batches == [64, 6]


def test_one_frame_cannot_jump(metric: MotionSmoothness) -> None:
    score = metric.score(_CASE, Clip.from_frames(_frames(1), 8))
    assert (score.value, score.frames_used, score.details["artefact_frames"]) == (1.0, 1, [])


class _Empty(Clip):
    def __iter__(self) -> Iterator[Frame]:
        return iter(())


def test_a_clip_without_frames_is_unusable(metric: MotionSmoothness) -> None:
    clip = Clip.from_frames(_frames(1), 8)
    clip.__class__ = _Empty
    with pytest.raises(UnusableClip, match="no frames"):
        metric.score(_CASE, clip)


def test_a_network_that_gives_no_number_is_not_a_smooth_clip() -> None:
    metric = MotionSmoothness(tiny=True)
    metric.prepare()
    assert metric._scorer is not None
    metric._scorer.network.lm_head.weight.fill_(torch.nan)
    with pytest.raises(UnusableClip, match="no number for 4 of 4 windows"):
        metric.score(_CASE, Clip.from_frames(_frames(4), 8))


def test_settings_tell_what_is_measured() -> None:
    official = {"precision": "fp16", "window": 3, "threshold": 0.025}
    assert MotionSmoothness().settings() == official
    tiny = MotionSmoothness(tiny=True)
    assert tiny.settings() == {**official, "precision": "fp32", "weights": "random"}
    assert tiny.weights() == {}


def test_published_files_are_loaded_and_hashed(published: Path) -> None:
    metric = _with_device(published)
    score = metric.score(_CASE, Clip.from_frames(_frames(4), 8))
    assert score.frames_used == 4
    # Numbers of a float16 network.
    assert all(float(np.float16(value)) == value for value in score.details["window_scores"])
    names = {Path(name).name for name in metric.weights()}
    assert names == {path.name for path in (published / SOURCE.repository).iterdir()}


@pytest.mark.parametrize("lost", ["tokenizer.model", "pytorch_model-00002-of-00002.bin"])
def test_a_missing_file_is_named_with_the_command_that_gets_it(published: Path, lost: str) -> None:
    (published / SOURCE.repository / lost).unlink()
    for use in (_with_device(published).prepare, _with_device(published).weights):
        with pytest.raises(MissingPrerequisite) as caught:
            use()
        assert lost in str(caught.value)
        assert caught.value.cure == f"refeval fetch metrics --weights {published}"


def test_without_a_weights_folder_the_cure_says_so() -> None:
    with pytest.raises(MissingPrerequisite) as caught:
        _with_device(None).weights()
    assert str(caught.value.cure).startswith("refeval fetch metrics --weights DIR")


def test_devices(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingPrerequisite, match="needs a GPU"):
        _with_device(published, "auto").prepare()
    with pytest.raises(BadInput, match="unknown device 'tpu'"):
        _with_device(published, "tpu").prepare()


def test_the_question_has_the_tokens_of_the_official_tokenizer(tokenizer: Path) -> None:
    question = read_question(tokenizer)
    official = LlamaTokenizer.from_pretrained(tokenizer.parent)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    assert question.before[0] == pieces.bos_id() == official.bos_token_id
    assert pieces.decode(list(question.before[1:])) == _BEFORE
    assert pieces.decode(list(question.after)) == _AFTER
    for text, tokens in ((_BEFORE, question.before[1:]), (_AFTER, question.after)):
        assert official(text, add_special_tokens=False).input_ids == list(tokens)
    assert list(question.levels) == [official(level, add_special_tokens=False).input_ids[0] for level in LEVELS]


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"version https://git-lfs")
    with pytest.raises(CorruptFile, match=r"tokenizer\.model"):
        read_question(tmp_path / "tokenizer.model")


def test_listing_the_metric_imports_no_torch() -> None:
    code = "import sys, refeval.metrics.motion_smoothness; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
