// Choosing videos, sending them, and turning them into jobs.

import { $, announce, el, setText } from "./dom.js";
import { about, bytes, count } from "./format.js";
import { areOptionsValid, onOptions, readOptions, showOptions } from "./options.js";
import { showError, showInfo } from "./toasts.js";
import { TrayItem } from "./tray_item.js";
import { discard } from "./tus.js";
import { fingerprint, forget, interrupted } from "./upload_memory.js";

const items = new Set();
let isSending = false;
let onJob = () => {};

/** Starts listening. `created` is called with each new job. */
export function startComposer({ created }) {
  onJob = created;
  $("file-input").addEventListener("change", (event) => {
    add([...event.target.files]);
    // Choosing the same file again must be an event again.
    event.target.value = "";
  });
  $("options").addEventListener("submit", submit);
  onOptions(() => {
    for (const item of items) item.setOptions(readOptions().options);
  });
  listenForDrops();
  addEventListener("beforeunload", (event) => {
    if ([...items].some((item) => item.upload.state === "uploading")) event.preventDefault();
  });
  showInterrupted();
}

function add(files) {
  const known = new Set([...items].map((item) => fingerprint(item.file)));
  const fresh = files.filter((file) => !known.has(fingerprint(file)));
  for (const file of fresh) {
    const item = new TrayItem(file);
    item.setOptions(readOptions().options);
    item.addEventListener("change", renderTotal);
    item.addEventListener("removed", () => remove(item));
    item.addEventListener("refused", (event) => showError(event.detail));
    item.addEventListener("job", (event) => {
      remove(item);
      onJob(event.detail);
    });
    items.add(item);
    $("tray").append(item.element);
  }
  if (fresh.length) announce(`${count(fresh.length, "video")} added`);
  render();
  sendAll();
}

// One after the other: each gets the whole line, and the first can start soonest. Browsers also open no more than
// six connections to a server, and players and events need some of them.
async function sendAll() {
  if (isSending) return;
  isSending = true;
  for (let next = nextWaiting(); next; next = nextWaiting()) await sendUntilPaused(next);
  isSending = false;
}

const nextWaiting = () => [...items].find((item) => item.upload.state === "waiting");

function sendUntilPaused(item) {
  const isPaused = new Promise((resolve) => {
    item.upload.addEventListener("change", () => item.upload.state === "paused" && resolve());
  });
  return Promise.race([item.send(), isPaused]);
}

function remove(item) {
  const index = [...items].indexOf(item);
  items.delete(item);
  item.element.remove();
  render();
  // The focus was on a button that is gone: on to the next one, or back to where files are chosen.
  if (document.activeElement === document.body && !$("composer").hidden) {
    const neighbour = [...items][Math.min(index, items.size - 1)];
    (neighbour?.element.querySelector("button:last-child") ?? $("file-input")).focus({ preventScroll: true });
  }
}

function submit(event) {
  event.preventDefault();
  if (!areOptionsValid()) return;
  const wanted = readOptions();
  const started = startable();
  for (const item of started) {
    item.want(wanted);
    item.submit();
  }
  const numUploading = started.filter((item) => item.upload.state !== "completed").length;
  if (numUploading) showInfo(`${count(numUploading, "video")} will start when uploaded. Keep this page open until then.`);
}

const startable = () => [...items].filter((item) => !item.wanted && !["failed", "cancelled"].includes(item.upload.state));

function render() {
  $("tray").hidden = items.size === 0;
  $("composer").classList.toggle("has-items", items.size > 0);
  setText($("drop-title"), items.size > 0 ? "Drop more here" : "Drop videos here");
  showOptions(items.size > 0);
  showInterrupted();
  renderTotal();
}

function renderTotal() {
  const ready = startable();
  const button = $("submit");
  button.disabled = ready.length === 0;
  setText(button, ready.length > 1 ? `Upscale ${ready.length} videos` : "Upscale");
  setText($("total"), totalWords(ready));
}

function totalWords(ready) {
  if (!ready.length) return items.size ? "Starts when the upload is complete." : "";
  const estimates = ready.map((item) => item.estimated);
  if (estimates.some((one) => one === null || one.seconds === null)) return "";
  const seconds = estimates.reduce((sum, one) => sum + one.seconds, 0);
  const wait = Math.max(...estimates.map((one) => one.queue_seconds ?? 0));
  return `Done in ${about(seconds + wait)}`;
}

function showInterrupted() {
  const chosen = new Set([...items].map((item) => fingerprint(item.file)));
  const entries = interrupted().filter((entry) => !chosen.has(entry.key));
  $("interrupted").hidden = entries.length === 0;
  $("interrupted").replaceChildren(...entries.map(interruptedRow));
}

function interruptedRow(entry) {
  const sent = entry.offset < entry.size ? `${bytes(entry.offset)} of ${bytes(entry.size)} are` : "it is";
  const text = `${entry.name} was not finished: ${sent} uploaded. Choose the same file again to go on.`;
  const onclick = () => {
    forget(entry.key);
    discard(entry.url);
    showInterrupted();
  };
  return el(
    "li",
    {},
    el("span", { text }),
    el("button", { type: "button", class: "button link", "aria-label": `Discard ${entry.name}`, text: "Discard", onclick }),
  );
}

// Anywhere on the page: nobody aims. `depth` counts the elements that a drag is over, one in another.
function listenForDrops() {
  let depth = 0;
  const show = (change) => {
    depth = Math.max(0, depth + change);
    $("drop-veil").hidden = depth === 0;
  };
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => hasFiles(event) && show(1));
  addEventListener("dragleave", (event) => hasFiles(event) && show(-1));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(-depth);
    if (document.querySelector("dialog[open]")) return;
    location.hash = "new";
    add([...event.dataTransfer.files]);
  });
}
