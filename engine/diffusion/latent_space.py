"""The space of latents that a model samples in, beside that of its autoencoder."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSpace:
    """How an autoencoder's latents are brought to the spread that a network was trained on.

    `factor` is pixels per latent cell.
    """

    channels: int = 4
    factor: int = 8
    scale: float = 0.18215
    shift: float = 0.0

    def entered(self, latent: Tensor) -> Tensor:
        """An autoencoder's latent as the network sees it."""
        return (latent - self.shift) * self.scale

    def left(self, x: Tensor) -> Tensor:
        """The network's latent as the autoencoder takes it."""
        return x / self.scale + self.shift


SD1 = LatentSpace()
SDXL = LatentSpace(scale=0.13025)
SD_X4 = LatentSpace(factor=4, scale=0.08333)
# Source: Stability AI, sd3-ref (MIT), `SD3LatentFormat`.
SD3 = LatentSpace(channels=16, scale=1.5305, shift=0.0609)
# Source: Black Forest Labs, flux `util.py` (Apache-2.0), parameters of the autoencoder.
FLUX = LatentSpace(channels=16, scale=0.3611, shift=0.1159)
