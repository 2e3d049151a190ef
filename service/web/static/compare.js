// Two pictures over each other and a divider between them, for mouse, touch and keyboard.

import { $, setText } from "./dom.js";

const STEP = 2;
const BIG_STEP = 10;
const ZOOMS = [1, 2, 4];
// Where a label would lie under the other picture's edge, in percent of the width.
const TAG_PERCENT = 12;

/** The divider of index.html. Both layers take any element; `split` is the share of the left picture in percent. */
export class Compare {
  #root = $("compare");
  #divider = $("divider");
  #split = 50;
  #zoom = 1;
  #origin = { x: 50, y: 50 };
  #drag = null;

  constructor() {
    this.#root.addEventListener("pointerdown", (event) => this.#begin(event));
    this.#root.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) this.#root.addEventListener(name, () => this.#end());
    this.#divider.addEventListener("keydown", (event) => this.#press(event));
    $("zoom").addEventListener("click", () => this.#nextZoom());
  }

  /** Puts in the two pictures and shows them. */
  show(before, after) {
    this.#root.querySelector(".layer-before .zoomed").replaceChildren(before);
    this.#root.querySelector(".layer-after .zoomed").replaceChildren(after);
    this.#root.hidden = false;
    this.split = this.#split;
  }

  hide() {
    this.#root.hidden = true;
    for (const layer of this.#root.querySelectorAll(".zoomed")) layer.replaceChildren();
  }

  /** Divider in the middle, no zoom. */
  reset() {
    this.split = 50;
    this.#setZoom(1);
  }

  get split() {
    return this.#split;
  }

  set split(percent) {
    this.#split = Math.min(100, Math.max(0, percent));
    const rounded = Math.round(this.#split);
    this.#root.style.setProperty("--split", `${this.#split}%`);
    this.#divider.setAttribute("aria-valuenow", String(rounded));
    this.#divider.setAttribute("aria-valuetext", `${rounded}% before, ${100 - rounded}% after`);
    this.#root.querySelector(".tag-before").classList.toggle("is-covered", this.#split < TAG_PERCENT);
    this.#root.querySelector(".tag-after").classList.toggle("is-covered", this.#split > 100 - TAG_PERCENT);
  }

  #begin(event) {
    if (event.button !== 0) return;
    const isDivider = this.#divider.contains(event.target);
    // With zoom the picture is moved by dragging it, and the divider by its handle.
    this.#drag = { isPan: this.#zoom > 1 && !isDivider, x: event.clientX, y: event.clientY };
    this.#root.setPointerCapture(event.pointerId);
    this.#divider.focus({ preventScroll: true, focusVisible: false });
    event.preventDefault();
    if (!this.#drag.isPan) this.#follow(event);
  }

  #move(event) {
    if (!this.#drag) return;
    if (this.#drag.isPan) this.#pan(event);
    else this.#follow(event);
  }

  #end() {
    this.#drag = null;
  }

  #follow(event) {
    const box = this.#root.getBoundingClientRect();
    this.split = (100 * (event.clientX - box.left)) / box.width;
  }

  #pan(event) {
    const box = this.#root.getBoundingClientRect();
    // The picture is (zoom - 1) boxes larger than what is seen, and the origin runs over 100 % of these.
    const share = 100 / (this.#zoom - 1);
    this.#setOrigin(
      this.#origin.x - (share * (event.clientX - this.#drag.x)) / box.width,
      this.#origin.y - (share * (event.clientY - this.#drag.y)) / box.height,
    );
    Object.assign(this.#drag, { x: event.clientX, y: event.clientY });
  }

  #press(event) {
    if (event.altKey && this.#panByKey(event)) return;
    const step = event.shiftKey ? BIG_STEP : STEP;
    const targets = {
      ArrowLeft: this.#split - step,
      ArrowDown: this.#split - step,
      ArrowRight: this.#split + step,
      ArrowUp: this.#split + step,
      PageDown: this.#split - BIG_STEP,
      PageUp: this.#split + BIG_STEP,
      Home: 0,
      End: 100,
    };
    if (!(event.key in targets)) return;
    event.preventDefault();
    this.split = targets[event.key];
  }

  #panByKey(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (!move) return false;
    event.preventDefault();
    this.#setOrigin(this.#origin.x + move[0] * BIG_STEP, this.#origin.y + move[1] * BIG_STEP);
    return true;
  }

  #nextZoom() {
    this.#setZoom(ZOOMS[(ZOOMS.indexOf(this.#zoom) + 1) % ZOOMS.length]);
  }

  #setZoom(zoom) {
    this.#zoom = zoom;
    this.#root.style.setProperty("--zoom", String(zoom));
    this.#root.classList.toggle("is-zoomed", zoom > 1);
    const button = $("zoom");
    setText(button.querySelector("span"), `${zoom}×`);
    button.setAttribute("aria-label", `Zoom: ${zoom}×`);
    button.title = zoom > 1 ? "Zoom. Drag the picture, or hold Alt and use the arrow keys" : "Zoom";
    if (zoom === 1) this.#setOrigin(50, 50);
  }

  #setOrigin(x, y) {
    const clamp = (value) => Math.min(100, Math.max(0, value));
    this.#origin = { x: clamp(x), y: clamp(y) };
    this.#root.style.setProperty("--zoom-x", `${this.#origin.x}%`);
    this.#root.style.setProperty("--zoom-y", `${this.#origin.y}%`);
  }
}
