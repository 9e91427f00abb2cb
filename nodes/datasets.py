"""Nodes that read, check, change and show captioned pictures to train on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, cast

from engine.api import (
    Choice,
    Dataset,
    Float,
    Image,
    Int,
    NodeOutput,
    Options,
    RunContext,
    Text,
    Toggle,
    node,
)
from engine.api.types import Mask
from engine.diffusion.training.data import attributes, captions, coco, folders
from engine.diffusion.training.data import dataset as sets
from engine.diffusion.training.data.cache import ContentStore
from engine.diffusion.training.data.loading import Source
from engine.diffusion.training.data.report import check
from engine.diffusion.training.data.sheet import contact_sheet
from engine.diffusion.training.data.tensors import from_images, to_images, with_conditions
from engine.text.layout import count
from nodes.sampling import Seed

_CATEGORY = "training/data"
_STORE_BYTES = 20 << 30
_Folder = Annotated[
    str,
    Choice(
        folder="datasets",
        dataset_upload=True,
        tooltip="A folder in input/, in models/datasets/, or in a folder named 'datasets' in "
        "the file of --extra-model-paths-config.",
    ),
]
_Count = Annotated[int, Int(0, min=0, max=10_000_000, tooltip="How many pictures; 0 = all.")]


def _source(ctx: RunContext) -> Source:
    def progress(done: int, count: int) -> None:
        ctx.progress(done, count)

    return Source(digest=ctx.files.digest, store=_store(ctx), progress=progress)


def _store(ctx: RunContext) -> ContentStore:
    """Pictures that came in a table or over a wire."""
    return ContentStore(ctx.files.work_folder("dataset_pictures"), _STORE_BYTES)


# Loading ------------------------------------------------------------------------------------------


@node(
    "LoadDataset",
    title="Load Dataset",
    category=_CATEGORY,
    search=("folder", "training", "captions", "imagefolder", "kohya", "dreambooth"),
)
def load_dataset(
    folder: _Folder,
    layout: Annotated[
        str,
        Choice(
            ("automatic", "captions", "class folders", "parquet"),
            tooltip="captions: metadata.jsonl, a CSV file, or a .txt or .caption file beside each "
            "picture. class folders: one folder for each kind of thing. parquet: tables with the "
            "pictures inside.",
        ),
    ],
    class_caption: Annotated[
        str,
        Text(folders.CLASS_TEMPLATE, tooltip="The caption of class folders; {class} is the name."),
    ],
    grey_range: Annotated[
        str,
        Choice(
            ("automatic", "full", "12-bit"),
            tooltip="How grey pictures of more than 8 bit (X-rays) become visible: by their own "
            "darkest and lightest parts, from the whole 16 bit, or from 12 bit as scanners do.",
        ),
    ],
    ctx: RunContext,
) -> Dataset:
    """Opens a folder of pictures with their captions, to train on. With the buttons on the folder
    you select pictures of your own and write captions. Every picture is read once: broken ones
    stop the training before it starts. Masks (NAME-mask.png, or the folder masks) and condition
    pictures (the folder conditioning, or the column conditioning_image) come along."""
    return folders.read_folder(
        ctx.files.resolve("datasets", folder),
        _source(ctx),
        name=folder,
        layout=cast(folders.Layout, layout),
        class_template=class_caption,
        grey_range=cast(sets.GreyRange, grey_range),
    )


@node(
    "LoadCocoDataset",
    title="Load COCO Dataset",
    category=_CATEGORY,
    search=("coco", "captions", "training"),
)
def load_coco_dataset(
    folder: _Folder,
    annotations: Annotated[
        str,
        Text("", tooltip="The caption file, such as captions_val2017.json; empty = the only one."),
    ],
    count: Annotated[int, Int(100, min=0, max=10_000_000, tooltip="How many; 0 = all.")],
    pictures: Annotated[str, Choice(("first", "random"))],
    captions: Annotated[
        str,
        Choice(
            ("first", "random", "all"),
            tooltip="Each picture has about five captions: take the first, a random one, or all "
            "(the picture comes once with each).",
        ),
    ],
    seed: Seed,
    ctx: RunContext,
) -> Dataset:
    """Opens pictures with captions in the layout of the COCO dataset: a file
    annotations/captions_….json and a folder of pictures. Only pictures that are there count, so a
    part of COCO is enough."""
    return coco.read_coco(
        ctx.files.resolve("datasets", folder),
        _source(ctx),
        annotations=annotations,
        count=count,
        is_random=pictures == "random",
        captions=cast(coco.CaptionChoice, captions),
        seed=seed,
    )


@node(
    "LoadAttributeDataset",
    title="Load Attribute Dataset",
    category=_CATEGORY,
    search=("celeba", "faces", "attributes", "training"),
)
def load_attribute_dataset(
    folder: _Folder,
    template: Annotated[
        str,
        Text(
            attributes.TEMPLATE,
            multiline=True,
            tooltip="{attributes} lists what a picture has; {Male:man|woman} chooses by one of "
            "them.",
        ),
    ],
    count: _Count,
    ctx: RunContext,
) -> Dataset:
    """Opens pictures with an attribute list in the layout of CelebA (list_attr_celeba.txt) and
    writes a sentence for each by a template."""
    return attributes.read_attributes(
        ctx.files.resolve("datasets", folder), _source(ctx), template=template, count=count
    )


@node(
    "ImagesToDataset",
    title="Images to Dataset",
    category=_CATEGORY,
    search=("class images", "prior preservation", "training"),
)
def images_to_dataset(
    images: Image,
    caption: Annotated[str, Text("", multiline=True)],
    is_class: Annotated[
        bool,
        Toggle(
            False,
            tooltip="Class pictures, made by the model itself, keep it from forgetting what the "
            "class looks like (prior preservation).",
        ),
    ],
    ctx: RunContext,
    masks: Annotated[
        Mask | None, Options(tooltip="White counts in a masked loss; one for each picture.")
    ] = None,
) -> Dataset:
    """Makes a dataset of pictures from the same workflow, all with one caption, so that class
    pictures for DreamBooth can be generated and used in one run."""
    return from_images(images, caption, _store(ctx), masks=masks, is_class=is_class)


# Changing -----------------------------------------------------------------------------------------


@node("MergeDatasets", title="Merge Datasets", category=_CATEGORY, search=("concat", "join"))
def merge_datasets(
    first: Dataset,
    second: Dataset,
    third: Dataset | None = None,
    fourth: Dataset | None = None,
) -> Dataset:
    """Puts datasets one after the other."""
    return sets.merge(d for d in (first, second, third, fourth) if d is not None)


@node(
    "SplitDataset",
    title="Split Dataset",
    category=_CATEGORY,
    search=("validation", "train", "test"),
    output_names=("training", "validation"),
)
def split_dataset(
    dataset: Dataset,
    share: Annotated[
        float,
        Float(0.1, min=0.01, max=0.9, step=0.01, tooltip="The part that is held back."),
    ],
    seed: Seed,
) -> tuple[Dataset, Dataset]:
    """Holds pictures back to validate with: the training never sees them. Equal pictures stay
    together, and class pictures are all trained on."""
    return sets.split(dataset, share, seed)


@node("SubsetDataset", title="Subset of Dataset", category=_CATEGORY, search=("first", "random"))
def subset_dataset(
    dataset: Dataset,
    count: _Count,
    pictures: Annotated[str, Choice(("first", "random"))],
    seed: Seed,
) -> Dataset:
    """Takes some of the pictures."""
    return sets.subset(dataset, count, seed if pictures == "random" else None)


@node(
    "DatasetOptions",
    title="Repeats and Class of Dataset",
    category=_CATEGORY,
    search=("repeats", "prior preservation", "class images"),
)
def dataset_options(
    dataset: Dataset,
    repeats: Annotated[
        int, Int(1, min=1, max=10_000, tooltip="How often an epoch shows each picture.")
    ],
    is_class: Annotated[bool, Toggle(False, tooltip="Mark them as class pictures.")],
) -> Dataset:
    """Says how often each picture is shown, and whether they are class pictures: generated ones
    that keep the model from forgetting what the class looks like."""
    return sets.change(dataset, lambda e: replace(e, repeats=repeats, is_class=is_class))


@node(
    "EditCaptions",
    title="Edit Captions",
    category=_CATEGORY,
    search=("identifier", "trigger word", "prefix", "suffix", "replace", "template"),
)
def edit_captions(
    dataset: Dataset,
    prefix: Annotated[str, Text("", tooltip="Put in front, such as 'sks style, '.")],
    suffix: Annotated[str, Text("", tooltip="Put behind.")],
    find: Annotated[str, Text("", tooltip="A word or part to replace, such as 'dog'.")],
    replace_with: Annotated[str, Text("", tooltip="What stands in its place: 'sks dog'.")],
    template: Annotated[
        str,
        Text(
            "",
            tooltip="A new caption for all, such as 'a photo of sks dog'; {caption} is the old "
            "one, {name} the file's name. Empty = keep the captions.",
        ),
    ],
) -> Dataset:
    """Changes all captions of a dataset: replaces words, then fills the template, then adds prefix
    and suffix. This is where the unique identifier of DreamBooth goes in. Files stay as they
    are."""
    edit = captions.CaptionEdit(
        find=find, replace_with=replace_with, template=template, prefix=prefix, suffix=suffix
    )
    return captions.edited(dataset, edit)


@node(
    "SetCaptions",
    title="Set Captions",
    category=_CATEGORY,
    search=("captioning", "tagger", "texts"),
    takes_lists=True,
)
def set_captions(
    dataset: Dataset, texts: Annotated[str, Text("", forceInput=True, multiline=True)]
) -> Dataset:
    """Gives pictures new captions from a list of texts in their order, such as those of a
    captioning node behind Dataset to Images; one text is given to all."""
    (whole,), all_texts = cast(tuple[list[Any], list[str]], (dataset, texts))  # takes_lists
    return captions.with_texts(whole, all_texts)


@node(
    "SetConditionImages",
    title="Set Condition Images",
    category=_CATEGORY,
    search=("controlnet", "conditioning_image", "edges", "depth", "pose", "preprocessor"),
    takes_lists=True,
)
def set_condition_images(dataset: Dataset, images: Image, ctx: RunContext) -> Dataset:
    """Gives each picture a condition picture, for a ControlNet to learn from: put a preprocessor,
    such as Canny, between Dataset to Images and this node."""
    (whole,), all_images = cast(tuple[list[Any], list[Any]], (dataset, images))  # takes_lists
    return with_conditions(whole, all_images, _store(ctx))


@node(
    "DatasetToImages",
    title="Dataset to Images",
    category=_CATEGORY,
    search=("captioning", "tagger"),
    output_names=("images", "captions"),
    list_outputs=(0, 1),
)
def dataset_to_images(dataset: Dataset, ctx: RunContext) -> tuple[Image, str]:
    """Gives the pictures one by one with their captions, for nodes that take an image: captioning,
    filters, or only to look at them."""
    images = to_images(dataset, cast(Callable[[int, int], None], ctx.progress))
    return cast(tuple[Any, str], (images, [e.text for e in dataset.examples]))


# Looking ------------------------------------------------------------------------------------------


@node(
    "DatasetReport",
    title="Check Dataset",
    category=_CATEGORY,
    is_output=True,
    search=("report", "duplicates", "training"),
)
def dataset_report(
    dataset: Dataset,
    size: Annotated[
        int, Int(512, min=8, max=8192, step=8, tooltip="The side that you will train at.")
    ],
    is_subject: Annotated[
        bool, Toggle(False, tooltip="All pictures show one subject, as for DreamBooth.")
    ],
) -> Annotated[NodeOutput, str]:
    """Looks for what would spoil hours of training: broken files, duplicates and pictures that are
    nearly alike, pictures too small or too long, captions that are missing or too long, too few
    pictures. Errors stop a training, warnings do not."""
    report = check(dataset, size, lambda text: count(text).total, is_subject=is_subject)
    text = report.to_text()
    return NodeOutput(result=(text,), ui={"text": (text,), "dataset_report": (report.to_json(),)})


@node(
    "PreviewDataset",
    title="Dataset Contact Sheet",
    category=_CATEGORY,
    search=("preview", "contact sheet", "captions"),
)
def preview_dataset(
    dataset: Dataset,
    count: Annotated[int, Int(24, min=1, max=400)],
    columns: Annotated[int, Int(6, min=1, max=40)],
    cell_size: Annotated[int, Int(160, min=48, max=1024, step=8)],
) -> Image:
    """Draws the pictures with their captions on one sheet."""
    return contact_sheet(dataset, count=count, columns=columns, cell_px=cell_size)


NODES = [
    load_dataset,
    load_coco_dataset,
    load_attribute_dataset,
    images_to_dataset,
    merge_datasets,
    split_dataset,
    subset_dataset,
    dataset_options,
    edit_captions,
    set_captions,
    set_condition_images,
    dataset_to_images,
    dataset_report,
    preview_dataset,
]
