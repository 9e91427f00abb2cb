"""The nearest matrix of a rank, against the singular value decomposition."""

import pytest
import torch

from engine.diffusion.lora_extraction import nearest


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9)])
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_error_is_that_of_the_smaller_singular_values(
    shape: tuple[int, int], rank: int
) -> None:
    """Eckart and Young: no matrix of that rank is nearer."""
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    up, down = nearest(matrix, rank)
    assert up.shape == (shape[0], rank)
    left = torch.linalg.svdvals(matrix)[rank:].square().sum().sqrt()
    torch.testing.assert_close((matrix - up @ down).norm(), left, atol=1e-5, rtol=1e-4)


def test_a_matrix_of_low_rank_comes_back_in_two_equally_long_parts() -> None:
    torch.manual_seed(1)
    matrix = torch.randn(20, 2) @ torch.randn(2, 30)
    up, down = nearest(matrix, 4)
    torch.testing.assert_close(up @ down, matrix, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1), atol=1e-5, rtol=1e-4)
