"""The judge in this process, with a tiny Qwen2.5-VL of random weights: the parts fit, and votes are its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refeval.cases import Case, Category
from refeval.clips import Clip
from refeval.errors import BadInput, MissingPrerequisite
from refeval.metrics.base import MemoryNeed
from refeval.metrics.judges.base import Request
from refeval.metrics.judges.calibration import load_calibration
from refeval.metrics.judges.frames import jpeg
from refeval.metrics.judges.local import LONGEST_REPLY, LocalJudge, conversation
from refeval.metrics.judges.rubric import OWN_RUBRIC
from refeval.metrics.judges.settings import JudgeConfig
from refeval.metrics.natural import NaturalScore
from refeval.place import Place

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model as the hub would hold it, 0.1 million weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    folder = tmp_path_factory.mktemp("models") / "tiny-judge"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_SPECIAL)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=56 * 84).save_pretrained(folder)
    ids = {name: tokenizer.token_to_id(name) for name in _SPECIAL}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            **text,
            "num_key_value_heads": 2,
            "vocab_size": len(letters) + len(_SPECIAL),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    transformers.Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


def _request(repeat: str, seed: int = 0) -> Request:
    frames = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (3, 40, 64, 3), np.uint8)
    pictures = tuple(map(jpeg, frames))
    return Request(case="a", repeat=repeat, model="tiny", rubric=OWN_RUBRIC, pictures=pictures)


def test_the_same_request_gets_the_same_reply_and_votes_differ(model_folder: Path) -> None:
    judge, again = LocalJudge(model_folder), LocalJudge(model_folder)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    replies = {repeat: judge.ask(_request(repeat)) for repeat in ("1", "2", "3")}
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({reply.text for reply in replies.values()}) == 3
    for repeat, reply in replies.items():
        assert again.ask(_request(repeat)).text == reply.text
        assert (reply.model_served, reply.price) == ("tiny", 0.0)
        assert reply.output_tokens is not None
        assert 0 < reply.output_tokens <= LONGEST_REPLY


def test_pictures_are_processed_once_for_all_votes_on_them(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    seen = []
    preprocess = Qwen2VLImageProcessorPil.preprocess

    def counted(processor: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(images))
        return preprocess(processor, images, *args, **kwargs)

    monkeypatch.setattr(Qwen2VLImageProcessorPil, "preprocess", counted)
    judge = LocalJudge(model_folder)
    votes = [(repeat, seed) for repeat in ("1", "2", "3") for seed in (0, 1)]
    said = {vote: judge.ask(_request(*vote)).text for vote in votes}
    assert seen == [3, 3]
    for vote in votes:
        assert LocalJudge(model_folder).ask(_request(*vote)).text == said[vote]
    del seen[:]
    for seed in (2, 1, 0):
        judge.ask(_request("1", seed))
    assert seen == [3, 3], "the two sets used last are kept, no more"


def test_every_picture_takes_its_tokens(model_folder: Path) -> None:
    few, more = _request("1"), _request("1")
    few = replace(few, pictures=few.pictures[:2])
    counts = [LocalJudge(model_folder).ask(request).input_tokens for request in (few, more)]
    assert counts[0] is not None
    assert counts[1] is not None
    # A picture of 40x64 becomes 56x84: 4 by 6 patches, 2 by 2 of them a token, and a token before and after.
    assert counts[1] - counts[0] == 6 + 2


def test_pictures_come_first_then_the_text() -> None:
    text = conversation([1, 2], "Give a number.")
    first, second = "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|image_pad|><|image_pad|>"
    assert text.index(first) < text.index(second) < text.index("Give a number.<|im_end|>")
    assert text.endswith("<|im_start|>assistant\n")


def test_the_metric_names_the_judge_by_its_weights(model_folder: Path, tmp_path: Path) -> None:
    metric = NaturalScore(JudgeConfig(local=model_folder))
    assert metric.settings()["judge"].startswith("tiny-judge@")
    assert set(metric.weights()) >= {"model.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json"}
    assert all(len(digest) == 64 for digest in metric.weights().values())
    assert str(model_folder.parent) not in str(metric.settings())
    replayed = NaturalScore(JudgeConfig(local=tmp_path, replay=tmp_path, model=metric.model))
    assert replayed.settings() == metric.settings()


def test_it_works_where_the_metric_does_and_says_what_it_needs_there(model_folder: Path, tmp_path: Path) -> None:
    metric = NaturalScore(JudgeConfig(local=model_folder))
    assert metric.memory().models == {"judge": (model_folder / "model.safetensors").stat().st_size / 1e9}
    assert NaturalScore(JudgeConfig(url="http://h/v1")).memory() == MemoryNeed()
    metric.keep_in(tmp_path)
    metric.place = Place(device="tpu")
    clip = Clip.from_frames(np.zeros((1, 16, 16, 3), np.uint8), 8)
    with pytest.raises(BadInput, match="unknown device 'tpu'"):
        metric.score(Case(id="faceobj_1", category=Category.FACEOBJ, prompt="", references=()), clip)


def test_it_is_calibrated_like_any_other_judge(model_folder: Path, tmp_path: Path) -> None:
    metric = NaturalScore(JudgeConfig(local=model_folder, offline=True))
    metric.keep_in(tmp_path / "run")
    assert metric.estimate([]).calls == 18
    metric.begin()
    path = tmp_path / "run/judge/calibration.json"
    kept = load_calibration(path)
    assert (kept.judge, kept.served, kept.reason, len(kept.votes)) == (metric.model, [metric.model], None, 6)
    other = NaturalScore(JudgeConfig(local=model_folder, model="named-otherwise", calibration=path))
    other.keep_in(tmp_path / "other")
    for ask in (other.prepare, other.begin, lambda: other.cost([])):
        with pytest.raises(BadInput, match="another judge"):
            ask()
    assert not (tmp_path / "other").exists()


def test_a_folder_without_a_model_is_a_missing_prerequisite(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match=r"no \*\.safetensors"):
        NaturalScore(JudgeConfig(local=tmp_path))
