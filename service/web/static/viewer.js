// One job: what it is, how far it is, what came of it, and what can be done with it.

import { request } from "./api.js";
import { confirm } from "./confirm.js";
import { $, announce, el, setBar, setText } from "./dom.js";
import { isFinal, watchJob } from "./events.js";
import { bytes, clock, count, size } from "./format.js";
import { closeStage, openStage, updateStage } from "./stage.js";
import { showError, showInfo } from "./toasts.js";
import { advice, stateWord, statusWords } from "./words.js";

const APP = "Dovetail";

let job = null;
let stopWatching = () => {};
let opening = null;
let listeners = { changed: () => {}, deleted: () => {} };

/** `changed(job)` is called with every new state, `deleted(id)` when the job is gone. */
export function startViewer(callbacks) {
  listeners = callbacks;
  $("cancel").addEventListener("click", () => act($("cancel"), cancel));
  $("retry").addEventListener("click", () => act($("retry"), retry));
  $("delete").addEventListener("click", () => act($("delete"), remove));
}

/** Shows a job by its id; resolves to whether there is one. */
export async function openJob(id) {
  if (job?.id === id) return true;
  closeJob();
  opening = id;
  const found = await request("GET", `/v1/jobs/${encodeURIComponent(id)}`);
  if (opening !== id) return true;
  opening = null;
  job = found;
  render();
  openStage(job);
  watch();
  return true;
}

export function closeJob() {
  opening = null;
  if (!job) return;
  stopWatching();
  closeStage();
  job = null;
  document.title = APP;
}

function watch() {
  stopWatching();
  if (isFinal(job)) return;
  stopWatching = watchJob(job, { onJob: update, onGone: () => gone(job.id), onConnection: showConnection });
}

function update(next, eventName) {
  const before = job;
  job = next;
  render();
  updateStage(job, eventName);
  if (before.status !== job.status) announce(`${job.input.filename}: ${stateWord(job)}`);
  listeners.changed(job);
}

function gone(id) {
  showInfo("This video was deleted.");
  listeners.deleted(id);
}

function showConnection(isConnected) {
  if (job && !isFinal(job)) setText($("status-text"), isConnected ? statusWords(job) : "Connection lost, trying again");
}

function render() {
  const { filename } = job.input;
  setText($("job-title"), filename);
  setText($("job-facts"), facts());
  setText($("state"), stateWord(job));
  $("state").dataset.state = job.status;
  setText($("status-text"), statusWords(job));
  const isWorking = job.status === "in_progress" || job.status === "cancelling";
  setText($("percent"), isWorking ? `${job.progress} %` : "");
  setBar($("bar"), job.progress / 100);
  $("bar").hidden = isFinal(job);
  document.title = `${isWorking ? `${job.progress} % ` : ""}${filename} · ${APP}`;
  renderActions();
  renderFailure();
  renderWarnings();
}

function facts() {
  const { input, output, options } = job;
  // A still is upright when it is done, whatever way its camera was held.
  const isTurned = input.picture && Math.abs(input.rotation) % 180 === 90;
  const from = input.width && (isTurned ? size(input.height, input.width) : size(input.width, input.height));
  const parts = [output ? `${from} → ${size(output.width, output.height)}` : from];
  const seconds = output?.duration_seconds ?? input.duration_seconds;
  if (seconds) parts.push(clock(seconds));
  if (options.model) parts.push(options.model);
  // Of a source that is still being fetched nothing is known.
  parts.push(output ? bytes(output.size_bytes) : input.size_bytes && bytes(input.size_bytes));
  return parts.filter(Boolean).join(" · ");
}

function renderActions() {
  $("cancel").hidden = !["queued", "in_progress"].includes(job.status);
  $("retry").hidden = !["failed", "cancelled"].includes(job.status);
  const download = $("download");
  download.hidden = job.status !== "completed";
  download.href = `${job.links.content}?download=1`;
}

function renderFailure() {
  $("failure").hidden = job.error === null;
  setText($("failure-message"), job.error?.message ?? "");
  setText($("failure-advice"), job.error ? advice(job.error) : "");
}

function renderWarnings() {
  $("warnings").hidden = job.warnings.length === 0;
  setText($("warnings-summary"), count(job.warnings.length, "note about this video", "notes about this video"));
  const list = $("warnings-list");
  // Rebuilt only when it differs: a list that is being read must not be pulled away.
  if (list.children.length === job.warnings.length) return;
  list.replaceChildren(...job.warnings.map((text) => el("li", { text })));
}

async function cancel() {
  update(await request("POST", job.links.cancel), "status");
}

async function retry() {
  const next = await request("POST", job.links.retry);
  update(next, "status");
  watch();
}

async function remove() {
  const { id, input } = job;
  const isSure = await confirm({
    title: `Delete ${input.filename}?`,
    text: isFinal(job)
      ? "The upload and the result are removed from the server. This cannot be undone."
      : "The work is stopped, and everything is removed from the server. This cannot be undone.",
    yes: "Delete",
  });
  if (!isSure) return;
  await request("DELETE", `/v1/jobs/${id}`);
  listeners.deleted(id);
}

async function act(button, action) {
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    showError(error);
  } finally {
    button.disabled = false;
  }
}
