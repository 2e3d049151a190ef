// The list of jobs: filter, older ones, and news of those that are not open.

import { request } from "./api.js";
import { $, el, icon, setText } from "./dom.js";
import { isFinal } from "./events.js";
import { ago, count } from "./format.js";
import { showError } from "./toasts.js";
import { stateWord, statusWords } from "./words.js";

const PAGE_SIZE = 20;
// Events would take a connection for each job, and browsers open six. So one request for all, now and then.
const BUSY_MS = 2000;
const QUIET_MS = 20_000;

const rows = new Map();
let next = null;
let timer = null;
let selected = null;
let generation = 0;

/** Loads the list and keeps it fresh. Resolves when it is there for the first time. */
export function startJobList() {
  $("filter").addEventListener("change", reload);
  $("load-more").addEventListener("click", loadMore);
  document.addEventListener("visibilitychange", () => !document.hidden && refresh());
  return reload();
}

/** Shows a job's newest state; `isNew` puts it in at the top. */
export function putJob(job, { isNew = false } = {}) {
  if (!matchesFilter(job)) {
    remove(job.id);
    return;
  }
  const row = rows.get(job.id);
  if (row) fill(row, job);
  else if (isNew) insert(job);
  renderEmpty();
}

export function removeJob(id) {
  remove(id);
  renderEmpty();
}

export function selectJob(id) {
  selected = id;
  for (const row of rows.values()) mark(row);
}

async function reload() {
  generation += 1;
  try {
    const page = await fetchPage();
    if (page === null) return;
    for (const id of [...rows.keys()]) remove(id);
    for (const job of page.data) append(job);
    setNext(page);
    renderEmpty();
  } catch (error) {
    showError(error);
    renderEmpty();
  }
  schedule();
}

async function loadMore() {
  const button = $("load-more");
  button.disabled = true;
  try {
    const page = await fetchPage(next);
    if (page === null) return;
    const first = page.data.find((job) => !rows.has(job.id));
    for (const job of page.data) append(job);
    setNext(page);
    rows.get(first?.id)?.link.focus();
  } catch (error) {
    showError(error);
  } finally {
    button.disabled = false;
  }
}

// The first page again: changes what is there, puts in what is new, leaves older pages alone.
async function refresh() {
  clearTimeout(timer);
  try {
    const page = await fetchPage();
    if (page === null) return;
    for (const job of page.data.toReversed()) putJob(job, { isNew: true });
    const isComplete = !page.has_more && next === null;
    const seen = new Set(page.data.map((job) => job.id));
    if (isComplete) for (const id of [...rows.keys()]) if (!seen.has(id)) remove(id);
    renderEmpty();
  } catch {
    // The next round will tell; whoever does something is told at once.
  }
  schedule();
}

function schedule() {
  clearTimeout(timer);
  const isBusy = [...rows.values()].some((row) => !isFinal(row.job));
  timer = setTimeout(() => (document.hidden ? schedule() : refresh()), isBusy ? BUSY_MS : QUIET_MS);
}

// Null when the filter was changed meanwhile, and the answer is to a question nobody asks any more.
async function fetchPage(after = null) {
  const asked = generation;
  const query = new URLSearchParams({ limit: String(PAGE_SIZE) });
  if (after) query.set("after", after);
  for (const status of filter()) query.append("status", status);
  const page = await request("GET", `/v1/jobs?${query}`);
  return asked === generation ? page : null;
}

const filter = () => $("filter").value.split(",").filter(Boolean);

function matchesFilter(job) {
  const wanted = filter();
  return !wanted.length || wanted.includes(job.status);
}

function setNext(page) {
  next = page.has_more ? page.next : null;
  $("load-more").hidden = next === null;
}

function renderEmpty() {
  const isFiltered = filter().length > 0;
  const isEmpty = rows.size === 0;
  // Without any video the page is only the place to drop one.
  $("layout").dataset.jobs = isEmpty && !isFiltered ? "none" : "some";
  $("jobs-empty").hidden = !isEmpty;
  setText($("jobs-empty"), isFiltered ? "No videos of this kind." : "");
}

function append(job) {
  if (rows.has(job.id)) fill(rows.get(job.id), job);
  else $("job-list").append(build(job).element);
}

// By time of creation, newest first: a job that comes back into the filter goes where it was.
function insert(job) {
  const older = [...$("job-list").children].find((element) => element.dataset.created < job.created_at);
  $("job-list").insertBefore(build(job).element, older ?? null);
}

function remove(id) {
  rows.get(id)?.element.remove();
  rows.delete(id);
}

function build(job) {
  const row = { name: el("span", { class: "job-name" }), sub: el("span", { class: "job-sub" }) };
  row.thumb = el("span", { class: "thumb" }, icon("film"));
  row.link = el("a", { class: "job-link", href: `#${job.id}` }, row.thumb, row.name, row.sub);
  row.element = el("li", { "data-created": job.created_at }, row.link);
  rows.set(job.id, row);
  fill(row, job);
  mark(row);
  return row;
}

function fill(row, job) {
  if (row.job && Date.parse(job.updated_at) < Date.parse(row.job.updated_at)) return;
  row.job = job;
  setText(row.name, job.input.filename);
  row.link.title = job.input.filename;
  setText(row.sub, subtitle(job));
  row.sub.dataset.state = job.status;
  if (job.status === "completed" && !row.thumb.querySelector("img")) {
    row.thumb.replaceChildren(thumbnail(job));
  }
}

function thumbnail(job) {
  const image = el("img", { alt: "", loading: "lazy", src: `${job.links.preview}?side=after` });
  image.addEventListener("error", () => image.replaceWith(icon("film")));
  return image;
}

function subtitle(job) {
  if (job.status === "in_progress") return `${job.progress} % · ${count(job.processed_frames, "frame")}`;
  if (job.status === "queued" && job.stage === "fetching") return statusWords(job);
  if (job.status === "queued" && job.queue_position) return `Waiting, place ${job.queue_position}`;
  return isFinal(job) ? `${stateWord(job)} · ${ago(job.created_at)}` : stateWord(job);
}

function mark(row) {
  if (row.job.id === selected) row.link.setAttribute("aria-current", "page");
  else row.link.removeAttribute("aria-current");
}
