"""Training a vector-quantised autoencoder: reconstruction, and the terms of its book of codes.

Source: van den Oord et al. 2017 (arXiv:1711.00937) eq. 3, with a commitment of 0.25.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.training.data.batches import Batches, square_pictures
from engine.diffusion.training.held_back import over_dataset
from engine.diffusion.training.job import Job, Places, Trainable
from engine.diffusion.training.loop import Loss
from engine.diffusion.training.new_vae import before_and_after, check_picture_sizes, seeded
from engine.diffusion.training.objectives import reconstruction_loss
from engine.diffusion.vq_autoencoder import VqSizes, new_vq, vq_metadata

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool

_SHOWN, _SEEN = 4, 16


@dataclass(frozen=True, kw_only=True)
class VqTraining(Job):
    """All that decides a vector-quantised autoencoder; captions are not read."""

    sizes: VqSizes = field(default_factory=VqSizes)

    @property
    def title(self) -> str:
        return "vector-quantised autoencoder"

    @property
    def folder(self) -> str:
        return "vq_autoencoders"

    def own_identity(self) -> dict[str, Any]:
        return {"method": {"title": self.title, **asdict(self.sizes)}}

    def check(self) -> None:
        super().check()
        check_picture_sizes(self.dataset, self.settings.batches)
        if self.sizes.codes < 2:
            raise NodeError("A book of one code can say nothing.", hint="Use 256 codes or more.")

    def prepare(self, pool: "ModelPool", places: Places) -> Trainable:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net: Any = new_vq(self.sizes)
        net.to(pool.device)
        start_book(net, self._pictures(_SEEN).to(pool.device), self.seed)
        options = seeded(self.settings.batches, self.seed)
        data = Batches(self.dataset, options)

        def loss_on(data: Batches) -> Loss:
            def loss(progress: float, generator: torch.Generator) -> Tensor:
                pictures = data.next().pixels.to(pool.device)
                output, book = net.decode(net.encode(pictures).latents, return_dict=False)
                return reconstruction_loss(output, pictures) + book.mean()

            return loss

        def pictures() -> Tensor:
            shown = self._pictures(_SHOWN).to(pool.device)
            with torch.no_grad():
                return before_and_after(shown, net(shown).sample)

        return Trainable(
            net=net,
            loss=loss_on(data),
            held_back=lambda dataset: over_dataset(loss_on, dataset, options),
            tensors=lambda: {k: v.detach().half().cpu() for k, v in net.state_dict().items()},
            pictures=pictures,
            data=data,
            metadata=vq_metadata(self.sizes),
        )

    def _pictures(self, count: int) -> Tensor:
        return square_pictures(self.dataset, count, self.settings.batches.size_px) * 2 - 1


@torch.no_grad()
def start_book(net: Any, pictures: Tensor, seed: int) -> None:
    """Codes to start from: what the encoder says of some places of pictures.

    Codes far from all that the encoder says would never be used, nor learn.
    Source: Lancucki et al. 2020 (arXiv:2005.08520) section III, its first step.
    """
    hidden = torch.cat([net.encode(part).latents for part in pictures.split(1)])
    vectors = hidden.movedim(1, -1).flatten(0, -2)
    book = net.quantize.embedding.weight
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(vectors), (len(book),), generator=generator)
    spread = torch.randn(book.shape, generator=generator).to(vectors) * vectors.std(0) * 0.1
    book.copy_(vectors[picks.to(vectors.device)] + spread)
