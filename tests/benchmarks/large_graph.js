/** A graph of 2,000 nodes and 3,500 links, and how long it takes to load, move and undo. */
async () => {
  const { store, scene } = window.weft;
  const TYPES = ["KSampler", "CLIPTextEncode", "VAEDecode", "CheckpointLoaderSimple", "LoraLoader"];
  const [NODES, LINKS, ROWS] = [2000, 3500, 40];

  let seed = 5;
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;

  function makeNode(_, at) {
    const type = TYPES[at % TYPES.length];
    const spec = store.get().specs.get(type);
    return {
      id: at + 1,
      type,
      pos: [Math.floor(at / ROWS) * 420, (at % ROWS) * 380],
      inputs: spec.inputs
        .filter((input) => !input.isWidget)
        .map(({ name, type: kind }) => ({ name, type: kind, link: null })),
      outputs: spec.outputs.map(({ name, type: kind }) => ({ name, type: kind })),
    };
  }

  function linkUp(nodes) {
    const links = [];
    for (let round = 0; round < 40; round += 1) {
      for (const target of nodes.slice(ROWS)) {
        if (links.length === LINKS) return links;
        const input = target.inputs.find((slot) => slot.link === null);
        if (!input) continue;
        const source = nodes[Math.max(0, target.id - 2 - Math.floor(random() * 120))];
        const slot = source.outputs.findIndex((output) => output.type === input.type);
        if (slot < 0) continue;
        input.link = links.length + 1;
        const at = target.inputs.indexOf(input);
        links.push([input.link, source.id, slot, target.id, at, input.type]);
      }
    }
    return links;
  }

  const frame = () => new Promise(requestAnimationFrame);
  const round = (value) => Number(value.toFixed(1));

  async function frames(count, step) {
    const times = [];
    let last = performance.now();
    for (let at = 0; at < count; at += 1) {
      step(at);
      await frame();
      times.push(performance.now() - last);
      last = performance.now();
    }
    times.sort((a, b) => a - b);
    return { p50: round(times[count >> 1]), p95: round(times[Math.floor(count * 0.95)]) };
  }

  const centred = (scale) => scene.setView({ x: 9000 - 720 / scale, y: 7000 - 450 / scale, scale });

  function bareCanvas() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [innerWidth, innerHeight];
    canvas.style.position = "fixed";
    canvas.style.zIndex = "99";
    document.body.append(canvas);
    const context = canvas.getContext("2d", { alpha: false });
    const draw = (x, y, scale) => {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.fillStyle = "#111";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.setTransform(scale, 0, 0, scale, -x * scale, -y * scale);
      context.strokeStyle = "#88f";
      context.lineWidth = 2;
      context.beginPath();
      for (const { x1, y1, x2, y2 } of scene.geometry.curves) {
        context.moveTo(x1, y1);
        context.lineTo(x2, y2);
      }
      context.stroke();
      context.fillStyle = "#333";
      for (const box of scene.geometry.boxes) context.fillRect(box.x, box.y, box.width, box.height);
    };
    return { draw, remove: () => canvas.remove() };
  }

  const nodes = Array.from({ length: NODES }, makeNode);
  const links = linkUp(nodes);
  const start = performance.now();
  store.load({ nodes, links, version: 0.4 }, { name: "large" });
  scene.setView({ x: 2000, y: 2000, scale: 1 });
  await frame();
  await frame();
  const figures = { nodes: NODES, links: links.length, load_ms: round(performance.now() - start) };
  await frames(40, () => scene.requestFrame());

  const pan = (x, y, scale) => (at) => scene.setView({ x: 2000 + at * x, y: 2000 + at * y, scale });
  figures.pan = await frames(120, pan(22, 9, 1));
  figures.pan_half = await frames(120, pan(44, 20, 0.45));
  figures.pan_far = await frames(120, pan(40, 30, 0.2));
  figures.pan_all = await frames(120, pan(20, 5, 0.06));
  figures.zoom = await frames(240, (at) =>
    centred(0.06 * 20 ** (at < 120 ? at / 120 : (240 - at) / 120)),
  );
  figures.crossing = await frames(120, (at) => centred(0.3 + 0.2 * Math.abs(Math.sin(at / 12))));

  store.edit("Move", (now) => {
    const node = now.nodes.get("7");
    return { ...now, nodes: new Map(now.nodes).set("7", { ...node, pos: [1, 2] }) };
  });
  await frame();
  const undo = performance.now();
  store.undo();
  await frame();
  figures.undo_ms = round(performance.now() - undo);
  figures.elements = scene.counts().elements;

  const bare = bareCanvas();
  figures.bare = await frames(120, (at) => bare.draw(at * 20, at * 5, 0.06));
  bare.remove();
  return figures;
};
