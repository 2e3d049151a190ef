// The form of what to make of the videos, as the API's `options` and `priority`.

import { $, el, setText } from "./dom.js";

// Constant quality: where a codec's numbers end, and what it takes when none is given.
const CRF = {
  auto: { max: 51, usual: 18 },
  h264: { max: 51, usual: 18 },
  h265: { max: 51, usual: 20 },
  av1: { max: 63, usual: 25 },
  vp9: { max: 63, usual: 27 },
};
const SCALES = [1.5, 2, 3, 4];
const HEIGHTS = [720, 1080, 1440, 2160];

const KINDS = { interpolation: "Only larger, not sharper", standin: "For tests of this server" };

let models = [];

/** Fills the form. `available` is the `data` of GET /v1/models. */
export function showModels(available) {
  models = available;
  const select = $("option-model");
  select.replaceChildren(
    ...models.map((model) =>
      el("option", { value: model.id, selected: model.is_default, text: model.id }),
    ),
  );
  if (!models.length) select.append(el("option", { value: "", text: "Default" }));
  refresh();
}

/** Calls back whenever something in the form changed. */
export function onOptions(changed) {
  $("options").addEventListener("input", () => {
    refresh();
    changed();
  });
}

/** `{options, priority}` as POST /v1/jobs takes them; what is left at its default is left out. */
export function readOptions() {
  const form = $("options").elements;
  const options = { codec: form.codec.value };
  if (form.model.value) options.model = form.model.value;
  const [kind, number] = form.size.value.split(":");
  if (kind === "scale") options.scale = Number(number);
  if (kind === "height") options.height = Number(number);
  if (form.crf.value !== "") options.crf = Number(form.crf.value);
  const part = form.part.value;
  if (part === "custom") {
    options.start_seconds = Number(form.start.value);
    options.duration_seconds = Number(form.duration.value);
  } else if (part !== "all") {
    options.duration_seconds = Number(part);
  }
  return { options, priority: form.priority.value };
}

/** Whether all fields hold what they may; tells the user where not. */
export function areOptionsValid() {
  const more = document.querySelector("#options details");
  if (!$("option-crf").checkValidity()) more.open = true;
  return $("options").reportValidity();
}

export function showOptions(isShown) {
  $("options").hidden = !isShown;
}

function refresh() {
  const form = $("options").elements;
  const model = models.find((candidate) => candidate.id === form.model.value);
  setText($("model-hint"), model ? modelHint(model) : "");
  showSizes(model);
  const isCustom = form.part.value === "custom";
  $("custom-part").hidden = !isCustom;
  // Fields that are not shown must not stop the form.
  form.start.disabled = form.duration.disabled = !isCustom;
  form.duration.required = form.start.required = isCustom;
  const { max, usual } = CRF[form.codec.value];
  form.crf.max = String(max);
  form.crf.step = ["av1", "vp9"].includes(form.codec.value) ? "1" : "any";
  form.crf.placeholder = `${usual}`;
  setText($("crf-hint"), `0 to ${max}; lower is better and larger`);
}

function showSizes(model) {
  const select = $("option-size");
  const chosen = select.value;
  const own = model ? `${model.scale}× (made for it)` : "As the model does";
  const scales = SCALES.filter((scale) => scale !== model?.scale);
  select.replaceChildren(
    el("option", { value: "", text: own }),
    el("optgroup", { label: "Factor" }, ...scales.map((scale) => el("option", { value: `scale:${scale}`, text: `${scale}×` }))),
    el("optgroup", { label: "Height" }, ...HEIGHTS.map((height) => el("option", { value: `height:${height}`, text: `${height}p` }))),
  );
  select.value = chosen;
  if (select.selectedIndex < 0) select.value = "";
}

function modelHint(model) {
  const parts = [KINDS[model.kind], model.licence, model.available ? null : "waits for a worker"];
  return parts.filter(Boolean).join(" · ");
}
