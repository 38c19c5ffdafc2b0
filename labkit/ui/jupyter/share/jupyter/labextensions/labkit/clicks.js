// SPDX-License-Identifier: Apache-2.0
/* Buttons in what a cell has shown: a click has that notebook's kernel answer one of a few fixed calls, and shows the
 * answer below, as an output of the same cell, which is saved with the notebook.
 *
 * No code comes from the page: what a button says is looked at, and only a name and a number become part of the call.
 * An output of a notebook that JupyterLab does not trust has lost its attributes, and so asks for nothing.
 */

const CALLS = ["check", "hint", "reset", "predict", "start", "stop", "rate"]; // labkit.clicks has the same
const NAME = /^[a-z][a-z0-9-]{0,59}$/;
const NUMBER = /^\d{1,2}$/;
const BUTTON = "button[data-labkit-call]";
const ANSWER = "labkit-answer";
const AGAIN = "Click into this cell, then Run ▸ Run All Above Selected Cell, run the cell itself, and click again.";

const STYLE = `
${BUTTON} { display: inline-block; font: inherit; line-height: 1.3; margin: 4px 6px 4px 0; padding: .25em .9em; cursor: pointer;
  color: var(--jp-content-font-color1); background: var(--jp-layout-color1);
  border: 1px solid var(--jp-border-color0); border-radius: 4px; }
${BUTTON}[data-labkit-call="check"] { color: #fff; background: #1565c0; border-color: #1565c0; font-weight: 600; }
${BUTTON}:hover { filter: brightness(1.1); }
${BUTTON}:focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: 2px; }
.labkit-options .labkit-letter { display: none; }
${BUTTON}[aria-disabled="true"] { opacity: .6; cursor: default; }
`;

/* The call that a button asks for; null where it asks for nothing that there is. */
function called({ labkitCall, labkitOf, labkitChoice = "" }) {
  const known = CALLS.includes(labkitCall) && NAME.test(labkitOf) && (labkitChoice === "" || NUMBER.test(labkitChoice));
  if (!known) return null;
  const words = `"${labkitCall}", "${labkitOf}", ${labkitChoice === "" ? -1 : Number(labkitChoice)}`;
  return `__import__("labkit.clicks", fromlist=["clicked"]).clicked(${words})`;
}

const escaped = (text) => text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);
const plainly = (text) => ({ html: `<div style="white-space:pre-line">${escaped(text)}</div>`, text });

/* What a message of the kernel adds to the answer; null for nothing. */
function part({ header, content }) {
  if (header.msg_type === "display_data") {
    const text = content.data["text/plain"] ?? "";
    const html = content.data["text/html"];
    return html === undefined ? plainly(text) : { html, text };
  }
  if (header.msg_type === "stream") return plainly(content.text);
  if (header.msg_type === "error") return plainly(`${content.ename}: ${content.evalue}`);
  return null;
}

/* Show the answer in place of the one before. */
function show(outputs, parts) {
  const data = {
    "text/html": `<div role="status">${parts.map(({ html }) => html).join("")}</div>`,
    "text/plain": parts.map(({ text }) => text).join("\n"),
  };
  const value = { output_type: "display_data", data, metadata: { [ANSWER]: true } };
  for (let index = 0; index < outputs.length; index++) {
    if (outputs.get(index).metadata?.[ANSWER]) return outputs.set(index, value);
  }
  outputs.add(value);
}

async function answer(tracker, button) {
  const panel = tracker.find(({ content }) => content.node.contains(button));
  const cell = panel?.content.widgets.find(({ node }) => node.contains(button));
  const outputs = cell?.model.outputs;
  const code = called(button.dataset);
  if (!outputs || code === null || button.getAttribute("aria-disabled") === "true") return;
  const kernel = panel.sessionContext.session?.kernel;
  if (!kernel) return show(outputs, [plainly(`No kernel runs here. ${AGAIN}`)]);
  const all = [...button.closest(".jp-OutputArea").querySelectorAll(BUTTON)];
  all.forEach((one) => one.setAttribute("aria-disabled", "true"));
  show(outputs, [plainly(kernel.status === "idle" ? "Looking …" : "Waiting until the cells that run have ended …")]);
  const parts = [];
  try {
    const asked = kernel.requestExecute({ code, store_history: false, allow_stdin: false, stop_on_error: false });
    asked.onIOPub = (message) => {
      const more = part(message);
      if (more) parts.push(more);
    };
    await asked.done;
  } catch {
    parts.push(plainly(`The kernel ended meanwhile. ${AGAIN}`));
  } finally {
    all.forEach((one) => one.removeAttribute("aria-disabled"));
  }
  if (!cell.isDisposed) show(outputs, parts.length ? parts : [plainly(`There was no answer. ${AGAIN}`)]);
}

/* The plugin, given JupyterLab's modules. */
export function plugin(lab) {
  return {
    id: "labkit:clicks",
    description: "Buttons of the workshop's exercises, questions and traffic.",
    autoStart: true,
    requires: [lab.notebook.INotebookTracker],
    activate: (app, tracker) => {
      const style = document.createElement("style");
      style.textContent = STYLE;
      document.head.append(style);
      const pressed = (event) => event.target instanceof Element && event.target.closest(BUTTON);
      document.addEventListener("click", (event) => {
        const button = pressed(event);
        if (button) answer(tracker, button);
      });
      // Else JupyterLab takes these keys for itself: Enter to edit the cell, the blank to scroll.
      const keep = (event) => {
        if (pressed(event) && [" ", "Enter"].includes(event.key)) event.stopPropagation();
      };
      window.addEventListener("keydown", keep, true);
    },
  };
}
