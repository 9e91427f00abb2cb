"""`io`: socket types with their inputs and outputs, schemas, and the base class of such nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, cast

from engine.plugins.model_facade import MissingHostSymbol


class FolderType(StrEnum):
    """Where files of a picture list lie."""

    input = "input"
    output = "output"
    temp = "temp"


class UploadType(StrEnum):
    """Which button for uploads a COMBO has."""

    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class NumberDisplay(StrEnum):
    """How a number is shown."""

    number = "number"
    slider = "slider"
    color = "color"
    gradient_slider = "gradientslider"


class ControlAfterGenerate(StrEnum):
    """What a seed does after each run."""

    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


class Hidden(StrEnum):
    """What a node may ask to know about its prompt."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"
    auth_token_comfy_org = "AUTH_TOKEN_COMFY_ORG"
    api_key_comfy_org = "API_KEY_COMFY_ORG"


@dataclass(slots=True)
class Input:
    """One declared input; `options` are those of the wire format."""

    id: str
    io_type: str
    optional: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    choices: tuple[Any, ...] | None = None


@dataclass(slots=True)
class Output:
    """One declared output."""

    id: str | None
    io_type: str
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False


_WIRE_NAMES = {
    "force_input": "forceInput",
    "raw_link": "rawLink",
    "display_mode": "display",
    "widget_type": "widgetType",
    "dynamic_prompts": "dynamicPrompts",
}


def _input(id: str, io_type: str, optional: bool, given: Mapping[str, Any]) -> Input:
    options = {_WIRE_NAMES.get(k, k): v for k, v in given.items() if v is not None}
    options.update(options.pop("extra_dict", {}))
    plain = {k: v.value if isinstance(v, Enum) else v for k, v in options.items()}
    return Input(id, io_type, optional, plain)


class ComfyType:
    """A socket type; subclasses differ in their wire name and in the options of their input.

    Every `Input` takes the id and, as keywords, `display_name`, `optional`, `tooltip`, `lazy`,
    `default`, `force_input`, `raw_link`, `socketless`, `advanced`, `extra_dict` and what the
    type has besides.
    """

    Type = Any
    io_type = "*"

    @classmethod
    def Input(  # noqa: N802 - the name that packs use
        cls,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        default: Any = None,
        **options: Any,
    ) -> Input:
        """An input of this type."""
        given = {
            "display_name": display_name, "tooltip": tooltip, "lazy": lazy, "default": default,
        }  # fmt: skip
        return _input(id, cls.io_type, optional, given | options)

    @classmethod
    def Output(  # noqa: N802
        cls,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> Output:
        """An output of this type."""
        return Output(id, cls.io_type, display_name, tooltip, is_output_list)


class Combo(ComfyType):
    """One of several texts."""

    io_type = "COMBO"

    @classmethod
    def Input(  # noqa: N802 # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        id: str,
        options: Sequence[Any] | type[Enum] | None = None,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        default: Any = None,
        **more: Any,
    ) -> Input:
        """An input with fixed choices, or with those of an Enum."""
        upload = more.pop("upload", None)
        if upload is not None:
            more[UploadType(upload).value] = True
        made = super().Input(id, display_name, optional, tooltip, lazy, default, **more)
        if isinstance(options, type):
            options = [item.value for item in options]
        made.choices = None if options is None else tuple(options)
        return made


class MultiCombo(ComfyType):
    """Several of several texts."""

    io_type = "COMBO"

    @classmethod
    def Input(cls, id: str, options: Sequence[Any], **more: Any) -> Input:  # noqa: N802 # pyright: ignore[reportIncompatibleMethodOverride]
        """An input whose value is a list of choices."""
        return Combo.Input(id, options, multiselect=True, **more)


class MultiType:
    """An input that takes any of several types."""

    @staticmethod
    def Input(  # noqa: N802
        id: "str | Input", types: "Sequence[type[ComfyType] | Input]", **more: Any
    ) -> Input:
        """A union; with an input in place of the id, its widget stands for the value."""
        base = id if isinstance(id, Input) else ComfyType.Input(id, **more)
        names = [base.io_type] if isinstance(id, Input) else []
        names += [t.io_type for t in types]
        return Input(
            base.id, ",".join(dict.fromkeys(names)), base.optional, base.options, base.choices
        )


def Custom(io_type: str) -> type[ComfyType]:  # noqa: N802
    """A socket type of the pack's own."""
    return cast(type[ComfyType], type(io_type, (ComfyType,), {"io_type": io_type}))


AnyType = Custom("*")
Boolean = Custom("BOOLEAN")
Int = Custom("INT")
Float = Custom("FLOAT")
String = Custom("STRING")
Image = Custom("IMAGE")
Mask = Custom("MASK")
Latent = Custom("LATENT")
Conditioning = Custom("CONDITIONING")
Model = Custom("MODEL")
Clip = Custom("CLIP")
Vae = Custom("VAE")
ControlNet = Custom("CONTROL_NET")
ClipVision = Custom("CLIP_VISION")
ClipVisionOutput = Custom("CLIP_VISION_OUTPUT")
StyleModel = Custom("STYLE_MODEL")
Gligen = Custom("GLIGEN")
UpscaleModel = Custom("UPSCALE_MODEL")
LatentUpscaleModel = Custom("LATENT_UPSCALE_MODEL")
Sampler = Custom("SAMPLER")
Sigmas = Custom("SIGMAS")
Noise = Custom("NOISE")
Guider = Custom("GUIDER")
Audio = Custom("AUDIO")
Video = Custom("VIDEO")
Hooks = Custom("HOOKS")
HookKeyframes = Custom("HOOK_KEYFRAMES")
TimestepsRange = Custom("TIMESTEPS_RANGE")
LoraModel = Custom("LORA_MODEL")
LossMap = Custom("LOSS_MAP")
Mesh = Custom("MESH")
Voxel = Custom("VOXEL")
SVG = Custom("SVG")
FlowControl = Custom("FLOW_CONTROL")
Accumulation = Custom("ACCUMULATION")
Point = Custom("POINT")
BBOX = Custom("BBOX")
SEGS = Custom("SEGS")
Webcam = Custom("WEBCAM")


@dataclass(slots=True, kw_only=True)
class Schema:
    """What a declarative node looks like from outside."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_dev_only: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False
    accept_all_inputs: bool = False
    essentials_category: str | None = None
    price_badge: Any = None


class NodeOutput:
    """What `execute` returns: values, what to show, a sub-graph, or a reason to stop here."""

    def __init__(
        self,
        *args: Any,
        ui: Any = None,
        expand: Mapping[str, Any] | None = None,
        block_execution: str | None = None,
    ) -> None:
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self) -> tuple[Any, ...] | None:
        """The values, or None when there are none."""
        return self.args or None


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenHolder:
    """The hidden values of one call, as `cls.hidden`; those that were not asked for are None."""

    unique_id: str | None = None
    prompt: Any = None
    extra_pnginfo: Any = None
    dynprompt: Any = None
    auth_token_comfy_org: str | None = None
    api_key_comfy_org: str | None = None


class ComfyNode:
    """Base of declarative nodes. `define_schema` and `execute` are classmethods.

    It may also have the classmethods `validate_inputs`, `fingerprint_inputs` and
    `check_lazy_status`.
    """

    hidden: HiddenHolder = HiddenHolder()

    @classmethod
    def define_schema(cls) -> Schema:
        """The schema of the node."""
        raise NotImplementedError(f"{cls.__name__} has no define_schema().")

    @classmethod
    def execute(cls, **inputs: Any) -> Any:
        """Run the node once."""
        raise NotImplementedError(f"{cls.__name__} has no execute().")


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    raise MissingHostSymbol(f"comfy_api.latest.io.{name} is not offered (missing host symbol).")
