// Feeds the growing stream to a video by Media Source Extensions.
//
// A plain `src` would do in principle, but Chromium then shows nothing before about 40 frames have come, which can
// be minutes, and cannot go on after a broken connection.

import { problemOf, send } from "./api.js";

// Browsers hold some 100 MB of a source; what was seen this long ago may go first.
const KEPT_SECONDS = 10;
const RETRY_MS = 2000;
const CODECS = /CODECS="([^"]+)"/;

export const canFeed = () => "MediaSource" in globalThis;

/** Plays a job's stream in a video until `close`. `onUnplayable()` is called when the browser lacks the codec. */
export class GrowingSource {
  #video;
  #links;
  #media = new MediaSource();
  #buffer = null;
  #position = 0;
  #abort = new AbortController();

  /** `seconds` is the expected length: the seek bar then shows how much of it is there. */
  constructor(video, { links, seconds, onUnplayable }) {
    this.#video = video;
    this.#links = links;
    const url = URL.createObjectURL(this.#media);
    this.#media.addEventListener("sourceopen", () => {
      URL.revokeObjectURL(url);
      if (seconds) this.#media.duration = seconds;
      this.#run(onUnplayable);
    }, { once: true });
    video.src = url;
  }

  close() {
    this.#abort.abort();
  }

  async #run(onUnplayable) {
    while (!this.#abort.signal.aborted) {
      try {
        this.#buffer ??= await this.#open();
        await this.#receive();
        this.#media.endOfStream();
        return;
      } catch (error) {
        // 410: the job failed or was cancelled. What came can still be seen.
        if (this.#abort.signal.aborted || this.#video.error || error.status === 410) return;
        if (error.name === "NotSupportedError") {
          onUnplayable();
          return;
        }
        await sleep((error.retryAfter ?? 0) * 1000 || RETRY_MS);
      }
    }
  }

  // The playlist names the codecs; the stream's own header would have to be taken apart for them.
  async #open() {
    const response = await this.#get(this.#links.hls);
    const codecs = CODECS.exec(await response.text())?.[1];
    const type = `video/mp4; codecs="${codecs}"`;
    if (!codecs || !MediaSource.isTypeSupported(type)) throw new DOMException(type, "NotSupportedError");
    return this.#media.addSourceBuffer(type);
  }

  async #receive() {
    const response = await this.#get(this.#links.stream);
    // Only the finished file, which has other bytes, has a known length: the page is about to change to it.
    if (this.#position && response.headers.has("Content-Length")) return;
    // The stream is the same each time and begins at its beginning.
    let skip = this.#position;
    const reader = response.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const fresh = part.value.subarray(Math.min(skip, part.value.length));
      skip -= part.value.length - fresh.length;
      if (fresh.length) await this.#append(fresh);
    }
  }

  async #get(url) {
    const response = await send("GET", url, { signal: this.#abort.signal });
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  async #append(bytes) {
    try {
      this.#buffer.appendBuffer(bytes);
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
      await this.#makeRoom();
      return this.#append(bytes);
    }
    await this.#updated();
    this.#position += bytes.length;
    this.#enter();
  }

  // Also holds the download back while nobody watches: the next bytes are read only when these have a place.
  async #makeRoom() {
    const end = this.#video.currentTime - KEPT_SECONDS;
    const { buffered } = this.#buffer;
    if (buffered.length && buffered.start(0) < end) {
      this.#buffer.remove(0, end);
      await this.#updated();
    } else {
      await this.#moment("timeupdate");
    }
  }

  // Some videos begin a little after zero, and a player would wait there forever.
  #enter() {
    const { buffered, currentTime } = this.#video;
    if (buffered.length && currentTime < buffered.start(0)) this.#video.currentTime = buffered.start(0);
  }

  #updated() {
    return once(this.#buffer, "updateend", this.#abort.signal);
  }

  #moment(name) {
    return once(this.#video, name, this.#abort.signal);
  }
}

function once(target, name, signal) {
  return new Promise((resolve, reject) => {
    const cancel = () => reject(signal.reason);
    const finish = () => {
      signal.removeEventListener("abort", cancel);
      resolve();
    };
    signal.addEventListener("abort", cancel, { once: true });
    target.addEventListener(name, finish, { once: true });
  });
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
