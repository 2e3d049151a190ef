// The newest before/after pictures of a job, both of the same moment.

import { send } from "./api.js";
import { el } from "./dom.js";

/** Two pictures that are renewed together. */
export class StillPair {
  before = el("img", { alt: "The original, one frame" });
  after = el("img", { alt: "The result, the same frame" });
  #isLoading = false;
  #isOutdated = false;
  #isClosed = false;

  constructor(url) {
    this.url = url;
  }

  /** Fetches the newest; resolves to whether there is a picture to show. Calls while it loads become one more. */
  async refresh() {
    this.#isOutdated = this.#isLoading;
    if (this.#isLoading) return this.hasPicture;
    this.#isLoading = true;
    try {
      const [before, after] = await Promise.all([this.#fetch("before"), this.#fetch("after")]);
      if (before && after && !this.#isClosed) await this.#swap(before, after);
    } finally {
      this.#isLoading = false;
    }
    return this.#isOutdated && !this.#isClosed ? this.refresh() : this.hasPicture;
  }

  get hasPicture() {
    return this.after.src !== "";
  }

  close() {
    this.#isClosed = true;
    for (const image of [this.before, this.after]) {
      URL.revokeObjectURL(image.src);
      image.removeAttribute("src");
    }
  }

  async #fetch(side) {
    const response = await send("GET", `${this.url}?side=${side}`).catch(() => null);
    return response?.ok ? response.blob() : null;
  }

  async #swap(...blobs) {
    const urls = blobs.map((blob) => URL.createObjectURL(blob));
    // Decoded first, so that both change in the same frame of the screen.
    await Promise.all(urls.map((url) => Object.assign(new Image(), { src: url }).decode().catch(() => {})));
    for (const [index, image] of [this.before, this.after].entries()) {
      if (image.src) URL.revokeObjectURL(image.src);
      image.src = urls[index];
    }
  }
}
