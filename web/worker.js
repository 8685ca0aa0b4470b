/** The worker: decodes an image, runs the network, and answers with the cutout. One at a time. */

import { blurBackground, fuse, paint, prepare, restore } from "./pixels.js";

const STRIP = 1 << 21;  // pixels that are read and painted at once
const SMALL = 1024, BLUR_SIDE = 512;  // longer sides of the copies for own colours and for the blurred background
let session, ort, size;

/** What the page asks: `open` with the runtime and the network, then `cut` with one image each. */
self.onmessage = async ({ data }) => {
  try {
    if (data.kind === "open") self.postMessage({ kind: "opened", backend: await open(data) });
    else {
      const answer = await cut(data.image);
      self.postMessage({ kind: "cut", ...answer }, [answer.cutout, answer.blurred]);
    }
  } catch (error) {
    self.postMessage({ kind: "failed", reason: String(error?.message ?? error).split("\n")[0].slice(0, 200) });
  }
};

async function open({ runtime, model, gpu, probe, side }) {
  size = side;
  ort = await import(runtime.script);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = runtime.binary;
  ort.env.wasm.wasmPaths = { mjs: runtime.loader };
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(model, { executionProviders: gpu ? ["webgpu"] : ["wasm"] });
  if (gpu) {
    const logits = await run(Float32Array.from({ length: 3 * size * size }, (_, i) => Math.sin(i / 97)));
    const mean = logits.reduce((sum, value) => sum + value, 0) / logits.length;
    if (!(Math.abs(mean - probe) <= 0.02 * Math.abs(probe))) throw new Error("WebGPU computes other maps here");
  }
  return gpu ? "WebGPU" : "WebAssembly";
}

async function run(prepared) {
  const input = new ort.Tensor("float32", prepared, [1, 3, size, size]);
  const [output] = Object.values(await session.run({ [session.inputNames[0]]: input }));
  const logits = Float32Array.from(await output.getData());
  output.dispose();
  input.dispose();
  return logits;
}

async function cut(image) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(image, { imageOrientation: "from-image" });
  } catch {
    throw new Error("it is damaged, or of a format that this browser does not read");
  }
  const whole = { width: bitmap.width, height: bitmap.height };
  const canvas = largest(whole.width, whole.height);
  const { width, height } = canvas;
  const context = drawn(canvas, bitmap);
  bitmap.close();
  const logits = await run(prepare((y) => context.getImageData(0, y, width, 1).data, width, height, size));
  const scale = Math.min(1, SMALL / Math.max(width, height));
  const small = copy(canvas, scale);
  const map = restore(logits, size, small.width, small.height);
  const means = fuse(small.data, map, small.width, small.height, Math.min(width, height), scale);
  const blurred = await blurredCopy(canvas, logits);
  const rows = Math.max(1, Math.floor(STRIP / width));
  for (let top = 0; top < height; top += rows) {
    const bottom = Math.min(height, top + rows);
    const strip = context.getImageData(0, top, width, bottom - top);
    paint(strip.data, restore(logits, size, width, height, top, bottom), means, width, height, top);
    context.putImageData(strip, 0, top);
  }
  return { cutout: canvas.transferToImageBitmap(), blurred, whole };
}

/** A canvas of this size, or the largest of its shape that the browser can hold. */
function largest(width, height) {
  for (let scale = 1; ; scale *= 0.84) {
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    try {
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.fillStyle = "#fff";
      context.fillRect(canvas.width - 1, canvas.height - 1, 1, 1);
      if (context.getImageData(canvas.width - 1, canvas.height - 1, 1, 1).data[3] === 255) return canvas;
    } catch {
      // too large: the next one is smaller
    }
    if (Math.max(canvas.width, canvas.height) < 64) throw new Error("this browser has no memory left for it");
  }
}

/** Draws an image over white, as the network sees it. */
function drawn(canvas, source) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return context;
}

/** Pixels of a copy that is smaller by a factor. */
function copy(canvas, scale) {
  const width = Math.max(1, Math.round(canvas.width * scale)), height = Math.max(1, Math.round(canvas.height * scale));
  return drawn(new OffscreenCanvas(width, height), canvas).getImageData(0, 0, width, height);
}

function blurredCopy(canvas, logits) {
  const pixels = copy(canvas, Math.min(1, BLUR_SIDE / Math.max(canvas.width, canvas.height)));
  blurBackground(pixels.data, restore(logits, size, pixels.width, pixels.height), pixels.width, pixels.height);
  return createImageBitmap(pixels);
}
