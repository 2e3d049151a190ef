// A still and its result, both whole.

import { el } from "./dom.js";

const KINDS = new Set(["png", "jpg", "webp", "avif", "tiff", "bmp"]);

/** Whether a job gives a picture and no video. */
export const givesPicture = (job) => KINDS.has(job.options.container);

/** An image that can be waited for; rejects with `{side}` where the browser does not know its kind. */
async function load(image, side) {
  try {
    await image.decode();
  } catch {
    throw { side };
  }
}

/** Original and result as images. */
export class PicturePair {
  constructor({ before, after }) {
    this.before = el("img", { src: before, alt: "The original" });
    this.after = el("img", { src: after, alt: "The result" });
  }

  /** Waits for both. */
  async open() {
    await Promise.all([load(this.before, "before"), load(this.after, "after")]);
  }

  get ratio() {
    return this.after.naturalWidth / this.after.naturalHeight;
  }

  close() {
    for (const image of [this.before, this.after]) image.removeAttribute("src");
  }
}

/** The result alone, in an element of the page. */
export class Picture {
  constructor(container, url) {
    this.container = container;
    this.image = el("img", { src: url, alt: "The result" });
    container.replaceChildren(this.image);
    container.hidden = false;
  }

  open() {
    return load(this.image, "after");
  }

  close() {
    this.container.replaceChildren();
    this.container.hidden = true;
  }
}
