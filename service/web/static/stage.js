// What the picture area shows of a job: a hint, the growing result, the finished one, or before and after.

import { Compare } from "./compare.js";
import { hideControls, showControls } from "./controls.js";
import { $, el, setText } from "./dom.js";
import { isFinal } from "./events.js";
import { makeVideo, release } from "./media.js";
import { VideoPair } from "./pair.js";
import { Picture, PicturePair, givesPicture } from "./pictures.js";
import { ResultPlayer } from "./result_player.js";
import { StillPair } from "./stills.js";

const NOTES = {
  before: "This browser cannot play the original video, so single frames are compared instead.",
  after: "This browser cannot play the result's codec. Download it, or compare single frames here.",
  stopped: "The last frame that was finished.",
  pictureBefore: "This browser cannot show the original picture, so smaller copies are compared instead.",
  pictureAfter: "This browser cannot show this kind of picture. Download it, or compare smaller copies here.",
  pictureResult: "This browser cannot show this kind of picture. Download it; this is a smaller copy.",
  stills: "The newest finished frame. It becomes a video when the job is done.",
};

const compare = new Compare();
let job = null;
let mode = "watch";
// What is on the stage: "" before a job, "nothing", "growing", "result", "pair", "stills", "picture" or "pictures", and
// the thing that draws it.
let kind = "";
let shown = null;
let source = null;
let hasPart = false;
// The side that failed to play once need not be tried again.
let unplayable = null;
let position = 0;

/** Starts with a job that was opened. */
export function openStage(opened) {
  closeStage();
  job = opened;
  hasPart = job.processed_frames > 0 && job.stage !== "planning";
  mode = isFinal(job) ? "compare" : "watch";
  compare.reset();
  setRatio();
  render();
}

/** Goes on with a newer state of the same job. */
export function updateStage(next, eventName) {
  const wasFinished = job.status === "completed";
  job = next;
  hasPart ||= eventName === "segment" || job.status === "completed";
  if (job.status === "completed" && !wasFinished) setRatio();
  render();
  if (eventName === "segment" && kind === "stills") showStills();
}

export function closeStage() {
  unmount();
  job = null;
  hasPart = false;
  unplayable = null;
  position = 0;
}

function wantedKind() {
  if (job.status === "completed") {
    if (mode === "watch") return givesPicture(job) ? "picture" : "result";
    if (unplayable) return "stills";
    return givesPicture(job) ? "pictures" : "pair";
  }
  // A picture is there all at once.
  if (!hasPart || (givesPicture(job) && !isStopped())) return "nothing";
  // A stream that was stopped does not begin again; who is watching it may go on.
  if (isStopped() && kind !== "growing") return "stills";
  return mode === "watch" ? "growing" : "stills";
}

const isStopped = () => ["failed", "cancelling", "cancelled"].includes(job.status);

function render() {
  mountWanted();
  for (const button of document.querySelectorAll("[data-mode]")) {
    button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    if (button.dataset.mode === "watch") button.disabled = isStopped() && kind !== "growing";
  }
}

function mountWanted() {
  $("player").hidden = isFinal(job) && !hasPart;
  const wanted = $("player").hidden ? "" : wantedKind();
  if (wanted === kind) {
    if (kind === "nothing") {
      setText($("placeholder-text"), placeholderWords());
      showSource();
    }
    return;
  }
  if (kind === "growing" && wanted === "result") {
    kind = "result";
    shown.finish(job.links.content);
    return;
  }
  unmount();
  kind = wanted;
  if (kind === "") return;
  const mounts = { nothing: mountNothing, growing: mountGrowing, result: mountResult, pair: mountPair, stills: mountStills };
  ({ ...mounts, picture: mountPicture, pictures: mountPictures })[kind]();
}

function unmount() {
  if (shown && "position" in shown && Number.isFinite(shown.position)) position = shown.position;
  shown?.close();
  shown = null;
  kind = "";
  compare.hide();
  hideControls();
  $("placeholder").hidden = true;
  setText($("player-note"), "");
}

// The original, dimmed, where the browser can play it: people see at once that it is theirs.
function mountNothing() {
  setText($("placeholder-text"), placeholderWords());
  source = null;
  showSource();
  $("placeholder").hidden = false;
  shown = { close: () => source && (source.pause ? release(source) : source.remove()) };
}

// As soon as it is there: of an address that is still being fetched it comes later.
function showSource() {
  if (source || job.input.width === null) return;
  setRatio();
  const url = `${job.links.self}/source`;
  if (job.input.picture) {
    source = el("img", { "aria-hidden": "true", src: url, alt: "" });
  } else {
    source = makeVideo({ "aria-hidden": "true", src: url, preload: "metadata", tabindex: "-1" });
    source.muted = true;
  }
  const shownSource = source;
  shownSource.addEventListener("error", () => shownSource.remove());
  $("placeholder").prepend(shownSource);
}

function mountGrowing() {
  // Below the player, until it has a first picture: frames are counted before their segment is finished.
  setText($("placeholder-text"), placeholderWords());
  $("placeholder").hidden = false;
  shown = newResultPlayer();
  shown.grow(job.links, job.options.duration_seconds ?? job.input.duration_seconds);
}

function mountResult() {
  shown = newResultPlayer();
  shown.finish(job.links.content, position);
}

function newResultPlayer() {
  return new ResultPlayer($("watch"), {
    onWaiting: (isWaiting) => {
      setText($("waiting"), "Caught up. Goes on when there is more.");
      $("waiting").hidden = !isWaiting;
    },
    onPicture: () => ($("placeholder").hidden = true),
    onFailure: () => setText($("player-note"), NOTES.after),
  });
}

async function mountPair() {
  const { links, input, options } = job;
  const pair = new VideoPair({
    before: `${links.self}/source`,
    after: links.content,
    offset: options.start_seconds ?? 0,
    fps: input.frame_rate,
  });
  shown = pair;
  compare.show(pair.before, pair.after);
  showControls(pair, { hasSound: input.has_audio });
  try {
    await pair.open(position);
  } catch (error) {
    if (shown !== pair) return;
    unplayable = error.side;
    render();
    return;
  }
  const { videoWidth, videoHeight } = pair.after;
  if (shown === pair) $("stage").style.setProperty("--ratio", String(videoWidth / videoHeight));
}

async function mountPicture() {
  const picture = new Picture($("watch"), job.links.content);
  shown = picture;
  try {
    await picture.open();
  } catch {
    if (shown !== picture) return;
    setText($("player-note"), NOTES.pictureResult);
    picture.image.src = `${job.links.preview}?side=after`;
  }
}

async function mountPictures() {
  const pair = new PicturePair({ before: `${job.links.self}/source`, after: job.links.content });
  shown = pair;
  compare.show(pair.before, pair.after);
  showControls(null);
  try {
    await pair.open();
  } catch (error) {
    if (shown !== pair) return;
    unplayable = error.side;
    render();
    return;
  }
  if (shown === pair) $("stage").style.setProperty("--ratio", String(pair.ratio));
}

function mountStills() {
  shown = new StillPair(job.links.preview);
  const unshown = { before: "pictureBefore", after: "pictureAfter" };
  const note = isStopped() ? "stopped" : unplayable ? (givesPicture(job) ? unshown[unplayable] : unplayable) : "stills";
  setText($("player-note"), NOTES[note]);
  showStills();
}

async function showStills() {
  const stills = shown;
  const hasPicture = await stills.refresh();
  if (shown !== stills) return;
  $("placeholder").hidden = hasPicture;
  if (!hasPicture) {
    setText($("placeholder-text"), "There is no picture of this video yet.");
    return;
  }
  if ($("compare").hidden) {
    compare.show(stills.before, stills.after);
    showControls(null);
  }
}

function placeholderWords() {
  if (job.stage === "fetching") return "The video is being fetched from its address.";
  if (givesPicture(job) && job.status !== "queued") return "The sharp picture appears here in a moment.";
  return job.status === "queued" ? "Starts when it is this video's turn." : "The first sharp frames appear here in a moment.";
}

// Before anything is loaded, so that nothing jumps when it is.
function setRatio() {
  const { width, height, rotation } = job.input;
  const isTurned = Math.abs(rotation ?? 0) % 180 === 90;
  const ratio = isTurned ? height / width : width / height;
  $("stage").style.setProperty("--ratio", String(ratio || 16 / 9));
}

for (const button of document.querySelectorAll("[data-mode]")) {
  button.addEventListener("click", () => {
    mode = button.dataset.mode;
    render();
  });
}
