// SPDX-License-Identifier: Apache-2.0
(small) => {
  const panel = document.querySelector(".jp-NotebookPanel:not(.lm-mod-hidden)");
  const found = [];
  const shown = (one) => one.checkVisibility({opacityProperty: true, visibilityProperty: true})
    && one.getBoundingClientRect().width > 1;
  const cells = [...panel.querySelectorAll(".jp-Cell")];
  const where = (one) => {
    const cell = one.closest(".jp-Cell");
    return `cell ${cells.indexOf(cell)}`;
  };
  const say = (one, what) => found.push(`${where(one)}: ${what}`);
  const short = (text) => JSON.stringify(text.trim().replace(/\s+/g, " ").slice(0, 90));

  // Nothing is wider than its place, unless a part of it scrolls by itself. JupyterLab lets tables of pandas and of
  // Markdown scroll where the window is small.
  const outer = panel.querySelector(".jp-WindowedPanel-outer");
  if (outer.scrollWidth > outer.clientWidth + 1) found.push(`the notebook scrolls by ${outer.scrollWidth - outer.clientWidth} px`);
  for (const one of panel.querySelectorAll(".jp-OutputArea-output, .jp-RenderedMarkdown")) {
    if (one.scrollWidth <= one.clientWidth + 1 || !shown(one)) continue;
    if (small && one.querySelector(":scope > table, :scope > div > table, :scope table.dataframe")) continue;
    say(one, `${one.scrollWidth - one.clientWidth} px wider than its place: ${short(one.textContent)}`);
  }

  // Words against what is behind them, as WCAG 2 counts; large ones may be fainter.
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (css) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = "#000";
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, low) => [0, 1, 2].map((at) => top[at] * top[3] + low[at] * (1 - top[3]));
  const light = (parts) => {
    const [r, g, b] = parts.slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.backgroundImage !== "none") return null;
      const layer = rgba(style.backgroundColor);
      if (layer[3] > 0) layers.push(layer);
      if (layer[3] > 0.99) break;
    }
    return layers.reverse().reduce((low, top) => over(top, low), [255, 255, 255]);
  };
  const seen = new Set();
  const texts = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
  // The colours of code in an editor and in Markdown are JupyterLab's.
  const rendered = ".jp-RenderedMarkdown, .jp-OutputArea-output";
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    const text = texts.currentNode.textContent;
    if (!text.trim() || !one.closest(rendered) || one.closest("style, script, .modebar, .hoverlayer, .jp-RenderedMarkdown pre") || !shown(one)) continue;
    const style = getComputedStyle(one);
    const drawn = one.closest("svg");
    const ground = behind(drawn ?? one);
    let colour = rgba(drawn ? style.fill : style.color);
    let opacity = 1;
    for (let at = one; at !== panel; at = at.parentElement) opacity *= parseFloat(getComputedStyle(at).opacity);
    colour[3] *= opacity;
    // In a drawing what is behind a text is another shape: tests/ui/test_ui_readable.py and its own tests hold those.
    if (ground && !drawn) {
      const [low, high] = [light(over(colour, ground)), light(ground)].sort((a, b) => a - b);
      const contrast = (high + 0.05) / (low + 0.05);
      const size = parseFloat(style.fontSize);
      const needed = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700) ? 3 : 4.5;
      const key = `${where(one)} ${style.color} ${ground}`;
      if (contrast < needed - 0.05 && !one.closest("[aria-disabled='true'], :disabled") && !seen.has(key)) {
        seen.add(key);
        say(one, `contrast ${contrast.toFixed(1)} of ${short(text)} (${style.color} on ${ground.map(Math.round)})`);
      }
    }
    // Markup that is read as text; in code it is meant.
    if (!one.closest("code, pre, svg, .jp-RenderedText")) {
      const raw = text.match(/`|\*\*|<\/?(b|i|p|br|div|span|code|pre|em|strong|table|tr|td|ul|li|a)\b[^>]*>|\]\((https?:|#|[\w-]+\.)|&(amp|lt|gt|quot|nbsp);|\{\d\}|^#{1,6} /);
      if (raw) say(one, `${JSON.stringify(raw[0])} as text: ${short(text)}`);
    }
  }

  for (const one of panel.querySelectorAll("[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']"))
    say(one, `an error: ${short(one.textContent)}`);
  for (const one of panel.querySelectorAll("img"))
    if (shown(one) && !(one.complete && one.naturalWidth)) say(one, `a picture is broken: ${one.alt || one.src.slice(0, 80)}`);
  for (const one of panel.querySelectorAll(".jp-OutputArea-output"))
    if (/Loading widget|Error displaying widget|Javascript Error/.test(one.textContent)) say(one, short(one.textContent));
  for (const one of panel.querySelectorAll(".jp-mod-noRender, [data-mime-type='text/plain'] pre"))
    if (/^(Figure\(|<[\w.]+( object)? at 0x|\d+\.\d{9,}$)|\bdtype: \w+$/.test(one.textContent.trim())) say(one, `no reader wants this: ${short(one.textContent)}`);
  return found;
}
