/** The page: takes an image by choice, drop or paste, shows the cutout, and hands it out as PNG. */

import { Engine } from "./engine.js";

const $ = (id) => document.getElementById(id);
const GREEN = "#00ff00";
const engine = new Engine();
let shown;  // { name, cutout, blurred } of the image on the stage
let scene;  // ImageBitmap of the visitor's background
let turn = 0;  // counts images; an answer for an earlier one is ignored

/** Cuts one image out and shows it. */
async function take(image, name) {
  const mine = ++turn;
  if (document.body.ariaBusy === "true") engine.end();
  show(image);
  busy(true);
  say(`Reading ${name}`);
  const begin = performance.now();
  try {
    const answer = await engine.cut(image, (share) => mine === turn && loading(share));
    if (mine !== turn) return;
    release();
    shown = { name, ...answer };
    compose();
    $("stage").hidden = false;
    $("drop").hidden = true;
    $("download").disabled = false;
    const { cutout, whole } = answer;
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    const scaled = cutout.width < whole.width
      ? ` Its ${whole.width} x ${whole.height} pixels exceed this browser's canvas limit; the cutout has ${cutout.width} x ${cutout.height}.`
      : ` ${cutout.width} x ${cutout.height} pixels.`;
    say(`${name}: done in ${seconds} s by ${engine.backend}.${scaled}`);
  } catch (error) {
    if (mine !== turn) return;
    clear();
    say(error.message === "stopped" ? "Stopped." : `${name}: ${error.message}.`, error.message !== "stopped");
  } finally {
    if (mine === turn) busy(false);
  }
}

/** Shows the image itself, while the network works on it. */
function show(image) {
  URL.revokeObjectURL($("before").src);
  $("before").src = URL.createObjectURL(image);
}

function clear() {
  release();
  $("stage").hidden = true;
  $("drop").hidden = false;
  $("download").disabled = true;
  $("result").width = $("result").height = 0;
}

function release() {
  shown?.cutout.close();
  shown?.blurred.close();
  shown = undefined;
}

/** Draws the chosen background and the cutout at full size. */
function compose() {
  if (!shown) return;
  const { cutout, blurred } = shown;
  const canvas = $("result");
  const { width, height } = cutout;
  canvas.width = width;
  canvas.height = height;
  $("stage").style.aspectRatio = `${width} / ${height}`;
  $("stage").style.width = `min(100%, max(160px, calc(72vh * ${width / height})))`;
  const context = canvas.getContext("2d");
  const choice = background();
  const plain = { white: "#ffffff", green: GREEN, colour: $("colour").value }[choice];
  if (plain) {
    context.fillStyle = plain;
    context.fillRect(0, 0, width, height);
  }
  if (choice === "blur") context.drawImage(blurred, 0, 0, width, height);
  if (choice === "image" && scene) {
    const scale = Math.max(width / scene.width, height / scene.height);
    const [across, down] = [width / scale, height / scale];
    context.drawImage(scene, (scene.width - across) / 2, (scene.height - down) / 2, across, down, 0, 0, width, height);
  }
  context.drawImage(cutout, 0, 0);
}

const background = () => document.querySelector("input[name=background]:checked").value;

function say(text, failed = false) {
  $("status").textContent = text;
  $("status").classList.toggle("failed", failed);
}

function loading(share) {
  $("progress").value = share;
  say(share < 1 ? `Loading the network: ${Math.round(100 * share)} %` : "Cutting out");
}

function busy(on) {
  $("progress").hidden = !on;
  $("stop").hidden = !on;
  $("sample").hidden = on || Boolean(shown);
  $("another").hidden = on || !shown;
  document.body.setAttribute("aria-busy", String(on));
}

/** The first image among files. */
function takeFirst(files) {
  const image = Array.from(files ?? [])[0];
  if (image) take(image, image.name || "pasted image");
}

$("file").addEventListener("change", ({ target }) => { takeFirst(target.files); target.value = ""; });
$("another").addEventListener("click", () => $("file").click());
$("stop").addEventListener("click", () => engine.end());
$("sample").addEventListener("click", async () => {
  try {
    const answer = await fetch("sample.jpg");
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    take(await answer.blob(), "sample.jpg");
  } catch (error) {
    say(`sample.jpg could not be loaded (${error.message}).`, true);
  }
});
$("split").addEventListener("input", ({ target }) => $("stage").style.setProperty("--split", `${target.value}%`));
$("colour").addEventListener("input", compose);
$("scene").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  if (!file) return;
  try {
    const next = await createImageBitmap(file);
    scene?.close();
    scene = next;
    compose();
  } catch {
    say(`${file.name}: it is damaged, or of a format that this browser does not read.`, true);
  }
});
for (const choice of document.querySelectorAll("input[name=background]")) {
  choice.addEventListener("change", () => {
    $("colour-row").hidden = background() !== "colour";
    $("scene-row").hidden = background() !== "image";
    compose();
  });
}
$("download").addEventListener("click", () => {
  const stem = shown.name.replace(/\.[^.]*$/, "") || "image";
  $("result").toBlob((png) => {
    if (!png) return say("The cutout could not be written as PNG; this browser has no memory left for it.", true);
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(png), download: `${stem}.cutout.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }, "image/png");
});
document.addEventListener("paste", (event) => takeFirst(event.clipboardData?.files));
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  takeFirst(event.dataTransfer?.files);
});
