// One chosen video before it is a job: its upload, its estimate, its buttons.

import { request } from "./api.js";
import { bar, el, iconButton, setBar, setIcon, setText } from "./dom.js";
import { describe, estimate, measure } from "./estimate.js";
import { about, bytes } from "./format.js";
import { Upload } from "./tus.js";

const ESTIMATE_DELAY_MS = 250;
// Of the upload speed: weight of the newest second against what was before.
const SPEED_WEIGHT = 0.3;

// One after the other: what was chosen first is worked on first.
let lastSubmission = Promise.resolve();

/** Dispatches "change" when `upload.state`, `wanted` or `estimated` changed, "job" (detail: the job) and "removed". */
export class TrayItem extends EventTarget {
  /** `{options, priority}` once the user has submitted it, else null. */
  wanted = null;
  /** The last answer about the options as they are; null while it is not known. */
  estimated = null;
  failure = null;
  #measured = null;
  #options = {};
  #estimating = null;
  #speed = null;
  #mark = null;
  #isJob = false;

  constructor(file) {
    super();
    this.file = file;
    this.upload = new Upload(file);
    this.upload.addEventListener("change", () => this.#render());
    this.#build();
    measure(file).then((measured) => {
      this.#measured = measured;
      this.#estimate();
    });
    this.#render();
  }

  /** Sends the file; resolves when nothing more happens, whatever came of it. */
  async send() {
    try {
      await this.upload.run();
      this.#estimate();
      await this.submit();
    } catch {
      // The upload's state and error say it; the row shows them.
    }
    this.#render();
  }

  /** Marks it as submitted: it becomes a job as soon as the upload is complete. */
  want(wanted) {
    this.wanted = wanted;
    this.failure = null;
    this.#render();
  }

  /** Asks for an estimate of these options, soon. */
  setOptions(options) {
    this.#options = options;
    this.#estimate();
  }

  /** Makes it a job when it is wanted and uploaded, else does nothing. */
  submit() {
    if (this.upload.state === "completed") lastSubmission = lastSubmission.then(() => this.#submit());
    return lastSubmission;
  }

  async #submit() {
    if (!this.wanted || this.#isJob) return;
    const source = { type: "upload", upload_id: this.upload.id };
    const json = { source, filename: this.file.name, ...this.wanted };
    // An upload becomes one job, however often the button is pressed or the answer is lost. A refused request may
    // be repeated with other options, so these are part of the key.
    const key = `${this.upload.id}-${shortDigest(JSON.stringify(this.wanted))}`;
    try {
      const job = await request("POST", "/v1/jobs", { json, headers: { "Idempotency-Key": key } });
      this.#isJob = true;
      this.upload.forget();
      this.dispatchEvent(new CustomEvent("job", { detail: job }));
    } catch (error) {
      this.wanted = null;
      this.failure = error;
      this.#render();
      this.dispatchEvent(new CustomEvent("refused", { detail: error }));
    }
  }

  #estimate() {
    clearTimeout(this.#estimating?.timer);
    this.#estimating?.abort.abort();
    const abort = new AbortController();
    const timer = setTimeout(() => this.#askEstimate(abort.signal), ESTIMATE_DELAY_MS);
    this.#estimating = { abort, timer };
  }

  async #askEstimate(signal) {
    const isExact = this.upload.state === "completed";
    const uploadId = isExact ? this.upload.id : null;
    try {
      const result = await estimate({ uploadId, measured: this.#measured, options: this.#options }, signal);
      this.estimated = result;
      setText(this.estimateText, result ? describe(result, this.#measured, isExact) : "");
    } catch (error) {
      if (error.name === "AbortError") return;
      this.estimated = null;
      // What the options lack is worth knowing now; that the server is busy is not.
      setText(this.estimateText, error.isTemporary ? "" : error.message);
    }
    this.dispatchEvent(new Event("change"));
  }

  #build() {
    const { name } = this.file;
    this.text = el("p", { class: "item-text" });
    this.estimateText = el("p", { class: "item-estimate" });
    this.bar = bar(`Upload of ${name}`);
    this.pauseButton = iconButton("pause", `Pause ${name}`, () => this.#togglePause());
    const remove = iconButton("close", `Remove ${name}`, () => this.#remove());
    this.element = el(
      "li",
      { class: "item" },
      el("p", { class: "item-name", text: name, title: name }),
      el("div", { class: "item-buttons" }, this.pauseButton, remove),
      this.text,
      this.bar,
      this.estimateText,
    );
  }

  #togglePause() {
    if (this.upload.state === "uploading" || this.upload.state === "waiting") this.upload.pause();
    else this.upload.resume();
  }

  #remove() {
    this.upload.cancel();
    clearTimeout(this.#estimating?.timer);
    this.#estimating?.abort.abort();
    this.dispatchEvent(new Event("removed"));
  }

  #render() {
    const { state, offset } = this.upload;
    this.#measureSpeed();
    this.element.dataset.state = this.failure ? "failed" : state;
    setBar(this.bar, this.file.size ? offset / this.file.size : 1);
    setText(this.text, this.#words());
    const isStopped = state === "paused" || state === "retrying";
    const verb = { paused: "Go on with", retrying: "Try again now:" }[state] ?? "Pause";
    setIcon(this.pauseButton, isStopped ? "play" : "pause", `${verb} ${this.file.name}`);
    this.pauseButton.hidden = !["uploading", "waiting", "paused", "retrying"].includes(state);
    this.dispatchEvent(new Event("change"));
  }

  #measureSpeed() {
    const now = performance.now();
    const { offset, state } = this.upload;
    if (state !== "uploading") {
      this.#mark = this.#speed = null;
    } else if (!this.#mark) {
      this.#mark = { now, offset };
    } else if (now - this.#mark.now > 500) {
      const speed = Math.max(0, (offset - this.#mark.offset) / ((now - this.#mark.now) / 1000));
      this.#speed = this.#speed === null ? speed : this.#speed + SPEED_WEIGHT * (speed - this.#speed);
      this.#mark = { now, offset };
    }
  }

  #words() {
    const { state, offset, error } = this.upload;
    const whole = bytes(this.file.size);
    if (this.failure) return this.failure.message;
    switch (state) {
      case "waiting":
        return `${whole} · waits for its turn`;
      case "uploading":
        return [`${bytes(offset)} of ${whole}`, this.#pace(), this.wanted && "starts by itself"].filter(Boolean).join(" · ");
      case "paused":
        return `${bytes(offset)} of ${whole} · paused`;
      case "retrying":
        return `${bytes(offset)} of ${whole} · connection lost, trying again`;
      case "completed":
        return this.wanted ? "Uploaded · starting" : `${whole} · uploaded`;
      case "failed":
        return error.message;
      default:
        return "";
    }
  }

  #pace() {
    if (!this.#speed) return null;
    const left = (this.file.size - this.upload.offset) / this.#speed;
    return `${bytes(this.#speed)}/s, ${about(left)} left`;
  }
}

// A name, not a secret: FNV-1a also works where crypto.subtle does not exist.
function shortDigest(text) {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, "0");
}
