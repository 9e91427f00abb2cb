"""LoRAs made of two models' difference: the nearest matrices of a rank, in kohya's names."""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.api.recipe import Recipe
from engine.diffusion.part_weights import PartWeights
from engine.diffusion.residency import ModelPool
from engine.diffusion.tensor_writer import Saved
from engine.diffusion.training.adapter_files import kohya_name

SMALLEST = 1e-12  # a difference whose every value is smaller is none


def is_difference(recipe: Recipe) -> bool:
    """Whether a recipe's weights are themselves a difference, as ModelMergeSubtract gives it."""
    if not recipe.patches or recipe.patches[-1].kind != "mix":
        return False
    last = recipe.patches[-1]
    return dict(last.options).get("own", 1.0) == -last.strength


def extracted(
    pool: ModelPool,
    recipe: Recipe,
    *,
    rank: int,
    is_full: bool,
    with_biases: bool,
    on_layer: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Saved]:
    """The tensors of a LoRA for one part: what its patches change, or a difference itself.

    `is_full` keeps whole differences; else each layer's is replaced by the nearest of `rank`.
    Raises: NodeError, for a model without changes.
    """
    weights = pool.weights(recipe)
    source = weights.base.source
    names = list(source.sources) if is_difference(recipe) else sorted(weights.changed)
    if not names:
        raise NodeError(
            f"The {recipe.part} has no changes that a LoRA could hold.",
            hint="Give it a model with LoRAs or merges, or the result of ModelMergeSubtract.",
        )
    tensors: dict[str, Saved] = {}
    for number, name in enumerate(names):
        difference = _difference(weights, name, recipe)
        if difference is not None:
            found = _layer(difference, name, rank, is_full=is_full, with_biases=with_biases)
            dtype = weights.base.stored_dtype(name)
            dtype = dtype if dtype in (torch.float16, torch.bfloat16) else torch.float32
            module = _module(recipe, weights, name)
            tensors |= {f"{module}{end}": _saved(tensor, dtype) for end, tensor in found.items()}
        on_layer(number + 1, len(names))
    return tensors


def _difference(weights: PartWeights, name: str, recipe: Recipe) -> Tensor | None:
    """A weight's difference in fp32, or None where there is none."""
    value = weights.value(name)
    if not is_difference(recipe):
        value = value - weights.base.raw(name).to(value)
    return value if bool((value.abs() > SMALLEST).any()) else None


def _module(recipe: Recipe, weights: PartWeights, name: str) -> str:
    """The layer of a weight in kohya's names."""
    part, layer = "unet", name.rpartition(".")[0]
    if recipe.part == "text":
        part, _, layer = layer.partition(".")
    return kohya_name(part, layer, recipe.family, weights.base.source.sources)


def _layer(
    difference: Tensor, name: str, rank: int, *, is_full: bool, with_biases: bool
) -> dict[str, Tensor]:
    """Ending of the key -> tensor."""
    if difference.dim() < 2:
        end = ".diff_b" if name.endswith(".bias") else ".diff"
        return {end: difference} if with_biases else {}
    if is_full:
        return {".diff": difference}
    up, down = nearest(difference.flatten(1), rank)
    kernel = difference.shape[2:]
    return {
        ".lora_up.weight": up.reshape(*up.shape, *(1 for _ in kernel)),
        ".lora_down.weight": down.reshape(down.shape[0], *difference.shape[1:]),
        ".alpha": torch.tensor(float(down.shape[0])),
    }


def nearest(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Two matrices whose product is the nearest one of a rank, both equally long.

    The left singular vectors are the eigenvectors of M M^T (of M^T M, where that is smaller), in
    double precision. Source: Eckart and Young 1936, "The approximation of one matrix by another
    of lower rank". Shapes: (O, I) -> (O, rank), (rank, I); the rank is at most that of the sides.
    """
    if matrix.shape[0] > matrix.shape[1]:
        down, up = nearest(matrix.t(), rank)
        return up.t().contiguous(), down.t().contiguous()
    wide = matrix.double()
    vectors = torch.linalg.eigh(wide @ wide.t()).eigenvectors
    count = min(rank, matrix.shape[0])
    left = vectors[:, -count:].flip(1)  # (O, rank), the strongest first
    right = left.t() @ wide  # (rank, I)
    length = right.norm(dim=1).sqrt()
    share = torch.where(length > 0, length, 1.0)
    return (left * share).float(), (right / share[:, None]).float()


def _saved(tensor: Tensor, dtype: torch.dtype) -> Saved:
    return Saved(dtype=dtype, shape=tuple(tensor.shape), read=lambda: tensor)
