"""The paper's configuration D: features of the teacher as a second input beside the latents, and no alignment.

The paper says that both encoders feed the network, not where the second one enters. Here each feature is projected and
added to the token that stands for the same cell of the reference; the projection starts at zero, so that training
starts from the network as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from refeval.generators.wan.transformer import ReferenceTransformer

FEATURES = "feature_embedding.weight"
"""The parameter that a plain network does not have."""

_Found = TypeVar("_Found")


class DualReferenceTransformer(ReferenceTransformer):
    """Reads references as latents and as features of a teacher, at inference too.

    Args:
        feature_width: V.
        config: as for :class:`ReferenceTransformer`.
    """

    def __init__(self, *, feature_width: int, **config: Any) -> None:
        super().__init__(**config)
        self.feature_embedding = nn.Linear(feature_width, self.inner_dim, bias=False)
        nn.init.zeros_(self.feature_embedding.weight)

    @property
    def inner_dim(self) -> int:
        """Width of the tokens."""
        return int(self.config.num_attention_heads * self.config.attention_head_dim)

    def _embed_references(self, latents: Tensor, features: Tensor | None) -> Tensor:
        if features is None:
            raise ValueError("this network needs features of the references beside their latents")
        tokens: Tensor = self._embed(latents)
        embedded: Tensor = self.feature_embedding(features.flatten(1, 2).to(tokens.dtype))
        return tokens + embedded

    @classmethod
    def from_plain(cls, plain: ReferenceTransformer, feature_width: int) -> DualReferenceTransformer:
        """The network that computes what ``plain`` does, until the projection has learned something."""
        fields = {key: value for key, value in plain.config.items() if not key.startswith("_")}
        dual = cls(feature_width=feature_width, **fields)
        missing, unexpected = dual.load_state_dict(plain.state_dict(), strict=False)
        assert missing == [FEATURES] and not unexpected
        return dual


class FeatureForward(Generic[_Found]):
    """The forward of a dual network for one clip: gives it the features wherever its references are not dropped.

    Args:
        network: the network, or what stands for its forward.
        features: (1, M, tokens of one, V).
    """

    def __init__(self, network: Callable[..., _Found], features: Tensor) -> None:
        self._network = network
        self._features = features

    def __call__(self, *, reference_latents: Tensor, **inputs: Any) -> _Found:
        """As the network's; references of zeros have features of zeros."""
        shown = reference_latents.abs().amax(dim=(1, 3, 4)) > 0
        features = torch.where(shown[:, :, None, None], self._features, 0)
        return self._network(reference_latents=reference_latents, reference_features=features, **inputs)
