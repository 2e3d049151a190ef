// What states and errors of jobs are called, and what one can do about them.

import { about, count, ordinal, rate } from "./format.js";

const STATES = {
  queued: "Waiting",
  in_progress: "Working",
  completed: "Finished",
  failed: "Failed",
  cancelling: "Cancelling",
  cancelled: "Cancelled",
};

const STAGES = {
  fetching: "Fetching the video",
  planning: "Reading the video",
  upscaling: "Upscaling",
  joining: "Putting it together with the sound",
};

const DAMAGED = "Check that the file plays on your computer. Converting it to MP4 often helps.";
const ADVICE = {
  unreadable_input: DAMAGED,
  no_frames: DAMAGED,
  input_crashed_decoder: DAMAGED,
  input_timeout: DAMAGED,
  no_video: "The file has no picture. Choose the video itself, not its sound or subtitles.",
  unsupported_codec: "Convert the video to H.264 (MP4) and upload it again.",
  input_limit: "Choose a smaller or shorter video, or only a part of it.",
  input_memory: "Choose a smaller or shorter video, or only a part of it.",
  unsupported_size: "Choose another size for the result.",
  out_of_memory: "Choose a smaller size for the result, or another model.",
  worker_crashed: "Try again: what is finished is kept. If it happens again, tell whoever runs this server.",
  source_failed: "Check that the address works without signing in, then try again.",
  source_refused: "Use an address that this server may fetch, or upload the video.",
  storage_full: "The server's disk is full. Delete videos that you no longer need, then try again.",
  disk_full: "The server's disk is full. Delete videos that you no longer need, then try again.",
};
const USUAL_ADVICE = "Try again: what is finished is kept.";

export const stateWord = (job) => STATES[job.status] ?? job.status;
export const advice = (error) => ADVICE[error.code] ?? USUAL_ADVICE;

/** "Upscaling · 120 of 240 frames · 3.4 frames/s · about 35 s left" */
export function statusWords(job) {
  switch (job.status) {
    case "queued":
      return job.stage === "fetching" ? STAGES.fetching : queueWords(job.queue_position);
    case "in_progress":
      return workWords(job);
    case "cancelling":
      return "Stops after the current frames";
    case "completed":
      return [frames(job), took(job)].filter(Boolean).join(" · ");
    default:
      return job.processed_frames ? `${frames(job)} were done` : "";
  }
}

function queueWords(position) {
  if (position === null) return "";
  return position === 1 ? "Next in the queue" : `${ordinal(position)} in the queue`;
}

function workWords(job) {
  const parts = [STAGES[job.stage] ?? "Starting"];
  if (job.stage !== "upscaling") return parts[0];
  parts.push(frames(job));
  if (job.fps) parts.push(`${rate(job.fps)} frames/s`);
  if (job.eta_seconds !== null) parts.push(`${about(job.eta_seconds)} left`);
  return parts.join(" · ");
}

function frames(job) {
  const done = job.processed_frames;
  return job.total_frames === null || job.status === "completed"
    ? count(done, "frame")
    : `${done.toLocaleString("en")} of ${count(job.total_frames, "frame")}`;
}

function took(job) {
  const seconds = (Date.parse(job.completed_at) - Date.parse(job.started_at)) / 1000;
  return Number.isFinite(seconds) ? `took ${about(seconds)}` : null;
}
