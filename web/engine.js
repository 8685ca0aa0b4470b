/**
 * The network behind a worker. Files are fetched once, with progress, and checked; the worker can be ended at any time
 * and starts again from them.
 */

import { sha256 } from "./sha256.js";

export class Engine {
  #files;  // promise of what a worker opens
  #worker;  // the worker
  #opened;  // promise that it has opened the network
  #idle;

  /** `idleSeconds`: after these without an image the worker ends, which frees its memory. */
  constructor(idleSeconds = 120) {
    this.idleSeconds = idleSeconds;
    this.backend = "";
  }

  /** Fetches what is needed and starts the worker; `progress` gets a number from 0 to 1. Fails with "stopped" after `end`. */
  async open(progress = () => {}) {
    clearTimeout(this.#idle);
    this.#worker ??= new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    const worker = this.#worker;
    this.#opened ??= this.#open(worker, progress);
    try {
      await this.#opened;
    } catch (error) {
      if (worker === this.#worker) this.end();
      throw error;
    }
    if (worker !== this.#worker) throw new Error("stopped");
    return worker;
  }

  /** The cutout of an image, a Blob: { cutout, blurred: ImageBitmap; whole: { width, height } }. */
  async cut(image, progress) {
    const worker = await this.open(progress);
    const answer = await ask(worker, { kind: "cut", image });
    this.#idle = setTimeout(() => this.end(), 1000 * this.idleSeconds);
    return answer;
  }

  /** Ends the worker; work in progress fails. The next image starts another. */
  end() {
    clearTimeout(this.#idle);
    this.#worker?.terminate();
    this.#worker?.dispatchEvent(new Event("ended"));
    this.#worker = this.#opened = undefined;
  }

  async #open(worker, progress) {
    this.#files ??= download(progress).catch((error) => { this.#files = undefined; throw error; });
    const files = await this.#files;
    try {
      await this.#launch(worker, files);
    } catch (error) {
      if (!files.runtime.gpu || error.message === "stopped") throw error;
      files.runtime = await runtime(files.manifest, false, () => {});  // WebGPU does not work here
      await this.#launch(worker, files);
    }
  }

  async #launch(worker, { model, manifest, runtime }) {
    if (worker !== this.#worker) throw new Error("stopped");
    const request = { kind: "open", runtime, gpu: runtime.gpu, model, probe: manifest.probe, side: manifest.side };
    this.backend = (await ask(worker, request)).backend;
  }
}

/** Sends a request and waits for the answer. */
function ask(worker, request) {
  return new Promise((resolve, reject) => {
    const events = new AbortController();
    const settle = (finish) => (event) => { events.abort(); finish(event); };
    const on = (name, finish) => worker.addEventListener(name, settle(finish), { signal: events.signal });
    on("message", ({ data }) => (data.kind === "failed" ? reject(new Error(data.reason)) : resolve(data)));
    on("error", (event) => { event.preventDefault(); reject(new Error(event.message || "the worker failed")); });
    on("ended", () => reject(new Error("stopped")));
    worker.postMessage(request);
  });
}

async function download(progress) {
  const manifest = await (await get("manifest.json")).json();
  const gpu = await hasWebGPU();
  const parts = [0, 0];
  const report = (index, weight) => (share) => { parts[index] = share * weight; progress(parts[0] + parts[1]); };
  const [model, first] = await Promise.all([
    fetchChecked(manifest.model, report(0, 0.4)),
    runtime(manifest, gpu, report(1, 0.6)),
  ]);
  return { manifest, model, runtime: first };
}

/** The parts of ONNX Runtime, for WebGPU or for WebAssembly only. */
async function runtime(manifest, gpu, progress) {
  const files = gpu ? manifest.webgpu : manifest.wasm;
  const address = (name) => new URL(name, import.meta.url).href;
  const binary = await fetchChecked(files.binary, progress);
  return { gpu, binary, script: address(files.script), loader: address(files.loader) };
}

async function hasWebGPU() {
  try {
    return Boolean(await navigator.gpu?.requestAdapter());
  } catch {
    return false;
  }
}

async function get(name) {
  let answer;
  try {
    answer = await fetch(new URL(name, import.meta.url));
  } catch {
    throw new Error(`${name} could not be loaded; check the connection`);
  }
  if (!answer.ok) throw new Error(`${name} could not be loaded (HTTP ${answer.status})`);
  return answer;
}

/** A file of the manifest, its size and SHA-256 checked. */
async function fetchChecked({ file, bytes, sha256: expected }, progress) {
  const answer = await get(file);
  const content = new Uint8Array(bytes);
  let received = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (received + value.length <= bytes) content.set(value, received);
    received += value.length;
    progress(Math.min(1, received / bytes));
  }
  if (received !== bytes) throw new Error(`${file} has ${received} bytes, expected ${bytes}; reload the page`);
  const found = await sha256(content);
  if (found !== expected) throw new Error(`${file} has SHA-256 ${found.slice(0, 12)}, expected ${expected.slice(0, 12)}; reload the page`);
  return content;
}
