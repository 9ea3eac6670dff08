// The live page: shows frames and answers as they come, and sends the frames of the camera of the browser.
//
// The next frame is asked for while one is drawn. Nothing is kept but the frame that is on the screen.

const { page, source, interval } = document.body.dataset;
const element = (name) => document.getElementById(name);
const video = element("camera");
const canvas = element("picture");
const SENT_SIDE = 640; // larger side in pixels of a frame that is sent to the server
const QUALITY = 0.85;
let running = true;

/** Asks the server, and returns its response. Returns null, and stops the page, if the session has ended. */
async function ask(name, options = {}) {
  let response;
  try {
    response = await fetch(`${name}?page=${page}`, { cache: "no-store", ...options });
  } catch {
    stop("The command has stopped. Start it again, and open the new address.");
    return null;
  }
  if (response.headers.has("X-Stop")) {
    stop((await response.json()).problem);
    return null;
  }
  return response;
}

/** Stops the page with a sentence. */
function stop(sentence) {
  if (!running) return;
  running = false;
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  show(sentence);
  element("boxes").replaceChildren();
  element("pace").hidden = true;
}

function show(sentence) {
  element("problem").textContent = sentence;
  element("problem").hidden = !sentence;
}

// How fast and how late

const pace = { shown: 0, since: performance.now(), behind: [] };

/** Counts a frame that is on the screen. `captured` is in seconds since the epoch. */
function countFrame(captured) {
  pace.shown += 1;
  document.dispatchEvent(new CustomEvent("tgdfer-frame", { detail: Date.now() / 1000 - captured }));
  const now = performance.now();
  if (now - pace.since < 1000) return;
  const rate = (1000 * pace.shown) / (now - pace.since);
  const late = pace.behind.length ? `; answers ${Math.max(...pace.behind).toFixed(1)} s after the frame` : "";
  element("pace").textContent = `${rate.toFixed(0)} frames per second${late}`;
  Object.assign(pace, { shown: 0, since: now, behind: [] });
}

// Frames of the server

/** Receives the next frame. Returns null if there is none yet, or the session has ended. */
async function receiveFrame() {
  const response = await ask("frame");
  if (response?.status !== 200) return null;
  return { picture: await response.blob(), captured: Number(response.headers.get("X-Captured")) };
}

async function showFrames() {
  let next = receiveFrame();
  while (running) {
    const frame = await next;
    if (!running) return;
    next = receiveFrame();
    if (frame === null) continue;
    const bitmap = await createImageBitmap(frame.picture);
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    }
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    countFrame(frame.captured);
  }
}

// The camera of the browser

const PROBLEMS = {
  NotFoundError: "There is no camera. Connect one, and load this page again.",
  NotAllowedError: "The browser does not allow this page to use the camera. Allow it, and load this page again.",
  NotReadableError: "The camera cannot be read. Close other programs that use it, and load this page again.",
};

async function openCamera() {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } },
      audio: false,
    });
  } catch (error) {
    element("pace").hidden = true;
    show(PROBLEMS[error.name] ?? `The camera cannot be opened (${error.name}). Load this page again.`);
    return;
  }
  video.srcObject.getVideoTracks()[0].addEventListener("ended", () => {
    ask("gone", { method: "POST" });
    stop("The camera has gone.");
  });
  canvas.hidden = true;
  video.hidden = false;
  await video.play();
  video.requestVideoFrameCallback(onVideoFrame);
}

const sending = { busy: false, last: 0, canvas: document.createElement("canvas") };

/** Counts a frame that the browser shows, and sends it if the server is due for one. */
function onVideoFrame(now) {
  if (!running) return;
  video.requestVideoFrameCallback(onVideoFrame);
  countFrame(Date.now() / 1000);
  if (sending.busy || now - sending.last < 0.9 * interval) return;
  sending.last = now;
  sendFrame(performance.now());
}

async function sendFrame(begin) {
  sending.busy = true;
  const scale = Math.min(1, SENT_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const size = { width: Math.round(scale * video.videoWidth), height: Math.round(scale * video.videoHeight) };
  Object.assign(sending.canvas, size); // which also clears it
  sending.canvas.getContext("2d").drawImage(video, 0, 0, size.width, size.height);
  const body = await new Promise((done) => sending.canvas.toBlob(done, "image/jpeg", QUALITY));
  sending.canvas.width = 0; // no copy of the frame is kept
  const age = Math.round(performance.now() - begin);
  if (running && body) await ask("frame", { method: "POST", body, headers: { "X-Age": String(age) } });
  sending.busy = false;
}

// Answers

async function showAnswers() {
  while (running) {
    const response = await ask("answer");
    if (response?.status !== 200) continue;
    const answer = await response.json();
    if (!running) return;
    element("boxes").replaceChildren(...answer.boxes.map(box));
    element("answers").innerHTML = answer.html; // escaped by the server
    if (element("spoken").textContent !== answer.spoken) element("spoken").textContent = answer.spoken;
    const behind = Date.now() / 1000 - answer.captured;
    pace.behind.push(behind);
    document.dispatchEvent(new CustomEvent("tgdfer-answer", { detail: { behind, ...answer } }));
  }
}

function box({ left, top, right, bottom, text, colour, ink }) {
  const face = document.createElement("div");
  const label = document.createElement("span");
  face.className = `face${top < 0.08 ? " high" : ""}${left + right > 1 ? " right" : ""}`;
  const percent = (share) => `${(100 * share).toFixed(2)}%`;
  Object.assign(face.style, { left: percent(left), top: percent(top), borderColor: colour });
  Object.assign(face.style, { width: percent(right - left), height: percent(bottom - top) });
  Object.assign(label.style, { background: colour, color: ink });
  label.textContent = text;
  face.append(label);
  return face;
}

// Own classes

async function sendClasses(text) {
  const response = await ask("classes", { method: "POST", body: text });
  const problem = response?.status === 200 ? (await response.json()).problem : "";
  element("mistake").textContent = problem;
  element("mistake").hidden = !problem;
}

element("own").addEventListener("submit", (event) => {
  event.preventDefault();
  sendClasses(element("classes").value);
});
element("restore").addEventListener("click", () => sendClasses(""));

// The end

function leave() {
  // Unlike `sendBeacon`, `fetch` names our origin, which the server wants to see.
  fetch(`leave?page=${page}`, { method: "POST", keepalive: true }).catch(() => {});
}

addEventListener("pagehide", leave);
// A page that the browser restores is not the newest any more.
addEventListener("pageshow", (event) => event.persisted && location.reload());

showAnswers();
if (source === "server") showFrames();
else openCamera();
