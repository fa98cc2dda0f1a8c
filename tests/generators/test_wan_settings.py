"""Settings of the Wan models: what may follow ``--model NAME:``."""

from __future__ import annotations

from pathlib import Path

import pytest

from refeval.errors import BadInput
from refeval.generators.refalign import RefAlign1B, RefAlignSettings, RefAlignTiny
from refeval.generators.vace import VaceSettings


def test_the_published_defaults() -> None:
    settings = RefAlign1B.from_argument(None).options
    published = (settings.steps, settings.shift, settings.guidance, settings.guidance_text)
    assert published == (50, 5.0, 5.0, 7.5)
    assert (settings.precision, settings.latents, settings.vae, settings.timesteps) == ("bf16",) * 4
    assert settings.matting == "birefnet"
    vace = VaceSettings.parse(None, {})
    assert (vace.steps, vace.shift, vace.guidance, vace.context_scale) == (50, 16.0, 5.0, 1.0)


def test_a_preset_is_a_set_of_defaults_that_single_settings_override() -> None:
    settings = RefAlignSettings.parse("preset=benchmark-script,refined_prompts=no,steps=30", {})
    assert (settings.matting, settings.refined_prompts, settings.steps) == ("none", False, 30)
    assert settings.preset == "benchmark-script"


def test_a_preset_wins_over_the_defaults_of_a_tiny_model() -> None:
    assert RefAlignTiny.from_argument(None).options.matting == "plain"
    assert RefAlignTiny.from_argument("preset=benchmark-script").options.matting == "none"


def test_a_toml_file_holds_what_pairs_cannot(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('negative_prompt = "blurry, dull"\nsteps = 4\ntogether = false\nguidance = 3\n')
    settings = RefAlignSettings.parse(str(file), {})
    assert settings.negative_prompt == "blurry, dull"
    assert (settings.steps, settings.together, settings.guidance) == (4, "no", 3.0)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("step=3", "unknown setting 'step'.*steps"),
        ("guidance_text=1", "unknown setting 'guidance_text'"),
        ("preset=papr", "unknown preset 'papr'"),
        ("steps=many", "setting 'steps' is 'many'"),
        ("steps=0", "setting 'steps' is 0"),
        ("shift=-1", "setting 'shift' is -1"),
        ("guidance=nan", "setting 'guidance' is 'nan'"),
        ("compile=perhaps", "setting 'compile' is 'perhaps'"),
        ("together=maybe", "setting 'together' is 'maybe'"),
        ("precision=fp8", "setting 'precision' is 'fp8'"),
        ("steps", "'steps' is not a setting"),
        ("steps=3,steps=4", "given twice"),
        ("nowhere.toml", "settings file nowhere.toml"),
    ],
)
def test_a_wrong_setting_is_named(argument: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        VaceSettings.parse(argument, {})


@pytest.mark.parametrize("content", ["steps = ", 'steps = "x"', "steps = 2.5", "steps = true", "[steps]\na = 1"])
def test_a_wrong_settings_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(content)
    with pytest.raises(BadInput, match=r"steps|not TOML"):
        VaceSettings.parse(str(file), {})
