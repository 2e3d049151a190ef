// Play, position, sound and full screen of a pair of videos.

import { $, setIcon, setText } from "./dom.js";
import { clock } from "./format.js";

let pair = null;
let wanted = null;

/** Shows the controls for a pair of videos, or only what pictures need when it is null. */
export function showControls(newPair, { hasSound = false } = {}) {
  pair?.removeEventListener("change", render);
  pair = newPair;
  wanted = null;
  for (const id of ["play", "seek", "time"]) $(id).hidden = pair === null;
  $("sound").hidden = pair === null || !hasSound;
  $("controls").hidden = false;
  pair?.addEventListener("change", render);
  render();
}

export function hideControls() {
  pair?.removeEventListener("change", render);
  pair = null;
  $("controls").hidden = true;
}

function render() {
  if (!pair) return;
  setIcon($("play"), pair.isPlaying ? "pause" : "play", pair.isPlaying ? "Pause" : "Play");
  setIcon($("sound"), pair.isMuted ? "mute" : "sound", pair.isMuted ? "Unmute" : "Mute");
  const seek = $("seek");
  const words = `${clock(pair.position)} of ${clock(pair.duration)}`;
  if (seek.max !== String(pair.duration)) seek.max = String(pair.duration);
  if (wanted === null) seek.value = String(pair.position);
  if (seek.getAttribute("aria-valuetext") !== words) seek.setAttribute("aria-valuetext", words);
  setText($("time"), `${clock(pair.position)} / ${clock(pair.duration)}`);
  follow();
}

// While a position is dragged the next seek begins when the last one is done, or none would ever be.
function follow() {
  if (wanted === null || pair.after.seeking) return;
  const position = wanted;
  wanted = null;
  pair.seek(position);
}

const toggle = () => pair && (pair.isPlaying ? pair.pause() : pair.play());

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("player").requestFullscreen().catch(() => {});
}

$("play").addEventListener("click", toggle);
$("seek").addEventListener("input", (event) => {
  wanted = Number(event.target.value);
  if (pair) follow();
});
$("sound").addEventListener("click", () => {
  if (pair) pair.isMuted = !pair.isMuted;
});
$("full").addEventListener("click", toggleFullScreen);
$("full").hidden = !document.fullscreenEnabled;
// As in every player; where the focus is on the divider no button takes the key.
$("divider").addEventListener("keydown", (event) => {
  if (event.key !== " " || !pair) return;
  event.preventDefault();
  toggle();
});
