"""ModelPool: the only holder of live networks; finds or loads the part that a recipe names."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from torch import nn

from engine.api.errors import CorruptFile, ModelError, OutOfMemory
from engine.api.recipe import Recipe
from engine.diffusion.checkpoint import PARTS, PartSource, check_complete
from engine.diffusion.clip_vision import LoadedVision, clip_vision_source
from engine.diffusion.compiling import compiled
from engine.diffusion.controlnet import LoadedControl
from engine.diffusion.families.base import CheckpointLayout, FluxLayout, Sd3Layout, T5Layout
from engine.diffusion.gligen import LoadedGligen, gligen_source
from engine.diffusion.host_memory import return_freed_memory
from engine.diffusion.latent_space import LatentSpace
from engine.diffusion.network import LoadedDenoiser, sd_alphas_cumprod, unknown
from engine.diffusion.network_hooks import network_hooks
from engine.diffusion.part_weights import STORAGE, BaseWeights, PartWeights, RecipeWeights
from engine.diffusion.patches import PatchTarget, WeightOf, plan_patches
from engine.diffusion.pixel_diffusion import LoadedPixels, pixels_source, read_sizes
from engine.diffusion.precision import Precision, compute_dtype
from engine.diffusion.single_file import recipe_file
from engine.diffusion.style_model import LoadedStyle, style_source
from engine.diffusion.t5_text import T5Tower
from engine.diffusion.t5_tokenizer import t5_tokenizer
from engine.diffusion.text import LoadedText, TextTower, Tower
from engine.diffusion.transformer import LoadedTransformer
from engine.diffusion.unclip import embed_statistics
from engine.diffusion.upscaler import LoadedUpscaler, upscaler_source
from engine.diffusion.vae import LoadedVae
from engine.diffusion.vq_autoencoder import LoadedVq, read_vq_sizes, vq_source
from engine.diffusion.weightfile import WeightFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CPU = torch.device("cpu")
LARGE_BYTES = 200_000_000  # from here on a load is announced

Loaded = Any  # LoadedDenoiser | LoadedText | LoadedVae | LoadedControl, as the recipe's part says


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """One loaded part: `size_bytes` in memory (what it shares with others too), `mapped_bytes` in
    pages of the file.
    """

    name: str
    part: str
    family: str
    patches: int
    size_bytes: int
    mapped_bytes: int
    is_in_use: bool


@dataclass(slots=True, kw_only=True)
class _Entry:
    recipe: Recipe
    base: BaseWeights
    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    own_bytes: int
    shared_bytes: int
    mapped_bytes: int
    users: int = 0
    compiled: Callable[..., Any] | None = None

    @property
    def size_bytes(self) -> int:
        """In memory (what it shares with others too) and in pages of the file."""
        return self.own_bytes + self.shared_bytes + self.mapped_bytes


@dataclass(kw_only=True)
class ModelPool:
    """Loaded parts under a byte budget, least recently used first to go.

    A patched recipe owns tensors for the weights it touches and shares the rest with its base;
    dropping it restores nothing, since the base was never written. Weights are read and cast when
    their layer first runs. `announce` is told when a large part is loaded; `free_bytes` tells how
    much of the device's memory is left for activations.
    """

    device: torch.device = CPU
    precision: Precision = "fp32"
    budget_bytes: int | None = None
    announce: Callable[[str], None] | None = None
    free_bytes: Callable[[], int | None] = unknown
    _entries: OrderedDict[tuple[object, ...], _Entry] = field(default_factory=OrderedDict)
    _bases: WeakValueDictionary[tuple[object, ...], BaseWeights] = field(
        default_factory=WeakValueDictionary
    )
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def use(self, recipe: Recipe) -> Iterator[Loaded]:
        """The live part of a recipe, kept in memory at least until the block ends.

        Gives a LoadedDenoiser, LoadedText, LoadedVae or LoadedControl, by `recipe.part`.
        Raises: CorruptFile, NotThisFamily, ModelError, OutOfMemory.
        """
        with self._lock:
            entry = self._find(recipe)
            entry.users += 1
        try:
            view = VIEWS[recipe.part](recipe, entry)
            if recipe.part == "denoiser":
                view = replace(view, free_bytes=self.free_bytes)
            yield view
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            self.free()
            raise OutOfMemory(
                f"The memory of {self.device} was not enough to run {_name(recipe)} "
                f"({recipe.part}, {_gigabytes(entry.own_bytes + entry.shared_bytes)}).",
                hint="Use a smaller picture or batch, or a tiled VAE node; close other programs.",
            ) from error
        finally:
            with self._lock:
                entry.users -= 1
                is_done = not entry.users and entry.size_bytes > LARGE_BYTES
            if is_done:  # the next part's activations are of other sizes: they would come on top
                return_freed_memory()

    def own_copy(self, recipe: Recipe) -> Loaded:
        """A live part with fp32 weights, patches applied, that belong to the caller alone.

        The pool does not count or keep it: this is what training changes.
        Raises: CorruptFile, NotThisFamily, ModelError.
        """
        with self._lock:
            base = self._base(recipe)
        module = _build(base.source)
        target = PatchTarget(part=recipe.part, source=base.source, weights_of=self._weights_of)
        weights = RecipeWeights(
            base=base,
            changes=plan_patches(recipe.patches, target),
            device=self.device,
            dtype=torch.float32,
        )
        weights.copy_into(module)
        entry = _Entry(
            recipe=recipe,
            base=base,
            module=module,
            device=self.device,
            dtype=torch.float32,
            own_bytes=0,
            shared_bytes=0,
            mapped_bytes=0,
        )
        return VIEWS[recipe.part](recipe, entry)

    def free(self, unload_models: bool = True) -> None:
        """Drops every part that is not in use, and what the device's allocator keeps for later."""
        with self._lock:
            if unload_models:
                for key in [k for k, e in self._entries.items() if not e.users]:
                    del self._entries[key]
        return_freed_memory()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def loaded(self) -> tuple[PartStatus, ...]:
        """The loaded parts, the one used last at the end."""
        with self._lock:
            return tuple(_status(entry) for entry in self._entries.values())

    def _find(self, recipe: Recipe) -> _Entry:
        device, dtype = self._place(recipe)
        backend = recipe.option("compile")
        key = (recipe.weights_identity, device, dtype, recipe.option("storage"), backend)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._load(recipe, device, dtype)
            if backend is not None:
                entry.compiled = compiled(entry.module, backend, device)
            self._entries[key] = entry
        self._entries.move_to_end(key)
        self._make_room(entry)
        return entry

    def _make_room(self, wanted: _Entry) -> None:
        """Drops other parts, least recently used first, until the budget is kept."""
        budget = self._budget()
        for key, entry in list(self._entries.items()):
            if _used_bytes(self._entries.values()) <= budget:
                return
            if not entry.users and entry is not wanted:
                del self._entries[key]
                return_freed_memory()

    def _budget(self) -> int:
        return self.budget_bytes or default_budget(self.device)

    def _place(self, recipe: Recipe) -> tuple[torch.device, torch.dtype]:
        """Where a part runs and in which type; a recipe may ask for another one."""
        device = CPU if recipe.option("device") == "cpu" else self.device
        precision = recipe.option("precision") or self.precision
        return device, compute_dtype(recipe.part, device, precision)

    def _load(self, recipe: Recipe, device: torch.device, dtype: torch.dtype) -> _Entry:
        base = self._base(recipe)
        module = _build(base.source)
        target = PatchTarget(part=recipe.part, source=base.source, weights_of=self._weights_of)
        weights = RecipeWeights(
            base=base,
            changes=plan_patches(recipe.patches, target),
            device=device,
            dtype=None if recipe.part == "text" else dtype,
            storage=STORAGE.get(recipe.option("storage")),
        )
        own, shared, mapped = weights.sizes(module)
        if own + shared > self._budget():
            weights = replace(weights, is_streamed=True)
            own, shared, mapped = 0, 0, own + shared + mapped
            if self.announce:
                self.announce(f"{_name(recipe)} is larger than its memory; it is read as it runs.")
        if self.announce and own + shared + mapped > LARGE_BYTES:
            size = _gigabytes(own + shared + mapped)
            self.announce(f"Loading {_name(recipe)} ({recipe.part}, {size})")
        weights.attach(module, at_once=recipe.option("compile") is not None)
        return _Entry(
            recipe=recipe,
            base=base,
            module=module,
            device=device,
            dtype=dtype,
            own_bytes=own,
            shared_bytes=shared,
            mapped_bytes=mapped,
        )

    def _base(self, recipe: Recipe) -> BaseWeights:
        if recipe.part not in VIEWS:
            raise ModelError(f"There is no loader for the part {recipe.part}.")
        key = (recipe.part, recipe.family, *(f.identity for f in recipe.files))
        base = self._bases.get(key)
        if base is None:
            base = self._bases[key] = BaseWeights(_source(recipe))
        return base

    def weights(self, recipe: Recipe) -> PartWeights:
        """The weights of a recipe, to save or to compare them; its network is never built."""
        with self._lock:
            base = self._base(recipe)
            target = PatchTarget(part=recipe.part, source=base.source, weights_of=self._weights_of)
            changes = plan_patches(recipe.patches, target)
        weights = RecipeWeights(base=base, changes=changes, device=self.device, dtype=torch.float32)
        return PartWeights(base=base, changed=frozenset(changes), value=weights.changed)

    def _weights_of(self, recipe: Recipe) -> WeightOf:
        """The weights of another recipe in fp32, for merges."""
        weights = self.weights(recipe)
        names = weights.base.source.sources
        return lambda name: weights.value(name) if name in names else None


def _source(recipe: Recipe) -> PartSource:
    """How to make the part that a recipe names. Raises: CorruptFile, NotThisFamily."""
    return SOURCES[recipe.part](recipe_file(recipe))


def _build(source: PartSource) -> nn.Module:
    """The part's empty network, once all of its weights are known to be there."""
    try:
        module = source.build()
    except ValueError as error:  # the networks refuse sizes that do not divide
        raise CorruptFile(f"{source.file.path.name} has impossible sizes: {error}.") from error
    check_complete(source, module)
    return module.requires_grad_(False).eval()


def default_budget(device: torch.device) -> int:
    """Bytes that loaded parts may take: a share of the device's memory."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * 0.7)
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 0.6)


def _used_bytes(entries: Iterable[_Entry]) -> int:
    """Memory of loaded parts; what parts of one base share counts once."""
    entries = list(entries)
    shared: dict[int, int] = {}
    for entry in entries:
        key = id(entry.base)
        shared[key] = max(shared.get(key, 0), entry.shared_bytes)
    return sum(shared.values()) + sum(entry.own_bytes for entry in entries)


def _is_out_of_memory(error: Exception) -> bool:
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"


def _name(recipe: Recipe) -> str:
    file = recipe.files[0]
    return file.name or file.path.rsplit("/", 1)[-1]


def _status(entry: _Entry) -> PartStatus:
    return PartStatus(
        name=_name(entry.recipe),
        part=entry.recipe.part,
        family=entry.recipe.family,
        patches=len(entry.recipe.patches),
        size_bytes=entry.own_bytes + entry.shared_bytes,
        mapped_bytes=entry.mapped_bytes,
        is_in_use=entry.users > 0,
    )


# Views: what `use` hands out, by part -------------------------------------------------------------


def _denoiser(recipe: Recipe, entry: _Entry) -> LoadedDenoiser | LoadedTransformer:
    source = entry.base.source
    if source.transformer is not None:
        return _transformer(recipe, entry, source.transformer)
    assert source.unet is not None and source.layout is not None
    return LoadedDenoiser(
        family=recipe.family,
        parameterization_name=recipe.option("prediction") or source.layout.prediction,
        alphas_cumprod=sd_alphas_cumprod(*source.layout.betas),
        layout=source.unet,
        unet=entry.module,  # pyright: ignore[reportArgumentType] - build_unet made it
        device=entry.device,
        dtype=entry.dtype,
        latent=_latent_space(source.layout, source.unet.out_channels),
        native_size=source.layout.native_size,
        latent_rgb_factors=source.layout.latent_rgb,
        hooks=network_hooks(recipe.hooks),
        embed_statistics=embed_statistics(source.file),
        vector=source.layout.vector,
        compiled=entry.compiled,
    )


def _transformer(
    recipe: Recipe, entry: _Entry, transformer: Sd3Layout | FluxLayout
) -> LoadedTransformer:
    layout = entry.base.source.layout
    assert layout is not None
    return LoadedTransformer(
        family=recipe.family,
        layout=transformer,
        model=entry.module,
        device=entry.device,
        dtype=entry.dtype,
        latent=_latent_space(layout, transformer.out_channels),
        sampling=layout.sampling,
        latent_rgb_factors=layout.latent_rgb,
        native_size=layout.native_size,
        hooks=recipe.hooks,
    )


def _latent_space(layout: CheckpointLayout, channels: int) -> LatentSpace:
    factor = layout.vae.factor if layout.vae else layout.space.factor
    return replace(layout.space, channels=channels, factor=factor)


def _vae(recipe: Recipe, entry: _Entry) -> LoadedVae:
    assert entry.base.source.vae is not None
    return LoadedVae(
        layout=entry.base.source.vae,
        model=entry.module,  # pyright: ignore[reportArgumentType] - build_vae made it
        device=entry.device,
        dtype=entry.dtype,
    )


def _text(recipe: Recipe, entry: _Entry) -> LoadedText:
    modules: dict[str, Any] = dict(entry.module.named_children())
    towers: dict[str, Tower] = {}
    for layout in entry.base.source.text:
        model = modules[layout.name]
        if isinstance(layout, T5Layout):
            towers[layout.name] = _t5(recipe, entry, layout, model)
        else:
            towers[layout.name] = TextTower(layout=layout, model=model)
    return LoadedText(
        family=recipe.family,
        towers=towers,
        clip_skip=recipe.option("clip_skip"),
        device=entry.device,
    )


def _t5(recipe: Recipe, entry: _Entry, layout: T5Layout, model: Any) -> T5Tower:
    def tokenizer() -> "Tokenizer":
        return t5_tokenizer(entry.base.source.file, recipe.option("t5_tokenizer"))

    return T5Tower(
        layout=layout,
        model=model,
        tokenizer=tokenizer,
        min_padding=recipe.option("t5_min_padding", 0),
        min_length=recipe.option("t5_min_length", layout.min_length),
    )


def _control(recipe: Recipe, entry: _Entry) -> LoadedControl:
    assert entry.base.source.unet is not None
    return LoadedControl(
        layout=entry.base.source.unet,
        model=entry.module,  # pyright: ignore[reportArgumentType] - build_control made it
        device=entry.device,
        dtype=entry.dtype,
        control_type=recipe.option("control_type"),
    )


def _upscaler(recipe: Recipe, entry: _Entry) -> LoadedUpscaler:
    return LoadedUpscaler(
        model=entry.module,  # pyright: ignore[reportArgumentType] - upscaler_source made it
        device=entry.device,
        dtype=entry.dtype,
    )


def _pixels(recipe: Recipe, entry: _Entry) -> LoadedPixels:
    return LoadedPixels(
        sizes=read_sizes(entry.base.source.file),
        model=entry.module,
        device=entry.device,
        dtype=entry.dtype,
    )


def _vq(recipe: Recipe, entry: _Entry) -> LoadedVq:
    return LoadedVq(
        sizes=read_vq_sizes(entry.base.source.file),
        model=entry.module,
        device=entry.device,
        dtype=entry.dtype,
    )


def _clip_vision(recipe: Recipe, entry: _Entry) -> LoadedVision:
    return LoadedVision(
        model=entry.module,  # pyright: ignore[reportArgumentType] - clip_vision_source made it
        device=entry.device,
        dtype=entry.dtype,
    )


def _gligen(recipe: Recipe, entry: _Entry) -> LoadedGligen:
    return LoadedGligen(
        model=entry.module,  # pyright: ignore[reportArgumentType] - gligen_source made it
        device=entry.device,
        dtype=entry.dtype,
    )


def _style(recipe: Recipe, entry: _Entry) -> LoadedStyle:
    return LoadedStyle(
        model=entry.module,  # pyright: ignore[reportArgumentType] - style_source made it
        device=entry.device,
        dtype=entry.dtype,
    )


SOURCES: dict[str, Callable[[WeightFile], PartSource]] = {
    **PARTS,
    "upscaler": upscaler_source,
    "clip_vision": clip_vision_source,
    "gligen": gligen_source,
    "style": style_source,
    "pixels": pixels_source,
    "vq": vq_source,
}

VIEWS: dict[str, Callable[[Recipe, _Entry], Loaded]] = {
    "denoiser": _denoiser,
    "text": _text,
    "vae": _vae,
    "control": _control,
    "upscaler": _upscaler,
    "clip_vision": _clip_vision,
    "gligen": _gligen,
    "style": _style,
    "pixels": _pixels,
    "vq": _vq,
}
