// SPDX-License-Identifier: Apache-2.0
/* Cells that are typed in YAML or as shell lines (`%%yaml`, `%%sh`) are coloured, indented and completed as such;
 * PromQL (`%%promql`), which JupyterLab does not know, is not coloured as Python. */

const KINDS = [
  [/^%%yaml\b/, "text/x-yaml"],
  [/^%%sh\b/, "text/x-sh"],
  [/^%%promql\b/, "text/plain"],
];

/* Keep the editor of a cell's model to the kind that its first line names. */
function follow(model) {
  if (model.type !== "code") return;
  let python = model.mimeType;
  const look = () => {
    const known = KINDS.map(([, type]) => type);
    if (!known.includes(model.mimeType)) python = model.mimeType;
    const first = model.sharedModel.getSource().split("\n", 1)[0];
    const kind = KINDS.find(([sign]) => sign.test(first));
    const wanted = kind ? kind[1] : python;
    if (model.mimeType !== wanted) model.mimeType = wanted;
  };
  model.contentChanged.connect(look);
  // A notebook sets the kind of all its cells when its kernel has said what it speaks.
  model.mimeTypeChanged.connect(look);
  look();
}

/* The plugin, given JupyterLab's modules. */
export function plugin(lab) {
  return {
    id: "labkit:typed",
    description: "Cells of the workshop that are YAML or shell lines.",
    autoStart: true,
    requires: [lab.notebook.INotebookTracker],
    activate: (app, tracker) => {
      tracker.widgetAdded.connect(async (_, panel) => {
        await panel.context.ready;
        const cells = panel.content.model?.cells;
        if (!cells) return;
        [...cells].forEach(follow);
        cells.changed.connect((_list, { type, newValues }) => {
          if (type === "add" || type === "set") newValues.forEach(follow);
        });
      });
    },
  };
}
