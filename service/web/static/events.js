// Live news of one job: server-sent events, or asking every few seconds where these do not come through.

import { request } from "./api.js";

const NAMES = ["status", "progress", "segment", "warning", "completed", "failed", "cancelled"];
const FINAL = new Set(["completed", "failed", "cancelled"]);
const POLL_MS = 3000;
// Some proxies hold events back or cut them off; later they may not.
const POLLS_BEFORE_EVENTS = 10;

export const isFinal = (job) => FINAL.has(job.status);

/**
 * Watches a job until it is final or the returned function is called.
 *
 * `onJob(job, eventName)` gets states in order, never an older one after a newer; `onGone()` when there is no such
 * job any more; `onConnection(isConnected)` when the server is lost and found.
 */
export function watchJob(job, { onJob, onGone, onConnection }) {
  let latest = job;
  let source = null;
  let timer = null;
  let isStopped = false;

  const stop = () => {
    isStopped = true;
    source?.close();
    clearTimeout(timer);
  };

  const take = (next, name) => {
    // Events are replayed from the beginning when the browser connects anew.
    if (Date.parse(next.updated_at) < Date.parse(latest.updated_at)) return;
    latest = next;
    onJob(next, name);
    if (isFinal(next)) stop();
  };

  const listen = () => {
    source = new EventSource(`/v1/jobs/${job.id}/events`);
    for (const name of NAMES) source.addEventListener(name, (event) => take(JSON.parse(event.data).job, name));
    source.addEventListener("reset", () => ask().catch(() => {}));
    source.addEventListener("open", () => onConnection(true));
    source.addEventListener("error", () => {
      if (isStopped) return;
      onConnection(false);
      // The browser connects again by itself unless the server refused.
      if (source.readyState === EventSource.CLOSED) poll(POLLS_BEFORE_EVENTS);
    });
  };

  const ask = async () => {
    try {
      const next = await request("GET", `/v1/jobs/${job.id}`);
      if (isStopped) return;
      onConnection(true);
      take(next, "status");
    } catch (error) {
      if (isStopped) return;
      if (error.status === 404 || error.status === 410) {
        stop();
        onGone();
        return;
      }
      onConnection(false);
      throw error;
    }
  };

  const poll = async (left) => {
    let wait = POLL_MS;
    try {
      await ask();
    } catch (error) {
      wait = Math.max(POLL_MS, (error.retryAfter ?? 0) * 1000);
    }
    if (!isStopped) timer = setTimeout(() => (left > 0 ? poll(left - 1) : listen()), wait);
  };

  listen();
  return stop;
}
