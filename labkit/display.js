// SPDX-License-Identifier: Apache-2.0
// A figure says what it is to those who do not see it: plotly gives neither its drawing nor its picture a name.
(() => {
  if (window.labkitNamesFigures) return;
  window.labkitNamesFigures = true;
  const name = () => {
    for (const picture of document.querySelectorAll("img.plot-img:not([alt])")) picture.alt = "The figure of this cell";
    for (const title of document.querySelectorAll(".js-plotly-plot .gtitle")) {
      const figure = title.closest(".js-plotly-plot");
      const words = `Figure: ${title.textContent}`;
      if (figure.getAttribute("aria-label") === words) continue;
      figure.setAttribute("role", "figure");
      figure.setAttribute("aria-label", words);
      for (const picture of figure.querySelectorAll("img.plot-img")) picture.alt = words;
    }
  };
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  name();
})();
