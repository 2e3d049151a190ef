// Two videos that play as one: the same moment in both, whatever the network and the decoders do.

import { makeVideo, once, release, tryToPlay } from "./media.js";

const CHECK_MS = 100;
// Seconds. Below the first nobody sees it; up to the second the speed is changed a little, above it is a jump.
const UNSEEN_DRIFT = 0.015;
const LARGE_DRIFT = 0.3;
// A drift is worked off in about this many seconds, at 0.75 to 1.25 of the speed.
const CATCH_UP_SECONDS = 0.5;
const MAX_SPEED_CHANGE = 0.25;

/**
 * `before` follows `after`, which has the clock and the sound. Dispatches "change" when position or state changed.
 *
 * `offset` is the time in `before` at which `after` begins (a job can be of a part); `fps` lets positions fall on
 * the middle of a frame, where rounding cannot show neighbours.
 */
export class VideoPair extends EventTarget {
  #offset;
  #fps;
  #wantsToPlay = false;
  #timer = null;

  constructor({ before, after, offset = 0, fps = null }) {
    super();
    this.#offset = offset;
    this.#fps = fps;
    this.before = makeVideo({ label: "Original", src: before, muted: true, tabindex: "-1" });
    this.before.muted = true;
    this.after = makeVideo({ label: "Result", src: after, tabindex: "-1" });
    for (const video of [this.before, this.after]) {
      for (const name of ["canplay", "waiting", "seeked", "playing"]) video.addEventListener(name, () => this.#settle());
    }
    for (const name of ["timeupdate", "durationchange", "volumechange", "seeked"]) {
      this.after.addEventListener(name, () => this.#changed());
    }
    this.after.addEventListener("ended", () => this.pause());
  }

  /** Waits for both and goes to a position. Rejects with `{side}` of what this browser cannot play. */
  async open(position) {
    await Promise.all([this.#load(this.before, "before"), this.#load(this.after, "after")]);
    this.seek(position);
  }

  get position() {
    return this.after.currentTime;
  }

  get duration() {
    return Number.isFinite(this.after.duration) ? this.after.duration : 0;
  }

  get isPlaying() {
    return this.#wantsToPlay;
  }

  get isMuted() {
    return this.after.muted;
  }

  set isMuted(isMuted) {
    this.after.muted = isMuted;
  }

  play() {
    if (this.after.ended || this.duration - this.position < 0.05) this.seek(0);
    this.#wantsToPlay = true;
    this.#timer ??= setInterval(() => this.#correct(), CHECK_MS);
    this.#settle();
    this.#changed();
  }

  pause() {
    this.#wantsToPlay = false;
    clearInterval(this.#timer);
    this.#timer = null;
    this.before.pause();
    this.after.pause();
    this.before.playbackRate = 1;
    if (!this.after.ended) this.seek(this.position);
    this.#changed();
  }

  seek(seconds) {
    const position = this.#snap(Math.min(Math.max(0, seconds), this.duration));
    this.after.currentTime = position;
    this.before.currentTime = position + this.#offset;
    this.#changed();
  }

  close() {
    this.#wantsToPlay = false;
    clearInterval(this.#timer);
    release(this.before);
    release(this.after);
  }

  async #load(video, side) {
    try {
      if (video.readyState < HTMLMediaElement.HAVE_METADATA) await once(video, "loadedmetadata");
    } catch {
      throw { side };
    }
    // A known container around an unknown codec: only the sound would play.
    if (!video.videoWidth) throw { side };
  }

  // The one that is ready waits for the one that is not.
  #settle() {
    if (!this.#wantsToPlay) return;
    const isReady = (video) =>
      video.ended || (!video.seeking && video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA);
    const areReady = isReady(this.before) && isReady(this.after);
    for (const video of [this.before, this.after]) {
      if (areReady && video.paused && !video.ended) tryToPlay(video);
      else if (!areReady && isReady(video) && !video.paused) video.pause();
    }
  }

  #correct() {
    if (this.after.paused || this.before.ended || this.before.seeking) {
      this.#settle();
      return;
    }
    const target = this.after.currentTime + this.#offset;
    const drift = this.before.currentTime - target;
    if (Math.abs(drift) > LARGE_DRIFT) {
      this.before.playbackRate = 1;
      this.before.currentTime = target;
    } else {
      const change = Math.max(-MAX_SPEED_CHANGE, Math.min(MAX_SPEED_CHANGE, -drift / CATCH_UP_SECONDS));
      this.before.playbackRate = Math.abs(drift) > UNSEEN_DRIFT ? 1 + change : 1;
    }
  }

  #snap(seconds) {
    if (!this.#fps) return seconds;
    const last = Math.max(0, Math.ceil(this.duration * this.#fps - 0.01) - 1);
    return (Math.min(last, Math.floor(seconds * this.#fps + 0.001)) + 0.5) / this.#fps;
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
