"""The three families as generators: whole small clips on the real architectures with small random weights."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from refeval.cases import Case, ClipSpec, Domain, parse_suite
from refeval.errors import BadInput, MissingPrerequisite, UnusableClip
from refeval.generators.base import RenderJob
from refeval.generators.wan.catalogue import MODELS
from refeval.generators.wan.engine import fastest_attention
from refeval.generators.wan.generator import WanGenerator
from refeval.place import Place
from refeval.registry import load_generator

FAMILIES = ("refalign", "phantom", "vace")
CLIP = ClipSpec(width=64, height=48, frames=9, fps=Fraction(8))
QUICK = "steps=3"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A person, a dog and a street, each of its own colour and shape."""
    folder = tmp_path / "data"
    for name, size, colour in (("man/1", (40, 64), "red"), ("dog/1", (64, 40), "blue"), ("scene/1", (64, 48), "green")):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", size, "white").save(path)
        picture = Image.new("RGB", size, "white")
        picture.paste(colour, (10, 10, size[0] - 10, size[1] - 10))
        picture.save(path)
    text = json.dumps(
        {
            "humanobj_1": {
                "img_paths": ["man/1.png", "dog/1.png", "scene/1.png"],
                "class_label": ["Man", "dog", "street"],
                "prompt": "A man walks his dog.",
                "prompt_refine": "On a long street a man walks his dog.",
            }
        }
    )
    suite = parse_suite(text, name="own", domain=Domain.OPEN, clip=CLIP, source="own.json", root=folder)
    return suite.cases[0]


def make(family: str, settings: str = QUICK) -> WanGenerator:
    generator = load_generator(f"{family}-tiny:{settings}", Place(device="cpu"))
    assert isinstance(generator, WanGenerator)
    return generator


def render(generator: WanGenerator, case: Case, *, seed: int = 0, clip: ClipSpec = CLIP) -> NDArray[np.uint8]:
    """The frames of one clip."""
    generator.foresee([case])
    generator.prepare(clip)
    made = generator.render(job(case, seed=seed, clip=clip))
    generator.close()
    return np.stack(list(made.frames))


def job(case: Case, *, seed: int = 0, clip: ClipSpec = CLIP) -> RenderJob:
    return RenderJob(case=case, seed=seed, clip=clip, scratch=Path(), log=Path())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_depends_on_everything_it_should(family: str, case: Case) -> None:
    frames = render(make(family), case)
    assert frames.shape == (9, 48, 64, 3) and frames.dtype == np.uint8
    assert np.array_equal(frames, render(make(family), case)), "the same job gives the same clip"
    one, two, three = case.references
    changed = {
        "seed": render(make(family), case, seed=1),
        "case": render(make(family), replace(case, id="humanobj_2")),
        "prompt": render(make(family), replace(case, prompt="A dog walks its man.")),
        "order": render(make(family), replace(case, references=(two, one, three))),
        "fewer": render(make(family), replace(case, references=(one, two))),
        "another": render(make(family), replace(case, references=(one, two, one))),
        "guidance": render(make(family, f"{QUICK},guidance=2"), case),
        "shift": render(make(family, f"{QUICK},shift=2"), case),
        "steps": render(make(family, "steps=4"), case),
    }
    for what, other in changed.items():
        assert not np.array_equal(frames, other), what


@pytest.mark.parametrize("family", ["refalign", "phantom"])
def test_the_scale_of_the_prompt_matters(family: str, case: Case) -> None:
    settings = f"{QUICK},guidance_text=1"
    assert not np.array_equal(render(make(family), case), render(make(family, settings), case))


@pytest.mark.parametrize("family", FAMILIES)
def test_branches_in_turn_give_the_same_clip(family: str, case: Case) -> None:
    """A batch and single passes differ by float32 rounding: at most a level here and there."""
    together = render(make(family, f"{QUICK},together=yes"), case).astype(int)
    in_turn = render(make(family, f"{QUICK},together=no"), case).astype(int)
    assert np.abs(together - in_turn).max() <= 1


def test_compiled_blocks_give_the_same_clip(case: Case) -> None:
    """Fused kernels round in another order."""
    plain = render(make("refalign"), case).astype(int)
    compiled = render(make("refalign", f"{QUICK},compile=yes"), case).astype(int)
    assert np.abs(plain - compiled).max() <= 1


def test_the_sequence_of_cases_changes_nothing(case: Case) -> None:
    other = replace(case, id="humanobj_2", prompt="Somebody else.", references=case.references[::-1])
    generator = make("refalign")
    generator.foresee([other, case])
    generator.prepare(CLIP)
    generator.render(job(other))
    generator.foresee([case])
    second = np.stack(list(generator.render(job(case)).frames))
    assert np.array_equal(second, render(make("refalign"), case))


def test_an_unforeseen_case_is_rendered_too(case: Case) -> None:
    generator = make("phantom")
    generator.foresee([replace(case, prompt="Another prompt.")])
    generator.prepare(CLIP)
    frames = np.stack(list(generator.render(job(case)).frames))
    assert np.array_equal(frames, render(make("phantom"), case))


def test_subjects_are_cut_out_and_backgrounds_are_not(case: Case) -> None:
    generator = make("refalign")
    man, _, street = case.references
    grey = Image.new("RGB", (64, 48), (200, 200, 200))
    grey.paste("red", (20, 12, 44, 36))
    cut, whole = (generator.picture(grey, reference, CLIP) for reference in (man, street))
    assert cut.shape == whole.shape == (3, 1, 48, 64)
    assert float(cut[:, 0, 2, 2].min()) == 1.0, "white where the background was"
    assert float(whole[:, 0, 2, 2].max()) < 0.6, "a background reference stays as it is"
    assert torch.equal(cut[:, :, 24, 32], whole[:, :, 24, 32]), "the subject stays"
    plain = make("refalign", "matting=none").picture(grey, man, CLIP)
    assert torch.equal(plain, whole)


def test_references_beyond_those_that_a_model_takes_are_left_out_and_named(case: Case) -> None:
    """The first ones in case order are kept."""
    four = replace(case, references=(*case.references, case.references[0]))
    generator = make("vace")
    generator.foresee([four])
    generator.prepare(CLIP)
    with_four = job(four)
    frames = np.stack(list(generator.render(with_four).frames))
    assert with_four.notes["references_left_out"] == ["man/1.png"]
    assert np.array_equal(frames, render(make("vace"), case))
    three = job(case)
    generator.render(three)
    assert "references_left_out" not in three.notes


def test_the_benchmark_script_renders_refined_prompts(case: Case) -> None:
    generator = make("refalign", f"preset=benchmark-script,{QUICK}")
    assert generator.prompt(case) == case.refined_prompt
    without = replace(case, refined_prompt=None)
    with pytest.raises(BadInput, match="case 'humanobj_1' has no refined prompt"):
        generator.inputs(without)
    assert make("refalign").inputs(without) == without.reference_files()


def test_diverged_sampling_is_unusable(case: Case) -> None:
    generator = make("refalign", f"{QUICK},guidance=1e38")
    generator.foresee([case])
    generator.prepare(CLIP)
    with pytest.raises(UnusableClip, match="NaN or infinity"):
        generator.render(job(case))


def test_what_the_vae_cannot_make_is_refused_with_what_it_can() -> None:
    generator = make("refalign")
    with pytest.raises(BadInput, match="cannot render 16 frames") as error:
        generator.expected(replace(CLIP, frames=16))
    assert "--frames 13 or 17" in str(error.value)
    with pytest.raises(BadInput, match="cannot render 200x48"):
        generator.expected(replace(CLIP, width=200))
    odd = ClipSpec(width=200, height=100, frames=16, fps=Fraction(8))
    fitting = generator.own_clip(odd)
    assert generator.expected(fitting) == ClipSpec(width=192, height=96, frames=17, fps=Fraction(8))


def test_published_models_render_their_published_clip() -> None:
    suite = ClipSpec(width=192, height=112, frames=16, fps=Fraction(8))
    own = {name: str(load_generator(name).own_clip(suite)) for name, spec in MODELS.items() if not spec.tiny}
    assert own.pop("phantom-14b") == "832x480x121@24"
    assert set(own.values()) == {"832x480x81@16"}


def test_the_settings_tell_all_that_decides_a_clip() -> None:
    settings = make("refalign").settings()
    assert settings["negative_prompt"]["wording"] == "own"
    assert settings["weights"] == "random" and settings["references"] == 3
    given = make("refalign", f"{QUICK},negative_prompt=blurry").settings()["negative_prompt"]
    assert given == {"wording": "given", "sha256": hashlib.sha256(b"blurry").hexdigest(), "text": "blurry"}
    json.dumps(settings)


def test_missing_weights_are_told_before_anything_is_loaded(tmp_path: Path) -> None:
    for place in (Place(), Place(weights=tmp_path)):
        with pytest.raises(MissingPrerequisite, match="phantom-14b") as error:
            load_generator("phantom-14b", place).check()
        assert "refeval fetch model phantom-14b" in str(error.value)


def test_the_attention_of_a_cpu_is_torchs_own() -> None:
    assert fastest_attention(torch.device("cpu"), torch.bfloat16) == "native"
    with pytest.raises(BadInput, match="setting 'attention' is 'nonsense'"):
        make("refalign", "attention=nonsense").prepare(CLIP)


def test_listing_the_models_imports_no_torch() -> None:
    program = (
        "import sys; from refeval.registry import describe_generator, generator_targets\n"
        "for name in generator_targets(): print(name, describe_generator(name))\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in MODELS)
