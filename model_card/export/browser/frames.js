// Takes frames from a video or a camera, and prepares them as the processor of the model does.

/** Draws the square of a frame that is selected: `square` has `x`, `y` and `side` as shares of the shorter side. */
function cut(video, square) {
  const { videoWidth: width, videoHeight: height } = video;
  const side = Math.max(Math.round(square.side * Math.min(width, height)), 1);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const left = Math.round(square.x * (width - side));
  const top = Math.round(square.y * (height - side));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, left, top, side, side, 0, 0, side, side);
  return canvas;
}

/** Takes the middle frame of each of `count` equal parts of a video file. */
export async function framesOfFile(video, count, square) {
  const frames = [];
  for (let index = 0; index < count; index++) {
    const second = ((index + 0.5) * video.duration) / count;
    await new Promise((resolve, reject) => {
      video.addEventListener("seeked", resolve, { once: true });
      video.addEventListener("error", () => reject(new Error("the video cannot be decoded")), { once: true });
      video.currentTime = second;
    });
    frames.push({ second, canvas: cut(video, square) });
  }
  return frames;
}

/** Takes `count` frames of a camera in `duration` seconds. */
export async function framesOfCamera(video, count, square, duration, tell) {
  const frames = [];
  const start = performance.now();
  for (let index = 0; index < count; index++) {
    const wait = start + ((index + 0.5) * duration * 1000) / count - performance.now();
    await new Promise((resolve) => setTimeout(resolve, Math.max(wait, 0)));
    frames.push({ second: (performance.now() - start) / 1000, canvas: cut(video, square) });
    tell(index + 1);
  }
  return frames;
}

/** Weights (after, before) of the old pixels in the new ones, as in Pillow: bicubic (3) or bilinear (2). */
function weightsOf(before, after, resample) {
  const radius = resample === 3 ? 2 : 1;
  const weight = (x) => {
    if (resample !== 3) return Math.max(1 - x, 0);
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((2.5 - 0.5 * x) * x - 4) * x + 2 : 0;
  };
  const ratio = before / after;
  const scale = Math.max(ratio, 1);
  return Array.from({ length: after }, (_, index) => {
    const centre = (index + 0.5) * ratio;
    const first = Math.max(Math.trunc(centre - radius * scale + 0.5), 0);
    const last = Math.min(Math.trunc(centre + radius * scale + 0.5), before);
    const values = Array.from({ length: last - first }, (_, at) => weight(Math.abs(first + at + 0.5 - centre) / scale));
    const sum = values.reduce((total, value) => total + value, 0);
    return { first, values: values.map((value) => value / sum) };
  });
}

/** Resizes a square picture of RGBA bytes to RGB bytes, first its rows and then its columns, in 8 bits. */
export function resize(pixels, before, after, resample) {
  const weights = weightsOf(before, after, resample);
  const rows = new Uint8ClampedArray(before * after * 3);
  for (let y = 0; y < before; y++)
    for (let x = 0; x < after; x++)
      for (let c = 0; c < 3; c++) {
        const { first, values } = weights[x];
        let sum = 0;
        for (let k = 0; k < values.length; k++) sum += values[k] * pixels[(y * before + first + k) * 4 + c];
        rows[(y * after + x) * 3 + c] = Math.floor(sum + 0.5);
      }
  const result = new Uint8ClampedArray(after * after * 3);
  for (let y = 0; y < after; y++)
    for (let x = 0; x < after * 3; x++) {
      const { first, values } = weights[y];
      let sum = 0;
      for (let k = 0; k < values.length; k++) sum += values[k] * rows[(first + k) * after * 3 + x];
      result[y * after * 3 + x] = Math.floor(sum + 0.5);
    }
  return result;
}

/** Prepares frames for the model: (T, 3, S, S), normalised. */
export function prepare(frames, settings) {
  const size = settings.crop_size.height;
  const plane = size * size;
  const pixels = new Float32Array(frames.length * 3 * plane);
  frames.forEach(({ canvas }, index) => {
    const side = canvas.width;
    const rgb = resize(canvas.getContext("2d").getImageData(0, 0, side, side).data, side, size, settings.resample);
    for (let at = 0; at < plane; at++)
      for (let c = 0; c < 3; c++)
        pixels[(index * 3 + c) * plane + at] =
          (rgb[at * 3 + c] * settings.rescale_factor - settings.image_mean[c]) / settings.image_std[c];
  });
  return pixels;
}
