// The page: takes a clip from a file or the camera, and shows the answer of the model.
import { Model, VERSION, loadRuntime } from "./model.js";
import { framesOfCamera, framesOfFile, prepare } from "./frames.js";

const CDN = `https://cdn.jsdelivr.net/npm/onnxruntime-web@${VERSION}/dist/`;
const LONGEST = 30; // seconds; the model sees sixteen frames of a clip
const RECORDED = 4;
const byId = (id) => document.getElementById(id);
const options = new URLSearchParams(location.search);
const video = byId("video");
let model;
let frames;
let camera;

const say = (text, isError = false) => {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
};

/** Runs an action, during which buttons are off. An error becomes a sentence. */
async function act(action) {
  const controls = document.querySelectorAll("button, input");
  controls.forEach((control) => (control.disabled = true));
  try {
    await action();
  } catch (error) {
    say(`This did not work: ${error.message.replace(/\.$/, "")}.`, true);
  } finally {
    controls.forEach((control) => (control.disabled = false));
  }
}

const square = () => ({ side: +byId("side").value / 100, x: +byId("x").value / 100, y: +byId("y").value / 100 });

/** Shows which square of the video is cut out. */
function drawSquare() {
  const { side, x, y } = square();
  const { clientWidth: width, clientHeight: height } = video;
  const length = side * Math.min(width, height);
  Object.assign(byId("square").style, {
    width: `${length}px`,
    height: `${length}px`,
    left: `${x * (width - length)}px`,
    top: `${y * (height - length)}px`,
  });
}

function showVideo() {
  byId("view").hidden = false;
  byId("view").style.width = `min(100%, ${(60 * video.videoWidth) / video.videoHeight}vh)`;
  drawSquare();
}

function stopCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = undefined;
  video.srcObject = null;
}

async function openFile(file) {
  stopCamera();
  byId("result").hidden = true;
  frames = undefined;
  URL.revokeObjectURL(video.src);
  video.src = URL.createObjectURL(file);
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(new Error(`${file.name} is not a video that this browser can play`));
  });
  if (!Number.isFinite(video.duration)) throw new Error(`${file.name} does not say how long it is`);
  if (video.duration > LONGEST)
    throw new Error(`${file.name} takes ${Math.round(video.duration)} seconds, but a clip may take ${LONGEST}`);
  byId("side").value = 100;
  showVideo();
  await classifyFile();
}

async function classifyFile() {
  frames = await framesOfFile(video, model.processor.video_processor.num_frames, square());
  await classify();
}

async function record() {
  byId("result").hidden = true;
  video.removeAttribute("src");
  camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
  video.srcObject = camera;
  await video.play();
  byId("side").value = 70;
  showVideo();
  const count = model.processor.video_processor.num_frames;
  say("Recording: keep your face in the square.");
  frames = await framesOfCamera(video, count, square(), RECORDED, (done) => say(`Recording: ${done} of ${count}.`));
  stopCamera();
  byId("view").hidden = true;
  await classify();
}

async function classify() {
  const settings = model.processor.video_processor;
  const start = performance.now();
  const clip = prepare(frames, settings);
  const seconds = frames.map((frame) => frame.second);
  const found = await model.classify(clip, seconds);
  show(found);
  say(`Done in ${((performance.now() - start) / 1000).toFixed(1)} seconds, on this device.`);
}

function element(tag, text = "", style = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  Object.assign(made.style, style);
  return made;
}

function show({ label, isUnsure, probabilities, relevance }) {
  byId("result").hidden = false;
  byId("label").textContent = isUnsure ? `unsure (perhaps ${label})` : label;
  const ranked = model.labels.map((name, index) => [name, probabilities[index]]).sort((a, b) => b[1] - a[1]);
  byId("scores").replaceChildren(
    ...ranked.map(([name, score]) => {
      const row = element("li");
      row.append(element("span", name), element("span", `${Math.round(100 * score)} %`));
      row.append(element("i", "", { width: `${100 * score}%` }));
      return row;
    }),
  );
  const most = Math.max(...relevance);
  byId("frames").replaceChildren(
    ...frames.map(({ second, canvas }, index) => {
      const item = element("li");
      const bar = element("i", "", { height: `${(60 * relevance[index]) / most}px` });
      const text = `${second.toFixed(1)} s, relevance ${Math.round(100 * relevance[index])} %`;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", text);
      item.title = text;
      item.append(bar, canvas);
      return item;
    }),
  );
}

/** Reads lines such as `boredom: eyelids half closed; head on a hand`. */
function readClasses(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  if (!lines.length) return undefined;
  const classes = {};
  for (const line of lines) {
    const [label, words] = line.split(/:(.*)/s).map((part) => part.trim());
    const texts = (words ?? "").split(";").map((one) => one.trim());
    if (!label || !words || texts.some((one) => !one)) throw new Error(`write "${line}" as label: what the face does`);
    if (Object.hasOwn(classes, label)) throw new Error(`give "${label}" only once`);
    classes[label] = texts;
  }
  if (lines.length < 2) throw new Error("give at least two emotions");
  return classes;
}

byId("file").addEventListener("change", ({ target }) => target.files[0] && act(() => openFile(target.files[0])));
byId("record").addEventListener("click", () => act(record));
byId("relabel").addEventListener("submit", (event) => {
  event.preventDefault();
  act(async () => {
    await model.setClasses(readClasses(byId("classes").value));
    if (frames) await classify();
    else say("The emotions are replaced. Now choose a clip.");
  });
});
for (const id of ["side", "x", "y"]) {
  byId(id).addEventListener("input", drawSquare);
  byId(id).addEventListener("change", () => video.src && act(classifyFile));
}
new ResizeObserver(drawSquare).observe(video);

act(async () => {
  say("Loading the model.");
  const ort = await loadRuntime(options.get("runtime") ?? CDN);
  const folder = new URL("../", document.baseURI);
  model = await Model.load(ort, folder, options.get("model") ?? "model.onnx");
  say("Ready. Nothing that you show leaves this device.");
  document.body.dataset.ready = "true";
});
