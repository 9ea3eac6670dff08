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

/** Resizes the columns or the rows of a picture of RGB bytes, in 8 bits. */
function resizeAxis({ pixels, height, width }, size, isWide, resample) {
  const before = isWide ? width : height;
  if (before === size) return { pixels, height, width };
  if (resample !== 2 && resample !== 3) throw new Error(`this page cannot resize with \`resample\` ${resample}`);
  const weights = weightsOf(before, size, resample);
  const shape = isWide ? { height, width: size } : { height: size, width };
  const result = new Uint8ClampedArray(shape.height * shape.width * 3);
  const step = isWide ? 3 : 3 * width;
  for (let y = 0; y < shape.height; y++)
    for (let x = 0; x < shape.width; x++) {
      const { first, values } = weights[isWide ? x : y];
      const start = isWide ? (y * width + first) * 3 : (first * width + x) * 3;
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < values.length; k++) sum += values[k] * pixels[start + c + k * step];
        result[(y * shape.width + x) * 3 + c] = Math.floor(sum + 0.5);
      }
    }
  return { pixels: result, ...shape };
}

/** Cuts out the middle of a picture of RGB bytes. A smaller picture gets a black border. */
function cropCentre({ pixels, height, width }, crop) {
  const result = new Uint8ClampedArray(crop.height * crop.width * 3);
  // Half of what is missing is before the picture, or half of what is too much.
  const offset = (length, wanted) => (length < wanted ? -Math.trunc((wanted - length) / 2) : (length - wanted) >> 1);
  const top = offset(height, crop.height);
  const left = offset(width, crop.width);
  for (let y = Math.max(top, 0); y < Math.min(top + crop.height, height); y++)
    for (let x = Math.max(left, 0); x < Math.min(left + crop.width, width); x++)
      for (let c = 0; c < 3; c++)
        result[((y - top) * crop.width + x - left) * 3 + c] = pixels[(y * width + x) * 3 + c];
  return { pixels: result, height: crop.height, width: crop.width };
}

/** Resizes and crops a picture of RGB bytes as the model expects it. */
export function fit(picture, settings) {
  if (settings.do_resize) {
    const { size, resample } = settings;
    const shorter = Math.min(picture.height, picture.width);
    const [height, width] = size.shortest_edge
      ? [picture.height, picture.width].map((side) => Math.trunc((size.shortest_edge * side) / shorter))
      : [size.height, size.width];
    picture = resizeAxis(resizeAxis(picture, width, true, resample), height, false, resample);
  }
  return settings.do_center_crop ? cropCentre(picture, settings.crop_size) : picture;
}

/** Reads the RGB bytes of a canvas. */
function pixelsOf(canvas) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height); // RGBA
  return { pixels: data.filter((_, at) => at % 4 !== 3), height, width };
}

/** Prepares frames for the model: normalised pixels (T, 3, H, W) with their height and width. */
export function prepare(frames, settings) {
  const pictures = frames.map(({ canvas }) => fit(pixelsOf(canvas), settings));
  const { height, width } = pictures[0];
  const plane = height * width;
  const scale = settings.do_rescale ? settings.rescale_factor : 1;
  const [mean, deviation] = settings.do_normalize ? [settings.image_mean, settings.image_std] : [[0, 0, 0], [1, 1, 1]];
  const pixels = new Float32Array(frames.length * 3 * plane);
  pictures.forEach((picture, index) => {
    for (let at = 0; at < plane; at++)
      for (let c = 0; c < 3; c++)
        pixels[(index * 3 + c) * plane + at] = (picture.pixels[at * 3 + c] * scale - mean[c]) / deviation[c];
  });
  return { pixels, height, width };
}
