"""Graphs of the customary kinds as the text that other programs write."""

from typing import Any

from engine.diffusion.parameters_text import parameters_text


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def hash_of(kind: str, name: str) -> str:
    return f"{len(kind):x}{len(name):x}" * 16


def base() -> dict[str, Any]:
    return {
        "ck": node("CheckpointLoaderSimple", ckpt_name="sd/model.safetensors"),
        "lo": node(
            "LoraLoader", model=["ck", 0], clip=["ck", 1], lora_name="one.safetensors",
            strength_model=0.8, strength_clip=0.8,
        ),
        "l2": node("LoraLoaderModelOnly", model=["lo", 0], lora_name="b.pt", strength_model=-1),
        "cl": node("CLIPSetLastLayer", clip=["lo", 1], stop_at_clip_layer=-2),
        "tx": node("PrimitiveString", value="a (red:1.2) boat, sea"),
        "po": node("CLIPTextEncode", text=["tx", 0], clip=["cl", 0]),
        "ne": node("CLIPTextEncode", text="blurry", clip=["cl", 0]),
        "la": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "ks": node(
            "KSampler", model=["l2", 0], positive=["po", 0], negative=["ne", 0],
            latent_image=["la", 0], seed=2**63, steps=20, cfg=7, sampler_name="dpmpp_2m",
            scheduler="karras", denoise=1,
        ),
        "de": node("VAEDecode", samples=["ks", 0], vae=["va", 0]),
        "va": node("VAELoader", vae_name="v.safetensors"),
        "sa": node("SavePicture", images=["de", 0]),
    }  # fmt: skip


def test_a_whole_graph_of_the_customary_kind() -> None:
    assert parameters_text(base(), "sa", (512, 768), hash_of) == (
        "a (red:1.2) boat, sea <lora:one:0.8> <lora:b:-1>\n"
        "Negative prompt: blurry\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, "
        "Seed: 9223372036854775808, Size: 512x768, Model hash: b14b14b14b, Model: model, "
        "VAE hash: 3d3d3d3d3d, VAE: v.safetensors, Clip skip: 2, "
        'Lora hashes: "one: 5f5f5f5f5f, b: 5454545454", Version: Weft'
    )


def lines(graph: dict[str, Any], size: tuple[int, int] = (512, 768)) -> list[str]:
    text = parameters_text(graph, "sa", size, lambda *_: "")
    assert text is not None
    return text.splitlines()


def test_made_texts_and_tagged_loras_are_told() -> None:
    graph = base()
    graph["lo"] = node("LoraTags", model=["ck", 0], clip=["ck", 1], tagged_text=["dy", 0])
    graph["dy"] = node("DynamicPrompt", text="a {red|blue} boat <lora:one:0.5:0.8>", seed=1)
    graph["po"]["inputs"]["text"] = ["lo", 2]
    made = {"lo": {"tagged_text": "a red boat <lora:one:0.5:0.8>"}, "po": {"text": "a red boat"}}
    text = parameters_text(graph, "sa", (512, 768), lambda *_: "", made)
    assert text is not None
    assert text.splitlines()[0] == "a red boat <lora:one:0.5:0.8> <lora:b:-1>"
    assert "{" not in text
    # Without the engine's word for it, the text as it was written.
    assert lines(graph)[0] == "a {red|blue} boat <lora:one:0.5:0.8> <lora:b:-1>"


def test_a_second_pass_is_a_hires_fix() -> None:
    graph = base()
    up = node("LatentUpscaleBy", samples=["ks", 0], upscale_method="bilinear", scale_by=1.5)
    second = node("KSampler", **{**graph["ks"]["inputs"], "latent_image": ["up", 0]})
    second["inputs"] |= {"steps": 12, "denoise": 0.55, "seed": 1}
    graph |= {"up": up, "k2": second}
    graph["de"]["inputs"]["samples"] = ["k2", 0]
    last = lines(graph, (768, 1152))[-1]
    assert "Steps: 20," in last and "Size: 512x768" in last
    assert (
        "Denoising strength: 0.55, Hires upscale: 1.5, Hires steps: 12, "
        "Hires upscaler: Latent (bilinear)"
    ) in last


def test_image_to_image_tells_its_denoising_and_the_pictures_size() -> None:
    graph = base()
    graph["ks"]["inputs"] |= {"latent_image": ["en", 0], "denoise": 0.4}
    graph["en"] = node("VAEEncode", pixels=["im", 0])
    assert "Size: 640x480, Denoising strength: 0.4" in lines(graph, (640, 480))[-1]


def test_the_parts_of_a_custom_sampler_are_read() -> None:
    graph = base()
    graph |= {
        "ks": node(
            "SamplerCustomAdvanced", noise=["no", 0], guider=["gu", 0], sampler=["sm", 0],
            sigmas=["si", 0], latent_image=["la", 0],
        ),
        "no": node("RandomNoise", noise_seed=5),
        "gu": node("CFGGuider", model=["l2", 0], positive=["po", 0], negative=["ne", 0], cfg=3.5),
        "sm": node("KSamplerSelect", sampler_name="euler_ancestral"),
        "si": node("KarrasScheduler", steps=9, sigma_max=14.6),
    }  # fmt: skip
    first, negative, last = lines(graph)
    assert first.startswith("a (red:1.2) boat") and negative == "Negative prompt: blurry"
    assert last.startswith(
        "Steps: 9, Sampler: Euler a, Schedule type: Karras, CFG scale: 3.5, Seed: 5"
    )


def test_joined_texts_are_joined_by_the_words_for_it() -> None:
    graph = base()
    graph["p2"] = node("CLIPTextEncode", text="birds")
    graph["co"] = node("ConditioningCombine", conditioning_1=["po", 0], conditioning_2=["p2", 0])
    graph["ks"]["inputs"]["positive"] = ["co", 0]
    assert lines(graph)[0].startswith("a (red:1.2) boat, sea AND birds")


def test_no_sampler_no_text_and_no_endless_walk() -> None:
    graph = {"im": node("LoadImage", image="a.png"), "sa": node("SaveImage", images=["im", 0])}
    assert parameters_text(graph, "sa", (1, 1), hash_of) is None
    graph = base()
    graph["po"] = node("ConditioningCombine", conditioning_1=["po", 0], conditioning_2=["po", 0])
    graph["tx"] = node("Text", value=["tx", 0])
    assert lines(graph)[0].startswith("<lora:one:0.8>")
