// Video elements: made, waited for, and let go.

import { el } from "./dom.js";

export function makeVideo({ label, ...attributes }) {
  return el("video", { playsinline: true, preload: "auto", "aria-label": label, ...attributes });
}

/** Closes the connection too: browsers open six to a server, and a removed video would keep its own. */
export function release(video) {
  video.pause();
  video.removeAttribute("src");
  video.load();
  video.remove();
}

/** Resolves at an event of the video; rejects when the video fails first. */
export function once(video, name) {
  return new Promise((resolve, reject) => {
    const finish = (settle) => () => {
      video.removeEventListener(name, succeed);
      video.removeEventListener("error", fail);
      settle();
    };
    const succeed = finish(resolve);
    const fail = finish(() => reject(video.error ?? new Error("The video cannot be played.")));
    video.addEventListener(name, succeed);
    video.addEventListener("error", fail);
  });
}

/** Plays; that a browser wants a click first is no fault. */
export async function tryToPlay(video) {
  try {
    await video.play();
  } catch (error) {
    if (error.name !== "NotAllowedError" && error.name !== "AbortError") throw error;
  }
}
