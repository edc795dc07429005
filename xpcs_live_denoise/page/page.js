"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  let texts = null, choice = null, last = "", rois = "";

  // Everything of a run is set as text, never as HTML.
  const element = (tag, text, kind) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const setText = (node, text) => {
    if (node.textContent !== text) node.textContent = text;
    node.hidden = !text;
  };
  const when = (seconds, more) => {
    const time = new Date(seconds * 1000), today = new Date().toDateString() === time.toDateString();
    const digits = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...more };
    const clock = time.toLocaleTimeString([], digits);
    return today ? clock : `${time.toLocaleDateString([], { month: "short", day: "numeric" })} ${clock}`;
  };

  function showRuns(runs, newest) {
    const list = $("runs"), focused = document.activeElement?.dataset?.uid;
    list.replaceChildren(...runs.map((run) => {
      const item = element("li"), link = element("a");
      link.href = `?run=${encodeURIComponent(run.uid)}`;
      link.dataset.uid = run.uid;
      if (run.current) link.setAttribute("aria-current", newest ? "true" : "page");
      link.title = [run.scan, run.sample, run.detector].filter(Boolean).join(", ");
      link.append(
        element("span", [run.scan, run.sample].filter(Boolean).join(" · "), "name"),
        element("span", `${when(run.time)}, ${run.frames} frames`, "facts"),
        run.silent
          ? element("span", "no news", "state silent")
          : element("span", run.state, `state ${run.state}`),
      );
      item.append(link);
      return item;
    }));
    if (focused) list.querySelector(`[data-uid="${CSS.escape(focused)}"]`)?.focus();
    $("no-runs").hidden = runs.length > 0;
  }

  function showRun(run, roi) {
    $("head").hidden = $("controls").hidden = !run;
    if (!run) return;
    document.title = `${run.title} – XPCS live`;
    setText($("title"), run.title);
    const state = $("state");
    state.textContent = run.state;
    const silent = run.silent_since ? when(run.silent_since, { second: "2-digit" }) : "";
    state.className = `state ${silent ? "silent" : run.state}`;
    setText($("silence"), silent && `no news since ${silent}`);
    const live = run.state === "live", known = live && run.n_expected;
    setText($("frames"), `${run.n_frames}${known ? ` / ${run.n_expected}` : ""} frames`);
    $("progress").hidden = !known;
    if (known) Object.assign($("progress"), { max: run.n_expected, value: run.n_frames });
    $("items").replaceChildren(...run.items.map(([name, value]) => {
      const pair = element("div");
      pair.append(element("dt", name), element("dd", value));
      return pair;
    }));
    setText($("message"), run.message);
    const options = JSON.stringify(run.rois);
    if (options !== rois) {
      rois = options;
      $("roi").replaceChildren(...run.rois.map((text, index) => {
        const option = element("option", text);
        option.value = index;
        return option;
      }));
      $("roi").value = String(roi);
    }
    $("loading").hidden = run.loaded;
    if (run.loaded) $("plots").classList.add("ready");
  }

  function update() {
    const text = texts.data.json?.[0];
    if (!text || text === last) return;
    last = text;
    const page = JSON.parse(text);
    if (!page.runs) return;
    showRuns(page.runs, page.newest);
    if (page.newest) $("newest").setAttribute("aria-current", "page");
    setText($("notice"), page.notice);
    setText($("error"), page.error.trim());
    if (page.error || !page.runs.length) $("loading").hidden = true;
    showRun(page.run, page.roi);
  }

  function choose() {
    const shown = document.querySelector("[name=shown]:checked").value;
    $("plots").classList.remove("both", "raw", "denoised", "model");
    $("plots").classList.add(shown);
    choice.data = { roi: [$("roi").options.length ? Number($("roi").value) : -1], shown: [shown] };
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !choice) return;
    if (event.target.closest?.("select, input, textarea")) return;
    const select = $("roi"), n = select.options.length;
    if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && n) {
      const step = event.key === "ArrowRight" ? 1 : n - 1;
      select.selectedIndex = (select.selectedIndex + step) % n;
    } else if (event.key === "d") {
      const radios = [...document.querySelectorAll("[name=shown]")];
      const next = radios[(radios.findIndex((radio) => radio.checked) + 1) % radios.length];
      next.checked = true;
    } else return;
    event.preventDefault();
    choose();
  }

  function connect() {
    const bokeh = window.Bokeh?.documents?.[0];
    texts = bokeh?.get_model_by_name("texts") ?? null;
    choice = bokeh?.get_model_by_name("choice") ?? null;
    if (!texts || !choice) return void setTimeout(connect, 30);
    texts.properties.data.change.connect(update);
    // On a touch screen a finger on a plot scrolls the page; the tools are one tap away.
    if (matchMedia("(pointer: coarse)").matches) {
      for (const model of bokeh._all_models.values()) {
        if (model.type === "BoxZoomTool") model.active = false;
      }
    }
    bokeh.on_event?.("connection_lost", () =>
      setText($("notice"), "No connection to this page's server. Reload the page when it is back."));
    $("controls").addEventListener("change", choose);
    $("controls").addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("keydown", onKey);
    if (matchMedia("(max-width: 700px)").matches) $("runs-box").open = false;
    update();
  }
  connect();
})();
