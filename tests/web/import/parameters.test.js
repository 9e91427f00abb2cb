/** Parameter texts of other programs, written by hand from their formats. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { toPrompt } from "../../../web/graph/to_prompt.js";
import { writeFile } from "../../../web/graph/format.js";
import { readSpecs } from "../../../web/graph/specs.js";
import { importFile, importText } from "../../../web/import/index.js";
import { matchModel } from "../../../web/import/model_match.js";
import { parseParameters } from "../../../web/import/parameters.js";
import { jpeg, png, tEXt, tiff, unicodeComment, webp } from "./bytes.js";

const info = JSON.parse(
  readFileSync(new URL("../fixtures/core_nodes.json", import.meta.url), "utf8"),
);
const specs = readSpecs(info);
const INSTALLED = [
  {
    kind: "checkpoints",
    name: "sd15/DreamShaper_8.safetensors",
    sha256: "879db523c30d3b9017143d56705015e15a2cb5628762c11d086fed9538abd7fd",
  },
  { kind: "loras", name: "Detail-Tweaker.safetensors", sha256: "" },
  { kind: "vae", name: "vae-ft-mse-840000.safetensors", sha256: "" },
];

const A1111 = `a castle on a hill, (sunset:1.2), <lora:detail_tweaker:0.6> <lora:gone:1>,
second line: with a colon
Negative prompt: blurry, low quality
more negative
Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 4294967295, Size: 512x768, Model hash: 879db523c3, Model: other_name, VAE hash: 735e4c3a44, VAE: vae-ft-mse-840000.safetensors, Denoising strength: 0.45, Clip skip: 2, Hires upscale: 2, Hires steps: 12, Hires upscaler: Latent (nearest-exact), Lora hashes: "detail_tweaker: 7c6bad76eb54, gone: 0123456789ab", Version: v1.9.4`;

test("A1111: everything has its place, the rest is kept", () => {
  const found = parseParameters(A1111);
  assert.equal(found.program, "A1111");
  assert.equal(found.prompt, "a castle on a hill, (sunset:1.2), \nsecond line: with a colon");
  assert.equal(found.negative, "blurry, low quality\nmore negative");
  assert.deepEqual(
    [found.steps, found.cfg, found.seed, found.width, found.height, found.clipSkip],
    [28, 6.5, 4294967295, 512, 768, 2],
  );
  assert.deepEqual(found.model, { name: "other_name", hash: "879db523c3" });
  assert.deepEqual(found.loras, [
    { name: "detail_tweaker", hash: "7c6bad76eb54", weight: 0.6 },
    { name: "gone", hash: "0123456789ab", weight: 1 },
  ]);
  assert.deepEqual(found.hires, {
    factor: 2,
    steps: 12,
    denoise: 0.45,
    upscaler: "Latent (nearest-exact)",
  });
  assert.deepEqual(found.rest, { Version: "v1.9.4" });
  assert.equal(found.raw, A1111);
});

test("A1111: it becomes a graph of core nodes, models by hash and by name", () => {
  const imported = importText(A1111, "castle", specs, INSTALLED);
  const prompt = toPrompt(writeFile(imported.document, specs), specs);
  const nodes = Object.values(prompt);
  const of = (type) => nodes.filter((node) => node.class_type === type);
  assert.equal(of("CheckpointLoaderSimple")[0].inputs.ckpt_name, "sd15/DreamShaper_8.safetensors");
  assert.equal(of("VAELoader")[0].inputs.vae_name, "vae-ft-mse-840000.safetensors");
  assert.deepEqual(
    of("LoraLoader").map((n) => n.inputs.lora_name),
    ["Detail-Tweaker.safetensors", "gone.safetensors"],
  );
  assert.equal(of("CLIPSetLastLayer")[0].inputs.stop_at_clip_layer, -2);
  assert.deepEqual(
    of("KSampler").map((n) => [n.inputs.steps, n.inputs.denoise]),
    [
      [28, 1],
      [12, 0.45],
    ],
  );
  assert.deepEqual(
    [
      of("KSampler")[0].inputs.sampler_name,
      of("KSampler")[0].inputs.scheduler,
      of("KSampler")[0].inputs.seed,
    ],
    ["dpmpp_2m", "karras", 4294967295],
  );
  assert.equal(of("LatentUpscaleBy")[0].inputs.upscale_method, "nearest-exact");
  assert.deepEqual(imported.missing, [{ kind: "loras", name: "gone", hash: "0123456789ab" }]);
  const note = [...imported.document.nodes.values()].find((node) => node.type === "Note");
  assert.ok(JSON.stringify(note).includes("second line"));
});

test("Forge and SD.Next: their own names for the same", () => {
  const forge = parseParameters(
    "a cat\nSteps: 20, Sampler: Euler, Schedule type: Beta, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 1, Size: 896x1152, Model hash: abc, Model: flux1-dev, Version: f2.0.1v1.10.1",
  );
  assert.deepEqual(
    [forge.program, forge.schedule, forge.negative, forge.rest["Distilled CFG Scale"]],
    ["Forge", "Beta", "", "3.5"],
  );
  const next = parseParameters(
    "a cat\nNegative prompt: dog\nSteps: 20, Size: 1024x1024, Sampler: DPM++ 2M, Scheduler: Karras, Seed: 7, CFG scale: 6, App: SD.Next, Version: 8dd3cc4, Model: juggernaut, Model hash: 33e58e8668",
  );
  assert.deepEqual(
    [next.program, next.sampler, next.schedule, next.width],
    ["SD.Next", "DPM++ 2M", "Karras", 1024],
  );
});

test("Fooocus: its JSON and the full prompts", () => {
  const found = parseParameters(
    JSON.stringify({
      prompt: "cat",
      full_prompt: ["cinematic still cat", "highres"],
      negative_prompt: "",
      full_negative_prompt: ["anime"],
      styles: "['Fooocus V2']",
      performance: "Speed",
      steps: 30,
      resolution: "(1152, 896)",
      guidance_scale: 4,
      sharpness: 2,
      base_model: "juggernautXL_v8",
      base_model_hash: "aeb7e9e689",
      sampler: "dpmpp_2m_sde_gpu",
      scheduler: "karras",
      seed: "8233490563441254122",
      loras: [["sd_xl_offset", 0.1, "4852686128"]],
      version: "Fooocus v2.5.3",
    }),
  );
  assert.deepEqual(
    [found.program, found.prompt, found.negative, found.width, found.height, found.seed],
    ["Fooocus", "cinematic still cat\nhighres", "anime", 1152, 896, 8233490563441254122n],
  );
  assert.deepEqual(found.loras, [{ name: "sd_xl_offset", weight: 0.1, hash: "4852686128" }]);
  assert.equal(found.rest.sharpness, "2");
});

test("InvokeAI: today's metadata, the older one, and its command line", () => {
  const now = parseParameters(
    JSON.stringify({
      generation_mode: "txt2img",
      positive_prompt: "a fox",
      negative_prompt: "blur",
      width: 512,
      height: 640,
      seed: 5,
      cfg_scale: 7.5,
      steps: 30,
      scheduler: "dpmpp_2m_k",
      clip_skip: 1,
      model: { key: "k", hash: "blake3:ff", name: "dreamshaper-8", base: "sd-1", type: "main" },
      loras: [{ model: { name: "detail", hash: "blake3:aa" }, weight: 0.75 }],
    }),
  );
  assert.deepEqual(
    [now.program, now.sampler, now.schedule, now.clipSkip, now.model.name, now.loras[0].weight],
    ["InvokeAI", "dpmpp_2m", "karras", 2, "dreamshaper-8", 0.75],
  );
  const old = parseParameters(
    JSON.stringify({
      model: "stable diffusion",
      model_weights: "sd-1.5",
      image: {
        prompt: [{ prompt: "a fox [blur]", weight: 1 }],
        steps: 20,
        cfg_scale: 7,
        seed: 3,
        width: 512,
        height: 512,
        sampler: "k_euler_a",
      },
    }),
  );
  assert.deepEqual(
    [old.prompt, old.negative, old.sampler, old.model.name],
    ["a fox", "blur", "euler_a", "sd-1.5"],
  );
  const dream = parseParameters('"a fox" -s 50 -S 123 -W 512 -H 448 -C 7.5 -A k_lms');
  assert.deepEqual(
    [dream.prompt, dream.steps, dream.seed, dream.height, dream.sampler],
    ["a fox", 50, 123, 448, "lms"],
  );
});

test("SwarmUI: parameters, models' hashes, LoRA lists", () => {
  const found = parseParameters(
    JSON.stringify({
      sui_image_params: {
        prompt: "a boat <lora:waves:0.5>",
        negativeprompt: "",
        model: "OfficialStableDiffusion/sd_xl",
        seed: 9,
        steps: 25,
        cfgscale: 6,
        width: 1024,
        height: 768,
        sampler: "dpmpp_2m",
        scheduler: "karras",
        loras: ["ink"],
        loraweights: ["0.8"],
        swarm_version: "0.9.3",
      },
      sui_models: [
        { name: "OfficialStableDiffusion/sd_xl.safetensors", param: "model", hash: "0x31e35c80fc" },
      ],
    }),
  );
  assert.deepEqual(
    [found.prompt, found.model.hash, found.loras.map((l) => [l.name, l.weight])],
    [
      "a boat",
      "31e35c80fc",
      [
        ["ink", 0.8],
        ["waves", 0.5],
      ],
    ],
  );
  assert.equal(found.rest.swarm_version, "0.9.3");
});

test("texts that are no parameters are none", () => {
  for (const text of [
    "",
    "hello",
    "{}",
    "[1]",
    "Steps are: many, or: few",
    '{"a": 1}',
    "a\nb: c, d: e",
  ]) {
    assert.equal(parseParameters(text), null, text);
  }
});

test("every program's picture opens, in PNG, WebP and JPEG", async () => {
  const line =
    "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: DreamShaper_8";
  const files = [
    new File([png(tEXt("parameters", line))], "a.png"),
    new File([webp(tiff({}, unicodeComment(line, false)))], "b.webp"),
    new File([jpeg(tiff({}, unicodeComment(line, false), false))], "c.jpg"),
  ];
  for (const file of files) {
    const imported = await importFile(file, specs, INSTALLED);
    assert.equal(imported.missing.length, 0, file.name);
    assert.equal(imported.document.nodes.size, 8, file.name);
  }
});

test("the editor's own pictures: the workflow before the prompt, models matched", async () => {
  const prompt = {
    4: {
      class_type: "CheckpointLoaderSimple",
      inputs: { ckpt_name: "SD15\\dreamshaper_8.safetensors" },
    },
  };
  const file = new File([png(tEXt("prompt", JSON.stringify(prompt)))], "a.png");
  const imported = await importFile(file, specs, INSTALLED);
  assert.deepEqual(imported.matched, [
    "SD15\\dreamshaper_8.safetensors → sd15/DreamShaper_8.safetensors",
  ]);
  assert.equal(await importFile(new File([png()], "b.png"), specs, INSTALLED), null);
});

test("models: by digest before name, by likeness last, else missing", () => {
  const match = (name, hash = "") => matchModel({ name, hash }, "checkpoints", INSTALLED);
  assert.equal(match("x", "879db523c3").how, "hash");
  assert.equal(match("dreamshaper_8").how, "name");
  assert.equal(match("Dream Shaper 8").how, "likeness");
  assert.deepEqual(match("none"), { file: "none.safetensors", isFound: false, how: "" });
});
