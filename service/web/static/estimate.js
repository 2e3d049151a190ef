// What a job would make and how long it would take, before it is submitted.

import { request } from "./api.js";
import { about, count, size } from "./format.js";

// Browsers do not tell a file's frame rate. Until the server has the file, this stands in, and the words say "about".
const ASSUMED_FPS = 30;

/** Size and length of a chosen file where this browser can read it, else null. */
export function measure(file) {
  const video = document.createElement("video");
  const url = URL.createObjectURL(file);
  const measured = new Promise((resolve) => {
    video.addEventListener("loadedmetadata", () => {
      const { videoWidth: width, videoHeight: height, duration } = video;
      resolve(width && duration > 0 && Number.isFinite(duration) ? { width, height, duration_seconds: duration } : null);
    });
    video.addEventListener("error", () => resolve(null));
  });
  video.preload = "metadata";
  video.src = url;
  return measured.finally(() => {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(url);
  });
}

/** Asks for an estimate of an upload that is complete, or else of a measured file; null where neither is known. */
export async function estimate({ uploadId, measured, options }, signal) {
  const subject = uploadId
    ? { source: { type: "upload", upload_id: uploadId } }
    : measured && { input: { ...measured, frame_rate: ASSUMED_FPS } };
  if (!subject) return null;
  return request("POST", "/v1/estimate", { json: { ...subject, options }, signal });
}

/** "320 × 180 → 1280 × 720 · 240 frames · about 2 min, after about 5 min in the queue" */
export function describe(result, measured, isExact) {
  const to = size(result.output.width, result.output.height);
  const parts = [measured ? `${size(measured.width, measured.height)} → ${to}` : to];
  parts.push(`${isExact ? "" : "about "}${count(result.frames, "frame")}`);
  if (result.seconds !== null) parts.push(about(result.seconds));
  const text = parts.join(" · ");
  const wait = result.queue_seconds >= 1 ? `, after ${about(result.queue_seconds)} in the queue` : "";
  const trouble = result.fits ? "" : " · more than this server's memory takes";
  return [text + wait + trouble, ...result.warnings].join(" · ");
}
