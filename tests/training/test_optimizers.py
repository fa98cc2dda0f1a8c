"""Who moves which parameter, how fast, and what is averaged."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Muon

from refeval.training.optimizers import Average, make_optimizers, rate, set_rate
from refeval.training.recipe import OptimizerSettings, read_recipe


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.ModuleDict(
            {
                "patch": nn.Linear(4, 6),
                "blocks": nn.ModuleList([nn.ModuleDict({"q": nn.Linear(6, 6), "norm": nn.LayerNorm(6)})]),
                "head": nn.Linear(6, 4),
            }
        )
        self.projectors = nn.ModuleList([nn.Linear(6, 3)])


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    module = Network()
    names = {parameter: name for name, parameter in module.named_parameters()}
    muon, adamw = make_optimizers(module, OptimizerSettings(name="muon", muon_learning_rate=0.3))
    assert isinstance(muon, Muon) and isinstance(adamw, AdamW)
    [moved] = muon.param_groups[0]["params"]
    assert names[moved] == "network.blocks.0.q.weight" and muon.param_groups[0]["lr"] == 0.3
    rest = {names[parameter] for parameter in adamw.param_groups[0]["params"]}
    assert rest == {*names.values()} - {"network.blocks.0.q.weight"}
    [alone] = make_optimizers(module, OptimizerSettings(learning_rate=0.2, betas=(0.8, 0.9), weight_decay=0.4))
    assert isinstance(alone, AdamW) and len(alone.param_groups[0]["params"]) == len(names)
    group = alone.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.2, (0.8, 0.9), 0.4)


def test_the_rate_rises_stays_and_falls() -> None:
    settings = OptimizerSettings(warmup=4, warmup_from=0.2, cooldown=0.25)
    shares = [rate(settings, 40, step) for step in range(40)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and set(shares[4:30]) == {1.0}
    # Ten steps down, the eleventh would be zero.
    assert shares[30:] == pytest.approx([step / 11 for step in range(10, 0, -1)])
    assert {rate(OptimizerSettings(), 40, step) for step in range(40)} == {1.0}


def test_the_released_recipe_warms_up_as_its_scheduler_does() -> None:
    """ConstantLR at a third, moved on by every one of eight processes: over after the first iteration."""
    settings = read_recipe("refalign-1.3b-released-1").optimizer
    parameter = nn.Parameter(torch.zeros(1))
    official = AdamW([parameter], lr=settings.learning_rate)
    scheduler = torch.optim.lr_scheduler.ConstantLR(official)
    for step in range(12):
        wanted = official.param_groups[0]["lr"]
        assert settings.learning_rate * rate(settings, 375, step) == pytest.approx(wanted, rel=1e-6)
        official.step()
        for _ in range(8):
            scheduler.step()


def test_a_share_of_the_rate_is_always_of_the_full_one() -> None:
    optimizers = make_optimizers(Network(), OptimizerSettings(name="muon", learning_rate=0.5, muon_learning_rate=2.0))
    for share in (0.5, 0.1, 1.0):
        set_rate(optimizers, share)
        assert [one.param_groups[0]["lr"] for one in optimizers] == [2.0 * share, 0.5 * share]


def test_the_average_forgets_its_start_and_then_follows_slowly() -> None:
    parameters = {"a": torch.tensor([100.0]), "b": torch.tensor([0.0])}
    average = Average(parameters, 0.9)
    expected = 100.0
    for step in range(200):
        parameters["a"].fill_(float(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.tensors["a"].item() == pytest.approx(expected, rel=1e-5)
    # Behind by 0.9 / 0.1 steps, and nothing is left of the start.
    assert average.tensors["a"].item() == pytest.approx(199 - 9, abs=0.01)
    assert average.tensors["b"].item() == 0 and parameters["a"].item() == 199


def test_what_the_average_begins_with_is_a_copy() -> None:
    parameters = {"a": torch.zeros(3)}
    average = Average(parameters, 0.5)
    parameters["a"] += 1
    assert not average.tensors["a"].any()
