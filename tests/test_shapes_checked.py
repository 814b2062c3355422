"""The check of shapes in annotations is on while tests run."""

import jaxtyping
import pytest
import torch

from torchloupe.features.feature_maps import principal


def test_a_wrong_shape_is_refused_by_the_annotation() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="features"):
        principal(torch.rand(3, 4, 4))
