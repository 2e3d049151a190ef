// Puts the page together: who is asking, which part of the page is shown, who tells whom.

import { request } from "./api.js";
import { startComposer } from "./composer.js";
import { $, prefersStillness } from "./dom.js";
import { putJob, removeJob, selectJob, startJobList } from "./job_list.js";
import { showModels } from "./options.js";
import { identify } from "./session.js";
import { showError } from "./toasts.js";
import { closeJob, openJob, startViewer } from "./viewer.js";

const JOB_HASH = /^#(job_[\w-]+)$/;

async function start() {
  startComposer({ created });
  startViewer({ changed: putJob, deleted });
  addEventListener("hashchange", route);
  try {
    if ((await identify()) === null) return;
    // Models only fill a list; a server that cannot tell them still takes videos.
    const models = request("GET", "/v1/models").then((list) => showModels(list.data));
    await Promise.all([models.catch(showError), startJobList(), route()]);
  } catch (error) {
    showError(error);
  } finally {
    if ($("layout").dataset.jobs === "unknown") $("layout").dataset.jobs = "none";
  }
}

/** Shows what the address names: a job, or the place for new ones. Other anchors, such as #main, change nothing. */
async function route() {
  const id = JOB_HASH.exec(location.hash)?.[1];
  if (!id) {
    if (["", "#", "#new"].includes(location.hash)) showComposer();
    return;
  }
  try {
    await openJob(id);
    if (JOB_HASH.exec(location.hash)?.[1] !== id) return;
    selectJob(id);
    show($("viewer"));
  } catch (error) {
    showError(error);
    location.replace("#new");
  }
}

function showComposer() {
  closeJob();
  selectJob(null);
  show($("composer"));
}

function show(section) {
  const isOther = section.hidden;
  for (const candidate of [$("composer"), $("viewer")]) candidate.hidden = candidate !== section;
  // On a narrow screen the list is below what it opens.
  const isAbove = section.getBoundingClientRect().top < 0;
  if (isOther || isAbove) scrollTo({ top: 0, behavior: prefersStillness() ? "auto" : "smooth" });
}

function created(job) {
  putJob(job, { isNew: true });
  // Whoever has gone elsewhere meanwhile, or has more to send, stays there.
  if (!$("composer").hidden && $("tray").children.length === 0) location.hash = job.id;
}

function deleted(id) {
  removeJob(id);
  closeJob();
  location.hash = "new";
  $("main").focus({ preventScroll: true });
}

start();
