// The result alone, with the browser's own controls: first as it grows, then the finished file.

import { prefersStillness } from "./dom.js";
import { GrowingSource, canFeed } from "./growing_source.js";
import { makeVideo, once, release, tryToPlay } from "./media.js";

const LABEL = "Result";

export class ResultPlayer {
  #video = null;
  #source = null;
  #isGrowing = false;
  #resumeAt = 0;
  #isClosed = false;

  /**
   * `onPicture()` tells when there is something to see, `onWaiting(isWaiting)` when playback has caught up with the
   * work, `onFailure()` when nothing plays.
   */
  constructor(container, { onPicture, onWaiting, onFailure }) {
    this.container = container;
    this.onPicture = onPicture;
    this.onWaiting = onWaiting;
    this.onFailure = onFailure;
    container.hidden = false;
  }

  get position() {
    return this.#video?.currentTime || this.#resumeAt;
  }

  /** Plays the growing stream from its beginning, without sound: nobody has asked for it yet. */
  grow(links, seconds) {
    this.#isGrowing = true;
    const video = this.#make({ isMuted: true });
    this.#put(video);
    const onUnplayable = () => this.onFailure();
    if (canFeed()) this.#source = new GrowingSource(video, { links, seconds, onUnplayable });
    // Telephones without media sources take the playlist.
    else video.src = video.canPlayType("application/vnd.apple.mpegurl") ? links.hls : links.stream;
    if (!prefersStillness()) tryToPlay(video).catch(() => {});
  }

  /** Plays the finished file, from where the growing one is. */
  async finish(url, position = this.position) {
    this.#isGrowing = false;
    this.#resumeAt = position;
    const old = this.#video;
    const video = this.#make({ src: url, isMuted: old?.muted ?? false });
    video.classList.add("incoming");
    this.container.append(video);
    try {
      await once(video, "loadedmetadata");
      await goTo(video, old?.currentTime || position);
    } catch {
      if (this.#isClosed) return;
      this.#put(video);
      this.onFailure();
      return;
    }
    await leftFullScreen(old);
    if (this.#isClosed) return;
    if (old && !old.paused && !old.ended) {
      video.currentTime = old.currentTime;
      tryToPlay(video).catch(() => {});
    }
    this.onWaiting(false);
    this.#put(video);
  }

  close() {
    this.#isClosed = true;
    this.#source?.close();
    this.onWaiting(false);
    for (const video of this.container.querySelectorAll("video")) release(video);
    this.container.hidden = true;
  }

  #make({ src, isMuted }) {
    const video = makeVideo({ label: LABEL, controls: true, src });
    video.muted = isMuted;
    video.addEventListener("loadeddata", () => this.onPicture());
    video.addEventListener("waiting", () => this.onWaiting(this.#isGrowing && video === this.#video));
    for (const name of ["playing", "pause", "ended", "error"]) {
      video.addEventListener(name, () => video === this.#video && this.onWaiting(false));
    }
    return video;
  }

  #put(video) {
    const old = this.#video;
    this.#video = video;
    video.classList.remove("incoming");
    if (!video.isConnected) this.container.append(video);
    if (!old) return;
    this.#source?.close();
    release(old);
  }
}

async function goTo(video, position) {
  if (!position) return;
  const sought = once(video, "seeked");
  video.currentTime = Math.min(position, video.duration || position);
  await sought;
}

// Whoever watches in full screen would be thrown out of it by another element.
function leftFullScreen(video) {
  if (!video || document.fullscreenElement !== video) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("fullscreenchange", resolve, { once: true }));
}
