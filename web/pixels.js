/**
 * Arithmetic on pixels: preprocessing, postprocessing, and the object's own colours.
 * The same as data/preparation.py, inference/saliency.py and inference/compositing.py.
 */

const MEAN = [0.485, 0.456, 0.406], STD = [0.229, 0.224, 0.225];
const SPREADS = [1 / 8, 1 / 64];
const BLURRED = 1 / 40;

/** Where each of `count` pixels reads among `length`: OpenCV's INTER_LINEAR. Two indices and the weight of the second. */
export function axis(length, count) {
  const low = new Int32Array(count), high = new Int32Array(count), weight = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const place = Math.min(Math.max(((i + 0.5) * length) / count - 0.5, 0), length - 1);
    low[i] = Math.floor(place);
    high[i] = Math.min(low[i] + 1, length - 1);
    weight[i] = place - low[i];
  }
  return { low, high, weight };
}

/**
 * An image as the network takes it: bilinear to a square in float, ImageNet mean and deviation.
 * `row(y)` gives the RGBA bytes of a row; only the rows that are needed are read. Returns (3, size, size).
 */
export function prepare(row, width, height, size) {
  const x = axis(width, size), y = axis(height, size);
  const out = new Float32Array(3 * size * size);
  const shrink = (bytes) => {
    const line = new Float64Array(3 * size);
    for (let i = 0; i < size; i++) {
      for (let c = 0; c < 3; c++) {
        const a = bytes[4 * x.low[i] + c], b = bytes[4 * x.high[i] + c];
        line[c * size + i] = a + (b - a) * x.weight[i];
      }
    }
    return line;
  };
  const known = new Map();
  const line = (index) => {
    if (!known.has(index)) {
      if (known.size > 1) known.delete(known.keys().next().value);
      known.set(index, shrink(row(index)));
    }
    return known.get(index);
  };
  for (let j = 0; j < size; j++) {
    const upper = line(y.low[j]), lower = line(y.high[j]);
    for (let c = 0; c < 3; c++) {
      for (let i = 0; i < size; i++) {
        const value = upper[c * size + i] + (lower[c * size + i] - upper[c * size + i]) * y.weight[j];
        out[(c * size + j) * size + i] = (value / 255 - MEAN[c]) / STD[c];
      }
    }
  }
  return out;
}

/** Rows `top` to `bottom` of the map of an image, 0 to 255: logits (size, size) resized to (width, height), sigmoid. */
export function restore(logits, size, width, height, top = 0, bottom = height) {
  const x = axis(size, width), y = axis(size, height);
  const out = new Uint8ClampedArray(width * (bottom - top));
  const line = new Float64Array(size);
  for (let j = top; j < bottom; j++) {
    const upper = y.low[j] * size, lower = y.high[j] * size;
    for (let i = 0; i < size; i++) line[i] = logits[upper + i] + (logits[lower + i] - logits[upper + i]) * y.weight[j];
    for (let i = 0; i < width; i++) {
      const logit = line[x.low[i]] + (line[x.high[i]] - line[x.low[i]]) * x.weight[i];
      out[(j - top) * width + i] = 255 / (1 + Math.exp(-logit));  // the array rounds
    }
  }
  return out;
}

/** The mean over a box that reaches `reach` to each side, of a plane (height, width); borders are mirrored. */
export function boxMean(plane, width, height, reach) {
  const across = new Float32Array(plane.length), out = new Float32Array(plane.length);
  for (let j = 0; j < height; j++) slide(plane, across, j * width, 1, width, reach);
  for (let i = 0; i < width; i++) slide(across, out, i, width, height, reach);
  return out;
}

function slide(source, target, start, step, length, reach) {
  const side = 2 * reach + 1, period = 2 * (length - 1);
  const at = (i) => {
    if (length === 1) return source[start];
    const place = ((i % period) + period) % period;
    return source[start + step * (place < length ? place : period - place)];
  };
  let sum = 0;
  for (let i = -reach; i <= reach; i++) sum += at(i);
  for (let i = 0; i < length; i++) {
    target[start + step * i] = sum / side;
    const enters = i + reach + 1, leaves = i - reach;
    sum += (enters < length ? source[start + step * enters] : at(enters)) - (leaves >= 0 ? source[start + step * leaves] : at(leaves));
  }
}

/**
 * Mean colours of object and background around each pixel, by two rounds of blur fusion (`compositing.despill`).
 * Planes of a copy of the image: `rgba` bytes and map of (height, width); `scale` is its size to the image's.
 */
export function fuse(rgba, map, width, height, shortest, scale) {
  const count = width * height;
  const alpha = Float32Array.from(map, (value) => value / 255);
  const reaches = SPREADS.map((share) => Math.max(1, Math.round(Math.max(1, Math.round(share * shortest)) * scale)));
  const shares = reaches.map((reach) => boxMean(alpha, width, height, reach));
  const means = { front: [], back: [] };
  for (let c = 0; c < 3; c++) {
    const colour = new Float32Array(count);
    for (let i = 0; i < count; i++) colour[i] = rgba[4 * i + c];
    let front = colour, back = colour, meanFront = colour;
    for (let round = 0; round < 2; round++) {
      const share = shares[round];
      const inside = new Float32Array(count), outside = new Float32Array(count);
      for (let i = 0; i < count; i++) {
        inside[i] = front[i] * alpha[i];
        outside[i] = back[i] * (1 - alpha[i]);
      }
      meanFront = boxMean(inside, width, height, reaches[round]);
      back = boxMean(outside, width, height, reaches[round]);
      front = new Float32Array(count);
      for (let i = 0; i < count; i++) {
        meanFront[i] /= share[i] + 1e-5;
        back[i] /= 1 - share[i] + 1e-5;
        front[i] = own(colour[i], alpha[i], meanFront[i], back[i]);
      }
    }
    means.front.push(meanFront);
    means.back.push(back);
  }
  return { ...means, width, height };
}

/** The object's colour in a mixture. */
function own(colour, alpha, front, back) {
  return Math.min(255, Math.max(0, front + alpha * (colour - alpha * front - (1 - alpha) * back)));
}

/** Writes map and own colours into `rgba`, the rows from `top` on of an image (height, width). */
export function paint(rgba, map, means, width, height, top) {
  const x = axis(means.width, width), y = axis(means.height, height);
  for (let k = 0; k < map.length; k++) {
    const value = map[k], at = 4 * k;
    rgba[at + 3] = value;
    if (value === 0 || value === 255) continue;
    const i = k % width, j = top + (k - i) / width;
    const upper = y.low[j] * means.width, lower = y.high[j] * means.width;
    for (let c = 0; c < 3; c++) {
      const mean = (plane) => {
        const a = plane[upper + x.low[i]] * (1 - x.weight[i]) + plane[upper + x.high[i]] * x.weight[i];
        const b = plane[lower + x.low[i]] * (1 - x.weight[i]) + plane[lower + x.high[i]] * x.weight[i];
        return a + (b - a) * y.weight[j];
      };
      rgba[at + c] = own(rgba[at + c], value / 255, mean(means.front[c]), mean(means.back[c]));
    }
  }
}

/** The background out of focus, without the object: three box means for a Gaussian, weighted. Overwrites `rgba`. */
export function blurBackground(rgba, map, width, height) {
  const count = width * height;
  const deviation = Math.max(1, BLURRED * Math.max(width, height));
  const reach = Math.max(1, Math.round((Math.sqrt(4 * deviation ** 2 + 1) - 1) / 2));
  const smooth = (plane) => { for (let i = 0; i < 3; i++) plane = boxMean(plane, width, height, reach); return plane; };
  const share = Float32Array.from(map, (value) => Math.max(1 - value / 255, 1e-4));
  const total = smooth(share);
  for (let c = 0; c < 3; c++) {
    const weighted = new Float32Array(count);
    for (let i = 0; i < count; i++) weighted[i] = rgba[4 * i + c] * share[i];
    const mean = smooth(weighted);
    for (let i = 0; i < count; i++) rgba[4 * i + c] = mean[i] / total[i];
  }
}
