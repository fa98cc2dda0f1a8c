"""Training from Wan2.1 on rows: what it starts from, what the network is shown, and clips drawn as at inference."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from refeval.cases import ClipSpec, Domain, parse_suite
from refeval.errors import BadInput, MissingPrerequisite
from refeval.generators.base import RenderJob
from refeval.generators.wan.catalogue import BASES, MODELS
from refeval.generators.wan.checkpoints import save_transformer
from refeval.generators.wan.latents import VideoCodec
from refeval.generators.wan.references import to_pixels
from refeval.generators.wan.tiny import randomise, tiny_transformer, tiny_vae
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.place import Place
from refeval.registry import load_generator
from refeval.seeds import case_seed
from refeval.training.batches import collate, draw_noise
from refeval.training.dual import DualReferenceTransformer
from refeval.training.examples import Sample
from refeval.training.parameters import make_trained
from refeval.training.recipe import read_recipe
from refeval.training.teachers import tiny_teacher
from refeval.training.wan_encoder import WanParts
from refeval.training.wan_world import base_of, negative_prompt_of
from refeval.weights import WeightsStore
from tests.training.data.small_world import FRAMES, HEIGHT, WIDTH, make_data, recipe_of, world_of

LATENT = (16, 2, HEIGHT // 8, WIDTH // 8)
TOKENS = (HEIGHT // 16) * (WIDTH // 16)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def sample(rows: Path) -> Sample:
    """One with two references."""
    source = world_of(rows).source()
    return next(found for found in map(source.sample, range(20)) if len(found.references) == 2)


def test_examples_are_what_the_parts_say_one_by_one(rows: Path, sample: Sample) -> None:
    encoder = world_of(rows).encoder()
    example = encoder.examples([sample, sample], with_teacher=True)[1]
    codec, teacher = VideoCodec(tiny_vae(), tiling=False), tiny_teacher()
    with torch.no_grad():
        clip = torch.stack([to_pixels(Image.fromarray(frame), torch.float32)[:, 0] for frame in sample.frames], dim=1)
        assert torch.equal(example.latents, codec.encode(clip[None])[0])
        for number, picture in enumerate(sample.references):
            alone = codec.encode(to_pixels(Image.fromarray(picture), torch.float32)[None])[0]
            assert torch.equal(example.references[:, number : number + 1], alone)
            features = teacher.features(torch.tensor(picture).permute(2, 0, 1)[None])
            torch.testing.assert_close(example.teacher[number : number + 1], features, rtol=0, atol=1e-5)
    assert (example.latents.shape, example.references.shape[1]) == (LATENT, 2)
    assert example.teacher.shape == (2, TOKENS, 32)
    without = encoder.examples([sample], with_teacher=False)[0]
    assert without.teacher.shape == (0, TOKENS, 32)
    assert torch.equal(without.text, encoder.text(sample.prompt))
    assert len(without.text) == len(sample.prompt) + 1, "a token a byte and the end, and no padding"
    with pytest.raises(ValueError, match="emphasis"):
        encoder.examples([replace(sample, emphasis=np.ones((FRAMES, HEIGHT, WIDTH), np.float32))], with_teacher=False)


def test_examples_fit_the_objective(rows: Path, sample: Sample) -> None:
    recipe, world = recipe_of(rows), world_of(rows)
    trained = make_trained(recipe, world, 0)
    batch = collate(world.encoder().examples([sample], with_teacher=True), world.text_tokens)
    drawn, noise = draw_noise(recipe.objective.flow, batch.latents.shape[1:], 0, [0])
    losses = recipe.objective.losses(trained.network, list(trained.projectors), batch, drawn, noise)
    losses.total.backward()
    assert losses.positive.shape == (2,) and bool(losses.total.isfinite())
    gradients = [parameter.grad for parameter in trained.projectors.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def projectors(teacher_width: int = 32) -> dict[str, Tensor]:
    width = MODELS["refalign-tiny"].architecture.width
    shapes = {"0": (width // 2, width), "2": (teacher_width, width // 2)}
    return {
        f"blocks.{block}.input_mlp.proj.{layer}.weight": torch.randn(shape)
        for block in range(2)
        for layer, shape in shapes.items()
    }


def test_a_second_stage_starts_from_transformer_and_projectors_of_the_first(rows: Path, tmp_path: Path) -> None:
    first = tiny_transformer(ReferenceTransformer, MODELS["refalign-tiny"].architecture)
    randomise(first, 99)
    stored, path = projectors(), tmp_path / "step-500.safetensors"
    save_transformer(first, path, keys="refalign", projectors=stored)
    world = world_of(rows, start=path)
    network, beside = world.network()
    assert isinstance(network, ReferenceTransformer)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    state, expected = network.state_dict(), first.state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in state)
    assert beside.keys() == stored.keys() and all(torch.equal(beside[key], stored[key]) for key in stored)
    trained = make_trained(recipe_of(rows), world, 0)
    assert torch.equal(trained.projectors[1].proj[2].weight, stored["blocks.1.input_mlp.proj.2.weight"])
    base, none = world_of(rows).network()
    assert not none and not torch.equal(base.proj_out.weight, network.proj_out.weight)
    with pytest.raises(MissingPrerequisite, match="no weights at"):
        world_of(rows, start=tmp_path / "nowhere.safetensors").network()


def test_clips_are_drawn_as_the_generator_renders_them(rows: Path, sample: Sample, tmp_path: Path) -> None:
    world = world_of(rows, steps=2)
    network, _ = world.network()
    (drawn,) = world.draw(network, [sample], seed=7)
    assert (drawn.frames.dtype, drawn.frames.shape) == (np.uint8, (FRAMES, HEIGHT, WIDTH, 3))
    assert drawn.sample is sample

    for number, picture in enumerate(sample.references):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    content = {"img_paths": ["0.png", "1.png"], "class_label": ["dog", "cup"], "prompt": sample.prompt}
    clip = ClipSpec(width=WIDTH, height=HEIGHT, frames=FRAMES, fps=Fraction(16))
    suite = parse_suite(
        json.dumps({"multiobject_1": content}), name="own", domain=Domain.OPEN, clip=clip, source="own", root=tmp_path
    )
    # The names of cases are given; that of the row decides the noise.
    case = replace(suite.cases[0], id=sample.key)
    generator = load_generator("refalign-tiny:steps=2,matting=none,negative_prompt=,together=no", Place(device="cpu"))
    generator.foresee([case])
    generator.prepare(clip)
    rendered = generator.render(
        RenderJob(case=case, seed=7, clip=clip, scratch=tmp_path, log=tmp_path / "log", notes={})
    )
    generator.close()
    assert np.array_equal(drawn.frames, rendered.frames)


def test_drawing_depends_on_the_seed_and_the_network_alone(rows: Path, sample: Sample) -> None:
    world = world_of(rows, steps=2)
    network, _ = world.network()
    other = replace(sample, key="other")
    first, second = world.draw(network, [sample, other], seed=7)
    assert not np.array_equal(first.frames, second.frames), "each sample has noise of its own"
    (again,) = world_of(rows, steps=2).draw(network, [sample], seed=7)
    (elsewhere,) = world.draw(network, [sample], seed=8)
    assert np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, elsewhere.frames)
    changed, _ = world.network()
    randomise(changed, 99)
    (learned,) = world.draw(changed, [sample], seed=7)
    assert not np.array_equal(first.frames, learned.frames)


def test_a_network_that_takes_features_is_given_those_of_the_references(rows: Path, sample: Sample) -> None:
    world = world_of(rows, steps=2)
    plain, _ = world.network()
    dual = DualReferenceTransformer.from_plain(plain, world.teacher_width).eval()
    (before,) = world.draw(plain, [sample], seed=7)
    (same,) = world.draw(dual, [sample], seed=7)
    assert np.array_equal(before.frames, same.frames), "the projection starts at zero"
    torch.nn.init.normal_(dual.feature_embedding.weight, generator=torch.Generator().manual_seed(1))
    (moved,) = world.draw(dual, [sample], seed=7)
    assert not np.array_equal(before.frames, moved.frames)


def test_shown_samples_are_always_the_same_and_not_augmented(rows: Path) -> None:
    first, again = (world_of(rows).shown(4) for _ in range(2))
    assert len(first) == 4
    for one, other in zip(first, again, strict=True):
        assert (one.key, one.prompt) == (other.key, other.prompt)
        assert all(map(np.array_equal, one.references, other.references))
    plain = recipe_of(rows)
    unchanged = replace(plain, data=replace(plain.data, augment=False))
    for one, other in zip(first, world_of(rows, recipe=unchanged).shown(4), strict=True):
        assert all(map(np.array_equal, one.references, other.references))
    source = world_of(rows, recipe=unchanged).source()
    assert [one.key for one in world_of(rows).shown(12)] != [source.sample(position).key for position in range(12)]


def test_stored_prompts_need_no_text_encoder() -> None:
    stored = torch.arange(6.0).reshape(2, 3)
    parts = WanParts(
        BASES["wan2.1-t2v-1.3b"],
        WeightsStore(None),
        torch.device("cpu"),
        lambda prompt: stored if prompt == "known" else None,
    )
    assert torch.equal(parts.recalled("known"), stored)
    with pytest.raises(MissingPrerequisite, match="no weights folder"):
        parts.recalled("unknown")


def test_bases_are_those_of_recipes_and_are_trained_at_sizes_that_can_be_encoded(rows: Path) -> None:
    recipe = recipe_of(rows)
    published = replace(recipe, network=replace(recipe.network, base="wan2.1-t2v-14b"))
    spec = base_of(published)
    assert spec.architecture == MODELS["refalign-14b"].architecture
    assert spec.transformer is not None and spec.transformer.repository == "Wan-AI/Wan2.1-T2V-14B"
    with pytest.raises(MissingPrerequisite, match="no weights folder"):
        world_of(rows, recipe=published).network()
    for wrong in ({"width": 40}, {"height": 24}, {"frames": 6}):
        with pytest.raises(BadInput, match="cannot encode"):
            base_of(replace(recipe, data=replace(recipe.data, **wrong)))


def test_the_negative_prompt_is_the_official_one_or_none(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refeval.generators.wan import negative_prompt
    from refeval.official_texts import text_sha256
    from refeval.training.wan_world import inference_of

    recipe = recipe_of(rows)
    published = replace(recipe, network=replace(recipe.network, base="wan2.1-t2v-1.3b"))
    official = "no blur " * 18
    text = official[: negative_prompt.OFFICIAL_CHARACTERS]
    folder = tmp_path / "Wan-AI/Wan2.1-T2V-1.3B"
    folder.mkdir(parents=True)
    (folder / "config.txt").write_text(text)
    store = WeightsStore(tmp_path)
    assert negative_prompt_of(inference_of(published, store)) == ""
    defaults = negative_prompt.find_negative_prompt.__kwdefaults__
    monkeypatch.setitem(defaults, "expected", text_sha256(text))
    assert negative_prompt_of(inference_of(published, store)) == text


def test_the_noise_levels_of_clips_are_those_of_the_training(rows: Path, sample: Sample) -> None:
    recipe = recipe_of(rows)
    flat = replace(recipe, objective=replace(recipe.objective, flow=replace(recipe.objective.flow, shift=1.0)))
    (usual,) = world_of(rows, steps=2).draw(world_of(rows).network()[0], [sample], seed=case_seed(1, "a"))
    (other,) = world_of(rows, recipe=flat, steps=2).draw(world_of(rows).network()[0], [sample], seed=case_seed(1, "a"))
    assert not np.array_equal(usual.frames, other.frames)


def test_the_transformer_is_told_from_what_lies_beside_it(tmp_path: Path) -> None:
    small, large = (tmp_path / f"Wan-AI/Wan2.1-T2V-{size}" for size in ("1.3B", "14B"))
    beside = ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/tokenizer.json", "config.json")
    for folder in (small, large):
        for name in beside:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"{}")
    (small / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    shards = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for name in shards:
        (large / name).write_bytes(b"")
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (large / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    store = WeightsStore(tmp_path)
    found = [store.checkpoint(source, spec.name) for spec in BASES.values() if (source := spec.transformer)]
    names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json")
    assert found == [small / names[0], large / names[1]]
    identity = WanParts(BASES["wan2.1-t2v-14b"], store, torch.device("cpu")).identity()
    assert identity == WanParts(BASES["wan2.1-t2v-1.3b"], store, torch.device("cpu")).identity(), "shared encodings"
    assert [list(identity[part]["weights"]) for part in ("vae", "text")] == [
        ["Wan-AI/Wan2.1-T2V-1.3B/Wan2.1_VAE.pth"],
        [f"Wan-AI/Wan2.1-T2V-1.3B/{name}" for name in beside[2:0:-1]],
    ]
    assert identity["vae"]["precision"] == "bfloat16"


def test_files_that_are_read_late_are_missed_at_once(rows: Path, tmp_path: Path) -> None:
    published = read_recipe("refalign-1.3b")
    with pytest.raises(MissingPrerequisite, match=r"weights of Wan-AI/Wan2\.1-T2V-1\.3B are missing"):
        world_of(rows, recipe=published, weights=tmp_path)
    for name in ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/tokenizer.json"):
        path = tmp_path / "Wan-AI/Wan2.1-T2V-1.3B" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(MissingPrerequisite, match="dinov3-b"):
        world_of(rows, recipe=published, weights=tmp_path)
    world_of(rows, recipe=replace(published, objective=replace(published.objective, depth=0)), weights=tmp_path)


def test_kept_features_change_nothing_and_views_show_each_reference_several_times(rows: Path, tmp_path: Path) -> None:
    recipe = recipe_of(rows)
    with pytest.raises(BadInput, match="augments references"):
        world_of(rows, features=tmp_path / "features")
    recipe = replace(recipe, data=replace(recipe.data, augment=False))
    plain, keeping = world_of(rows, recipe=recipe), world_of(rows, recipe=recipe, features=tmp_path / "features")
    samples = plain.shown(3)
    wanted = plain.encoder().examples(samples, with_teacher=True)
    for _ in range(2):
        found = keeping.encoder().examples(samples, with_teacher=True)
        assert all(torch.equal(one.teacher, other.teacher) for one, other in zip(found, wanted, strict=True))
    assert list((tmp_path / "features").rglob("*.safetensors"))
    views = plain.views()
    names = [view.subjects for view in views]
    assert len(set(names)) > 1 and all(names.count(name) >= 4 for name in names)
    first, second = (view.example.references for view in views[:2])
    assert first.shape == second.shape and not torch.equal(first, second)
