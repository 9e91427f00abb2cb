"""Nodes that make prompts: styles, choices by a seed, negative prompts, tokens, schedules."""

from functools import partial
from typing import Annotated

from engine.api import (
    Choice,
    Clip,
    Conditioning,
    Float,
    Int,
    Model,
    NodeError,
    NodeOutput,
    RunContext,
    Text,
    node,
)
from engine.diffusion.sample import model_parameterization
from engine.diffusion.scheduled_text import encode_scheduled, even_shares, step_shares
from engine.diffusion.schedules import SCHEDULE_NAMES, schedule
from engine.diffusion.text import count_tokens
from engine.text.dynamic import read_wildcards, resolve
from engine.text.embeddings import find_embedding
from engine.text.negatives import NEGATIVES
from engine.text.styles import MISSING_FILE, chosen, read_all, style_files, with_styles
from nodes.conditioning import present
from nodes.sampling import Seed

_CATEGORY = "conditioning/prompts"
_Multiline = Annotated[str, Text(multiline=True)]


@node(
    "DynamicPrompt",
    title="Dynamic Prompt",
    category=_CATEGORY,
    search=("wildcards", "random prompt", "dynamic prompts"),
    output_names=("text",),
    reads=("user/wildcards/",),
)
def dynamic_prompt(text: _Multiline, seed: Seed, ctx: RunContext) -> Annotated[NodeOutput, str]:
    """Makes the choices in a prompt: `{red|blue}` and `__wildcards__`, decided by the seed.

    `{2::a|b}` takes a twice as often, `{2$$a|b|c}` takes two of them. `__hair/colour__` is a line
    of the file user/wildcards/hair/colour.txt. The text that was made is kept in the picture.
    """
    made = resolve(text, seed, read_wildcards(ctx.files.below("user", "wildcards")))
    return NodeOutput(result=(made,), ui={"text": (made,)})


@node(
    "PromptStyles",
    title="Prompt Styles",
    category=_CATEGORY,
    search=("styles.csv", "template"),
    output_names=("text", "negative"),
    reads=("user/{file}", "input/{file}"),
)
def prompt_styles(
    text: _Multiline,
    negative: _Multiline,
    styles: Annotated[str, Text(multiline=True, tooltip="names, one a line or between commas")],
    file: Annotated[str, Text("styles.csv", tooltip="a CSV file in user/ or input/")],
    ctx: RunContext,
) -> tuple[str, str]:
    """Puts a prompt and a negative prompt into named styles of a styles.csv.

    The file lies in user/ or input/ and has the columns name, prompt and negative_prompt;
    `{prompt}` in a style stands for your text.
    """
    paths = style_files(ctx.files.resolve, file)
    if styles.strip() and not paths:
        raise NodeError(f"There is no styles file {file}.", hint=MISSING_FILE)
    return with_styles(text, negative, chosen(styles, read_all(paths)))


@node("NegativePrompt", title="Negative Prompt", category=_CATEGORY, output_names=("text",))
def negative_prompt(
    kind: Annotated[str, Choice(tuple(NEGATIVES))],
    more: Annotated[str, Text(multiline=True, tooltip="is added at the end")],
) -> str:
    """A customary negative prompt: what pictures of a kind should not show."""
    return ", ".join(part for part in (NEGATIVES[kind], more.strip()) if part)


@node(
    "CLIPTokenCount",
    title="CLIP Token Count",
    category=_CATEGORY,
    search=("tokens", "chunks"),
    output_names=("tokens", "chunks", "text"),
)
def clip_token_count(
    text: _Multiline, clip: Clip, ctx: RunContext
) -> Annotated[NodeOutput, int, int, str]:
    """Counts the tokens of a prompt and the chunks of 75 that they fill."""
    with ctx.models.use(present(clip)) as loaded:
        find = partial(find_embedding, ctx.files.resolve)
        found = count_tokens(loaded, text, find_embedding=find, log=ctx.log)
    said = found.in_words()
    return NodeOutput(result=(found.total, len(found.chunks), said), ui={"text": (said,)})


@node(
    "CLIPTextEncodeScheduled",
    title="CLIP Text Encode (Scheduled)",
    category=_CATEGORY,
    search=("prompt editing", "prompt scheduling", "alternating", "AND", "composable"),
)
def clip_text_encode_scheduled(
    text: Annotated[str, Text(multiline=True, dynamicPrompts=True)],
    clip: Clip,
    steps: Annotated[int, Int(20, min=1, max=1000, tooltip="as in the sampler")],
    ctx: RunContext,
    denoise: Annotated[float, Float(1.0, min=0.01, max=1.0, step=0.01)] = 1.0,
    scheduler: Annotated[
        str, Choice(SCHEDULE_NAMES, default="normal", tooltip="counts when a model is linked")
    ] = "normal",
    model: Model | None = None,
) -> Conditioning:
    """Encodes a prompt that changes while the picture is made.

    `[red:blue:8]` is red in the first 8 steps and blue after them, `[red:blue:0.4]` changes after
    40 %; `[blue:8]` adds, `[red::8]` takes away; `[cow|horse]` takes turns step by step.
    `a cat :1.2 AND a dog` follows both texts at once, by weight. With the sampler's model and
    scheduler the steps are exactly the sampler's; without a model they are even.
    """
    if model is None:
        shares = even_shares(steps, denoise)
    else:
        times = model_parameterization(ctx, model)
        sigmas = schedule(times, scheduler, steps, denoise)
        shares = step_shares(sigmas, times.times.sigma_at)
    with ctx.models.use(present(clip)) as loaded:
        find = partial(find_embedding, ctx.files.resolve)
        return encode_scheduled(loaded, text, shares, find_embedding=find, log=ctx.log)


NODES = [
    dynamic_prompt,
    prompt_styles,
    negative_prompt,
    clip_token_count,
    clip_text_encode_scheduled,
]
