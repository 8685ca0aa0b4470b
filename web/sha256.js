/** SHA-256 of bytes. `crypto.subtle` is fast, but exists on HTTPS only, and any web server may host the page. */

const FRACTIONS = [];
for (let candidate = 2; FRACTIONS.length < 64; candidate++) {
  let prime = true;
  for (let factor = 2; factor * factor <= candidate; factor++) prime &&= candidate % factor !== 0;
  if (prime) FRACTIONS.push(candidate);
}
const fraction = (value) => ((value - Math.floor(value)) * 2 ** 32) | 0;
const ROUNDS = Int32Array.from(FRACTIONS, (prime) => fraction(Math.cbrt(prime)));
const START = FRACTIONS.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));
const turn = (value, bits) => (value >>> bits) | (value << (32 - bits));

/** A promise of the hexadecimal text. */
export async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return computed(bytes);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The same in JavaScript, as FIPS 180-4 defines it. */
export function computed(bytes) {
  const padded = new Uint8Array((((bytes.length + 8) >> 6) + 1) << 6);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, (bytes.length << 3) >>> 0);
  const state = Int32Array.from(START);
  const words = new Int32Array(64);
  for (let start = 0; start < padded.length; start += 64) block(view, start, words, state);
  return Array.from(state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

function block(view, start, words, state) {
  for (let i = 0; i < 16; i++) words[i] = view.getInt32(start + 4 * i);
  for (let i = 16; i < 64; i++) {
    const x = words[i - 15], y = words[i - 2];
    words[i] = words[i - 16] + (turn(x, 7) ^ turn(x, 18) ^ (x >>> 3)) + words[i - 7] + (turn(y, 17) ^ turn(y, 19) ^ (y >>> 10));
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const first = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[i] + words[i]) | 0;
    const second = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] += value; });
}
