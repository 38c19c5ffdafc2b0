// SPDX-License-Identifier: Apache-2.0
/* JupyterLab's part of the workshop: the notebook 00-start.ipynb is shown as a page of its own, which follows the
 * learner's progress, and the consoles and BookInfo get tiles with icons.
 *
 * It is written as it is loaded, with no build in between: JupyterLab asks a prebuilt extension for a container with
 * `init` and `get` (module federation), and `init` hands it the modules that JupyterLab itself runs on. Buttons in
 * outputs and cells of YAML are modules beside this file, loaded under the same sum.
 */
(() => {
  "use strict";

  const FILE = "00-start.ipynb";
  const FACTORY = "Start page";
  const KIND = "labkit-start";
  const CATEGORY = "Istio";
  const EVERY = 2000; // ms between two looks at the learner's progress
  const STATE_EVERY = 20000; // ms between two looks at the cluster, which take a process each

  const OWN = document.currentScript.src;
  const BESIDE = ["clicks.js", "typed.js"]; // modules beside this file, a plugin each

  let shared;

  /* A module that JupyterLab has loaded; where an extension has brought another version of it, the one in use. */
  async function load(name) {
    const versions = shared[name];
    if (!versions) throw new Error(`labkit: this JupyterLab has no ${name}`);
    const order = new Intl.Collator("en", { numeric: true }).compare;
    const known = Object.keys(versions).sort(order).reverse();
    const chosen = known.find((version) => versions[version].loaded) ?? known[0];
    return (await versions[chosen].get())();
  }

  const SHAPES = {
    start:
      '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="16"><path class="jp-icon3" fill="#616161" ' +
      'd="M11 2 3.5 16H11zm1.5 4v10h6zM3 18l2.5 3.5h13L21 18z"/></svg>',
  };

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
  }

  let words = {}; // English → what the reader speaks, as the server knows it; empty for English

  /* A text in the reader's language, with values for {0}, {1}. */
  function say(text, ...values) {
    return (words[text] ?? text).replace(/\{(\d+)\}/g, (part, number) => values[number] ?? part);
  }

  const code = (text) => element("code", {}, text);
  const key = (text) => element("kbd", {}, text);

  const STYLE = `
/* JupyterLab's own second colour is too pale on its second background. */
.labkit-start { --labkit-quiet: color-mix(in srgb, var(--jp-content-font-color1) 78%, var(--jp-layout-color1)); overflow: auto; background: var(--jp-layout-color1); color: var(--jp-content-font-color1);
  font-family: var(--jp-content-font-family); font-size: var(--jp-content-font-size1); line-height: 1.5; }
.labkit-start:focus { outline: none; }
.labkit-start > div { max-width: 54rem; margin: 0 auto; padding: 1.4rem 2rem 2rem; container-type: inline-size; }
.labkit-start h1 { font-size: 1.75em; font-weight: 600; line-height: 1.2; margin: 0 0 .3em; }
.labkit-start h2 { font-size: 1.15em; font-weight: 600; margin: 1.5em 0 .5em; }
.labkit-start p { margin: 0 0 .6em; }
.labkit-start .lead { color: var(--jp-content-font-color1); max-width: 46rem; }
.labkit-start .quiet { color: var(--labkit-quiet); }
.labkit-start .go { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem 1.2rem; margin: 1rem 0; }
.labkit-start .go a.next { display: inline-block; padding: .55em 1.1em; border-radius: 4px; font-weight: 600;
  background: var(--jp-brand-color0, #0d47a1); color: #fff; text-decoration: none; }
.jp-mod-dark .labkit-start .go a.next, [data-jp-theme-light="false"] .labkit-start .go a.next { background: #1565c0; }
.labkit-start .go a.next:hover { filter: brightness(1.12); }
.labkit-start a { color: var(--jp-content-link-color); }
.labkit-start a:focus-visible, .labkit-start select:focus-visible { outline: 2px solid var(--jp-brand-color1);
  outline-offset: 2px; }
.labkit-start .on { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; align-items: center; padding: .6rem .9rem;
  border: 1px solid var(--jp-border-color2); border-radius: 4px; background: var(--jp-layout-color2); }
.labkit-start .on label { display: inline-flex; gap: .5em; align-items: center; }
.labkit-start select { font: inherit; color: inherit; padding: .15em .4em; max-width: 20em;
  background: var(--jp-layout-color1); border: 1px solid var(--jp-border-color1); border-radius: 3px; }
.labkit-start .said { flex-basis: 100%; margin: 0; }
.labkit-start .said.bad { color: var(--jp-error-color1); white-space: pre-line; }
.labkit-start ol { list-style: none; margin: 0; padding: 0; }
.labkit-start li { display: grid; grid-template-columns: 1.7rem 1fr auto; gap: .1rem .5rem; align-items: baseline;
  padding: .42rem .5rem; border-top: 1px solid var(--jp-border-color2); }
.labkit-start li:last-child { border-bottom: 1px solid var(--jp-border-color2); }
.labkit-start li.next { background: var(--jp-layout-color2); box-shadow: inset 3px 0 0 var(--jp-brand-color1); }
.labkit-start .tick { font-weight: 700; text-align: center; color: var(--labkit-quiet); }
.labkit-start li.done .tick { color: var(--jp-success-color0, #2e7d32); }
.jp-mod-dark .labkit-start li.done .tick, [data-jp-theme-light="false"] .labkit-start li.done .tick {
  color: var(--jp-success-color1, #66bb6a); }
.labkit-start li .name { color: var(--labkit-quiet); font-size: .92em; }
.labkit-start li .when { color: var(--labkit-quiet); text-align: right; white-space: nowrap; }
.labkit-start dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0; }
.labkit-start dd { margin: 0; }
.labkit-start dt { white-space: nowrap; }
.labkit-start kbd { font-family: var(--jp-code-font-family); font-size: .9em; padding: .1em .4em; border-radius: 3px;
  border: 1px solid var(--jp-border-color1); border-bottom-width: 2px; background: var(--jp-layout-color2); }
.labkit-start code { font-family: var(--jp-code-font-family); font-size: .92em; background: var(--jp-layout-color2); }
@container (max-width: 30rem) { .labkit-start dl { grid-template-columns: 1fr; } }
`;

  function plugin(lab) {
    const { Widget } = lab.widgets;
    const { URLExt, PathExt } = lab.coreutils;
    const { ServerConnection } = lab.services;
    const { LabIcon } = lab.components;
    const { ABCWidgetFactory } = lab.docregistry;
    const { MainAreaWidget, WidgetTracker } = lab.apputils;
    const icon = new LabIcon({ name: "labkit:start", svgstr: SHAPES.start });

    /* The page. It asks Jupyter's server, and only while somebody can see it. */
    class Page extends Widget {
      constructor(app, path) {
        super();
        this.addClass("labkit-start");
        this.app = app;
        this.folder = PathExt.dirname(path);
        this.facts = null;
        this.state = { state: "", good: false, contexts: [] };
        this.said = { text: "", bad: false };
        this.drawn = "";
        this.node.tabIndex = 0;
        this.node.setAttribute("role", "region");
        this.node.setAttribute("aria-label", say("Start page of the workshop"));
        this.main = element("div");
        this.node.append(this.main);
        this.draw();
      }

      onAfterShow() {
        this.follow();
      }

      onAfterAttach() {
        this.seen = () => this.follow();
        document.addEventListener("visibilitychange", this.seen);
        this.follow();
      }

      onBeforeDetach() {
        document.removeEventListener("visibilitychange", this.seen);
        clearTimeout(this.timer);
      }

      /* Look now, and again as long as the page is seen. */
      async follow() {
        clearTimeout(this.timer);
        if (!this.isVisible || document.hidden || this.isDisposed) return;
        await this.look();
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.follow(), EVERY);
      }

      async look() {
        try {
          if (!this.spoken) [words, this.spoken] = [(await this.ask("?words=1")).words, true];
          this.facts = await this.ask();
          if (this.lost) [this.lost, this.said] = [false, { text: "", bad: false }];
        } catch (error) {
          this.lost = true;
          this.said = { text: error.message, bad: true };
        }
        this.draw();
        if (Date.now() - (this.looked ?? 0) < STATE_EVERY) return;
        this.looked = Date.now();
        this.ask("?state=1").then(
          (state) => {
            this.state = state;
            this.draw();
          },
          () => {},
        );
      }

      async ask(query = "", body = null) {
        const settings = this.app.serviceManager.serverSettings;
        const init = body === null ? {} : { method: "POST", body: JSON.stringify(body) };
        const url = URLExt.join(settings.baseUrl, "labkit/start") + query;
        let answer;
        try {
          answer = await ServerConnection.makeRequest(url, init, settings);
        } catch {
          throw new Error(say("Jupyter's server does not answer: does `labkit lab` still run?"));
        }
        const said = await answer.json().catch(() => ({}));
        if (answer.ok) return said;
        if (answer.status === 404) throw new Error(say("Jupyter's server knows nothing of the workshop: start it with `labkit lab`."));
        throw new Error([said.message ?? say("The server answered {0}.", answer.status), said.next_step].filter(Boolean).join("\n→ "));
      }

      async choose(what) {
        try {
          this.facts = await this.ask("", what);
          this.said = { text: say("The next lesson that begins runs on it; one that has begun goes on as it is."), bad: false };
        } catch (error) {
          this.said = { text: error.message, bad: true };
        }
        this.looked = 0;
        this.drawn = "";
        this.draw();
        await this.follow();
      }

      open(name, factory) {
        const path = PathExt.join(this.folder, `${name}.ipynb`);
        return this.app.commands.execute("docmanager:open", factory ? { path, factory } : { path });
      }

      link(name, text, attributes = {}, factory = "") {
        const path = URLExt.encodeParts(PathExt.join(this.folder, `${name}.ipynb`));
        const href = URLExt.join(this.app.serviceManager.serverSettings.baseUrl, "lab/tree", path);
        const onclick = (event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          this.open(name, factory);
        };
        return element("a", { href, onclick, ...attributes }, text);
      }

      draw() {
        const now = JSON.stringify([this.facts, this.state, this.said]);
        // What is drawn anew loses the reader's place in it.
        if (now === this.drawn || this.isDisposed) return;
        this.drawn = now;
        const focus = this.main.contains(document.activeElement) ? document.activeElement.dataset.name : null;
        this.main.replaceChildren(
          element("h1", {}, say("Learn Istio, by playing it")),
          element(
            "p",
            { class: "lead" },
            say(
              "From an empty Kubernetes to a real application in a service mesh: its ingress, its metrics, dashboards, traces and " +
                "graph, and cleanly back. Each lesson is a notebook: read it, and run its cells one after the other with ",
            ),
            key("Shift"),
            " + ",
            key("Enter"),
            say("."),
          ),
          this.next(),
          this.runsOn(),
          ...this.map(),
          ...this.howTo(),
        );
        if (focus) this.main.querySelector(`[data-name="${focus}"]`)?.focus();
      }

      next() {
        if (!this.facts)
          return element(
            "p",
            { class: "quiet", role: "status" },
            this.said.text || say("Looking how far you are …"),
            " ",
            this.lost ? this.link("00-start", say("The map of the course, as a notebook"), {}, "Notebook") : "",
          );
        const { lessons, next } = this.facts;
        const done = lessons.filter((lesson) => lesson.done).length;
        const lesson = lessons.find((one) => one.name === next);
        const begun = lessons.some((one) => one.done || one.passed);
        const words = begun ? say("Continue where you were") : say("Begin");
        const left = lessons.filter((one) => !one.done).reduce((sum, one) => sum + one.minutes, 0);
        return element(
          "div",
          { class: "go" },
          lesson ? this.link(lesson.name, `${words}: ${lesson.title}`, { class: "next", "data-name": "next" }) : "",
          element(
            "span",
            { class: "quiet", role: "status" },
            lesson
              ? say("{0} of {1} lessons done, about {2} minutes to go", done, lessons.length, left)
              : say("You have played the last lesson."),
          ),
        );
      }

      runsOn() {
        if (!this.facts) return "";
        const { release, releases, target } = this.facts;
        const targets = [...new Set(["sandbox", target, ...(this.state.contexts ?? [])])];
        const choice = (label, name, value, values, words) =>
          element(
            "label",
            {},
            label,
            element(
              "select",
              { "data-name": name, onchange: (event) => this.choose({ [name]: event.target.value }) },
              ...values.map((one) => element("option", { value: one, selected: one === value }, words(one))),
            ),
          );
        const said = this.said.text || this.facts.note;
        return element(
          "section",
          { class: "on", "aria-label": say("What the course runs on") },
          choice("Istio", "release", release, releases, (one) => (one === "1.2.2" ? say("1.2.2, of 2019") : say("{0}, today’s", one))),
          choice(say("on"), "target", target, targets, (one) =>
            one === "sandbox" ? say("the sandbox of this machine") : say("your cluster: {0}", one),
          ),
          element("span", { class: "quiet", role: "status" }, this.state.state),
          said ? element("p", { class: this.said.bad || this.facts.note ? "said bad" : "said quiet", role: "status" }, said) : "",
        );
      }

      map() {
        if (!this.facts) return [];
        const row = (lesson) => {
          const passed = lesson.passed === 1 ? say("1 check passed") : say("{0} checks passed", lesson.passed);
          const when = lesson.done ? say("done {0}", new Date(lesson.done).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })) : "";
          return element(
            "li",
            {
              class: [lesson.done && "done", lesson.name === this.facts.next && "next"].filter(Boolean).join(" "),
              "data-lesson": lesson.name,
            },
            element("span", { class: "tick", role: "img", "aria-label": lesson.done ? say("done") : say("not done yet") }, lesson.done ? "✔" : "○"),
            element(
              "span",
              {},
              this.link(lesson.name, lesson.title, { "data-name": lesson.name }),
              " ",
              element("span", { class: "name" }, lesson.name),
              lesson.exercises ? element("span", { class: "name solved" }, say(" · {0} of {1} exercises solved", lesson.solved, lesson.exercises)) : "",
            ),
            element("span", { class: "when" }, when || (lesson.passed ? passed : lesson.minutes ? say("{0} min", lesson.minutes) : "")),
          );
        };
        return [element("h2", {}, say("The course")), element("ol", {}, ...this.facts.lessons.map(row))];
      }

      howTo() {
        const rows = [
          [[key("Shift"), " + ", key("Enter")], [say("runs the cell you are in and goes to the next. Begin at the top; "), code("[*]"), say(" beside a cell means that it still runs.")]],
          [[say("A cell says ✘ or an error")], [say("It says what was seen and what to do next. Nothing breaks for good: every cell can be run again.")]],
          [[say("After a kernel’s restart")], [element("b", {}, say("Run ▸ Run All Above Selected Cell")), say(" brings back what the lesson had.")]],
          [[say("In a terminal")], [code("kubectl"), say(" speaks to the sandbox that was started with JupyterLab. Try "), code("kubectl get pods -A"), say(".")]],
        ];
        if (this.facts?.copy)
          rows.push([[say("These notebooks")], [say("are your copy: change what you like. "), code("labkit lab --fresh"), say(" starts anew and keeps yours aside.")]]);
        return [
          element("h2", {}, say("How to play")),
          element("dl", {}, ...rows.flatMap(([what, how]) => [element("dt", {}, ...what), element("dd", {}, ...how)])),
        ];
      }
    }

    /* JupyterLab's own class for documents renames the file when the title of its tab changes, and a title is what we set. */
    class Document extends MainAreaWidget {
      setFragment() {}
    }

    class Factory extends ABCWidgetFactory {
      constructor(app, options) {
        super(options);
        this.app = app;
      }

      createNewWidget(context) {
        const content = new Page(this.app, context.path);
        const made = new Document({ content, reveal: context.ready });
        made.context = context;
        made.toolbar.hide();
        made.title.icon = icon;
        made.title.label = "Start";
        return made;
      }
    }

    function activate(app, restorer, launcher, palette) {
      document.head.append(element("style", { "data-labkit": true }, STYLE));
      const tracker = new WidgetTracker({ namespace: KIND });
      app.docRegistry.addFileType({
        name: KIND,
        displayName: "Start page of the workshop",
        pattern: "^00-start\\.ipynb$",
        extensions: [],
        mimeTypes: [],
        contentType: "file",
        fileFormat: "text",
        icon,
      });
      const factory = new Factory(app, {
        name: FACTORY,
        label: FACTORY,
        modelName: "text",
        fileTypes: [KIND],
        defaultFor: [KIND],
        readOnly: true,
        canStartKernel: false,
      });
      factory.widgetCreated.connect((_, made) => tracker.add(made));
      app.docRegistry.addWidgetFactory(factory);
      restorer?.restore(tracker, {
        command: "docmanager:open",
        args: (made) => ({ path: made.context.path, factory: FACTORY }),
        name: (made) => made.context.path,
      });
      const open = "labkit:start";
      const settings = app.serviceManager.serverSettings;
      app.commands.addCommand(open, {
        label: "Start page of the workshop",
        caption: "The map of the course, and where to go on",
        icon,
        execute: async () => {
          const answer = await ServerConnection.makeRequest(URLExt.join(settings.baseUrl, "labkit/start"), {}, settings);
          const path = (answer.ok && (await answer.json()).start) || FILE;
          return app.commands.execute("docmanager:open", { path });
        },
      });
      palette?.addItem({ command: open, category: CATEGORY });
      launcher?.add({ command: open, category: CATEGORY, rank: 0 });
      tiles(app, launcher).catch((error) => console.warn("labkit: the consoles have no tiles:", error));
    }

    /* A tile for each page that jupyter-server-proxy leads to, with its own icon in it. */
    async function tiles(app, launcher) {
      if (!launcher) return;
      const settings = app.serviceManager.serverSettings;
      const get = (path) => ServerConnection.makeRequest(URLExt.join(settings.baseUrl, path), {}, settings);
      const answer = await get("server-proxy/servers-info");
      if (!answer.ok) throw new Error(`jupyter-server-proxy answered ${answer.status}`);
      const ours = (await answer.json()).server_processes.filter((one) => one.launcher_entry.category === CATEGORY);
      const drawn = await get("labkit/start?icons=1").then((said) => (said.ok ? said.json() : {}));
      const known = new Map(
        ours.map(({ name }) => [name, drawn[name] ? new LabIcon({ name: `labkit:${name}`, svgstr: drawn[name] }) : icon]),
      );
      const open = "labkit:open-page";
      app.commands.addCommand(open, {
        label: (page) => `${page.title} [↗]`,
        caption: (page) => `${page.title}, in a tab of its own`,
        icon: (page) => known.get(page.name),
        execute: (page) => {
          window.open(page.url, "_blank");
        },
      });
      ours.forEach(({ name, launcher_entry }, index) => {
        const url = URLExt.join(settings.baseUrl, launcher_entry.path_info);
        const args = { name, title: launcher_entry.title, url };
        launcher.add({ command: open, args, category: CATEGORY, rank: index + 1 });
      });
    }

    return [
      {
        id: "labkit:start",
        description: "The start page of the Istio workshop.",
        autoStart: true,
        optional: [lab.application.ILayoutRestorer, lab.launcher.ILauncher, lab.apputils.ICommandPalette],
        activate,
      },
    ];
  }

  async function start() {
    const names = {
      application: "@jupyterlab/application",
      apputils: "@jupyterlab/apputils",
      components: "@jupyterlab/ui-components",
      coreutils: "@jupyterlab/coreutils",
      docregistry: "@jupyterlab/docregistry",
      launcher: "@jupyterlab/launcher",
      notebook: "@jupyterlab/notebook",
      services: "@jupyterlab/services",
      widgets: "@lumino/widgets",
    };
    const loaded = await Promise.all(Object.entries(names).map(async ([own, name]) => [own, await load(name)]));
    const lab = Object.fromEntries(loaded);
    const plugins = plugin(lab);
    for (const name of BESIDE) {
      const url = Object.assign(new URL(name, OWN), { search: new URL(OWN).search });
      // What keeps one away is no reason to go without the start page.
      await import(url).then(
        (beside) => plugins.push(beside.plugin(lab)),
        (error) => console.warn(`labkit: ${name} is not there:`, error),
      );
    }
    return () => ({ __esModule: true, default: plugins });
  }

  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB.labkit = {
    init: (scope) => {
      shared = scope;
    },
    get: () => start(),
  };
})();
