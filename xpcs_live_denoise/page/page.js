"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  let bokeh = null, texts = null, list = null, choice = null;
  let lastText = "", lastList = "", rois = "", shownRun = "", run = null, runs = [], current = "";

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
  const isToday = (time) => new Date().toDateString() === time.toDateString();
  const day = (seconds) => {
    const time = new Date(seconds * 1000);
    if (!seconds) return "Time not known";
    if (isToday(time)) return "Today";
    const year = time.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
    return time.toLocaleDateString([], { weekday: "short", month: "short", day: "numeric", ...year });
  };
  const clock = (seconds, more) => new Date(seconds * 1000).toLocaleTimeString(
    [], { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...more });
  const when = (seconds, more) =>
    `${isToday(new Date(seconds * 1000)) ? "" : `${day(seconds)} `}${clock(seconds, more)}`;
  const badge = (line) => line.silent
    ? element("span", "no news", "state silent")
    : element("span", line.state, `state ${line.state}`);

  // --- the list of runs ---------------------------------------------------------------------

  const lines = new Map();  // uid -> its line, and what it was made of

  function makeLine(line) {
    const item = element("li"), link = element("a");
    link.href = `?run=${encodeURIComponent(line.uid)}`;
    link.dataset.uid = line.uid;
    link.title = [`uid ${line.raw || line.uid}`, line.plan, line.detector,
      line.taken && `taken ${when(line.taken)}`, `analysed ${when(line.time)}`].filter(Boolean).join("\n");
    const scan = line.scan ? `${line.scan} · ` : "", marks = element("span", undefined, "marks");
    if (line.replay) marks.append(element("span", "replay", "state replay"));
    marks.append(badge(line));
    link.append(
      element("span", `${scan}${line.sample || line.short}`, "name"),
      element("span", `${clock(line.time)}, ${line.frames}`, "facts when"),
      element("span", [line.short, line.detector].filter(Boolean).join(" · "), "facts"), marks);
    item.append(link);
    const words = [line.scan, line.sample, line.uid, line.raw, line.plan, line.detector, line.state,
      line.replay ? "replay" : "", line.silent ? "no news" : "", day(line.time)];
    return { item, link, words: words.join("\n").toLowerCase() };
  }

  function showRuns(page) {
    const focused = document.activeElement?.dataset?.uid, wanted = [];
    let lastDay = "";
    runs = page.runs, current = page.current;
    const known = new Set(runs.map((line) => line.uid));
    for (const uid of lines.keys()) if (!known.has(uid)) lines.delete(uid);
    for (const line of runs) {
      const made = JSON.stringify(line);
      if (lines.get(line.uid)?.made !== made) lines.set(line.uid, { made, ...makeLine(line) });
      const { item, link } = lines.get(line.uid);
      if (line.uid === current) link.setAttribute("aria-current", page.newest ? "true" : "page");
      else link.removeAttribute("aria-current");
      if (day(line.time) !== lastDay) wanted.push(element("li", lastDay = day(line.time), "day"));
      wanted.push(item);
    }
    if (page.runs.length >= page.most) {
      wanted.push(element("li", `The newest ${page.most}. For an older run type its scan id or uid, and Enter.`, "more"));
    }
    $("runs").replaceChildren(...wanted);
    if (focused) lines.get(focused)?.link.focus();
    if (page.newest) $("newest").setAttribute("aria-current", "page");
    $("no-runs").hidden = runs.length > 0;
    filter();
  }

  const matches = () => runs.filter((line) => !lines.get(line.uid).item.hidden);

  function filter() {
    const wanted = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    sessionStorage.setItem("filter", $("filter").value);
    let heading = null, n = 0;
    for (const item of $("runs").children) {
      if (item.className === "day") {
        if (heading) heading.hidden = true;  // nothing of that day
        heading = item;
        continue;
      }
      const uid = item.firstChild?.dataset?.uid;
      if (!uid) continue;
      const words = lines.get(uid).words;
      item.hidden = !wanted.every((word) => words.includes(word));
      if (item.hidden) continue;
      n += 1;
      if (heading) heading.hidden = false;
      heading = null;
    }
    if (heading) heading.hidden = true;
    const none = "None of them. Enter looks for this scan id or uid.";
    setText($("found"), !wanted.length ? "" : n ? `${n} of ${runs.length} runs` : none);
  }

  function onFilterKey(event) {
    if (event.key === "Escape") {
      $("filter").value = "";
      filter();
      $("filter").blur();
    } else if (event.key === "Enter" && $("filter").value.trim()) {
      const first = matches()[0];
      location.search = `?run=${encodeURIComponent(first ? first.uid : $("filter").value.trim())}`;
    } else if (event.key === "ArrowDown") {
      lines.get(matches()[0]?.uid)?.link.focus();
    } else return;
    event.preventDefault();
  }

  function onListKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], shown = matches();
    const at = shown.findIndex((line) => line.uid === event.target.dataset?.uid);
    if (!step || at < 0) return;
    (at + step < 0 ? $("filter") : lines.get(shown[at + step]?.uid)?.link)?.focus();
    event.preventDefault();
  }

  // --- the run ------------------------------------------------------------------------------

  function showFacts() {
    const items = [["uid", run.raw_uid || run.uid], ...run.items];
    if (run.time) items.push([run.taken ? "analysed" : "begun", [when(run.time), run.by].filter(Boolean).join(", ")]);
    if (run.taken) items.push(["taken", when(run.taken)]);
    const pairs = items.map(([name, value]) => {
      const pair = element("div");
      pair.append(element("dt", name), element("dd", value));
      return pair;
    });
    const code = element("div", undefined, "code"), copy = element("button", "copy");
    copy.type = "button";
    copy.title = "Copy this line of Python";
    copy.addEventListener("click", () => copyText(run.code, copy));
    code.append(element("code", run.code), copy);
    $("items").replaceChildren(code, ...pairs);
  }

  async function copyText(text, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // not over plain http from another machine
      const area = element("textarea", text);
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }

  function showOthers(others) {
    const parts = others.map((line) => {
      const link = element(line.uid === run.uid ? "strong" : "a");
      if (line.uid !== run.uid) link.href = `?run=${encodeURIComponent(line.uid)}`;
      link.append(run.result_names[line.uid] ?? [line.by || "first", when(line.time)].join(" "),
        line.detector ? ` (${line.detector}) ` : " ", badge(line));
      link.title = `uid ${line.uid}\nanalysed ${when(line.time)}`;
      return link;
    });
    $("others").replaceChildren(`${others.length} results of this run:`, ...parts);
    $("others").hidden = others.length < 2;
  }

  function showRois(roi) {
    const options = JSON.stringify([run.uid, run.rois, run.colours]);
    if (options !== rois) {
      rois = options;
      $("roi").replaceChildren(...run.rois.map((text, index) => {
        const option = element("option", text);
        option.value = index;
        return option;
      }));
      $("strip").replaceChildren(...run.rois.map((text, index) => {
        const part = element("span");
        part.style.background = run.colours[index];
        part.title = text;
        part.addEventListener("click", () => chooseRoi(index));
        return part;
      }));
      $("roi").value = String(roi);
    }
    markRoi();
  }

  function markRoi() {
    const at = $("roi").selectedIndex;
    [...$("strip").children].forEach((part, index) => part.classList.toggle("chosen", index === at));
    if (run?.colours[at]) $("plots").style.setProperty("--roi", run.colours[at]);
  }

  function showRun(page) {
    run = page.run ?? null;
    $("head").hidden = $("controls").hidden = !run;
    if (page.error) $("plots").hidden = $("legend").hidden = !run;
    if (!run) return;
    if (shownRun && shownRun !== run.uid) resetZoom(true);
    shownRun = run.uid;
    document.title = `${run.title} – XPCS live`;
    setText($("title"), run.title);
    $("title").title = `uid ${run.raw_uid || run.uid}`;
    const silent = run.silent_since ? when(run.silent_since, { second: "2-digit" }) : "";
    $("state").textContent = run.state;
    $("state").className = `state ${silent ? "silent" : run.state}`;
    $("replay").hidden = !run.replay;
    setText($("silence"), silent && `no news since ${silent}`);
    const known = run.state === "live" && run.n_expected;
    setText($("frames"), run.frames);
    $("progress").hidden = !known;
    if (known) Object.assign($("progress"), { max: run.n_expected, value: run.n_frames });
    showFacts();
    showOthers(run.others);
    $("export").hidden = !run.exportable;
    for (const link of $("export").querySelectorAll("a")) {
      link.href = `export?run=${encodeURIComponent(run.uid)}&format=${link.dataset.format}`;
    }
    setText($("message"), run.message);
    $("message").className = run.state === "failed" ? "failed" : "";
    $("plots").hidden = $("legend").hidden = run.empty;
    if (run.empty) $("controls").hidden = true;
    showRois(page.roi);
    $("provisional").hidden = !run.provisional;
    $("loading").hidden = run.loaded;
    if (run.loaded) $("plots").classList.add("ready");
  }

  function update() {
    const text = texts.data.json?.[0], listed = list.data.json?.[0];
    if (listed && listed !== lastList) {
      lastList = listed;
      const page = JSON.parse(listed);
      if (page.runs) showRuns(page);
    }
    if (!text || text === lastText) return;
    lastText = text;
    const page = JSON.parse(text);
    if (page.roi === undefined) return;
    setText($("notice"), page.notice);
    setText($("error"), page.error.trim());
    if (page.error || page.none) $("loading").hidden = true;
    showRun(page);
  }

  // --- what the reader chooses --------------------------------------------------------------

  function resetZoom(ofRun) {
    // The detector and Gamma(q) show all ROIs: another ROI leaves them as they are.
    const names = ["c2_raw", "c2_denoised", "g2", "heterogeneity", "gamma"];
    for (const name of ofRun ? [...names, "detector", "power_law"] : names) {
      const plot = bokeh.get_model_by_name(name);
      for (const range of [plot.x_range, plot.y_range]) range.reset();
    }
    hideTip();
  }

  function choose(event) {
    const shown = document.querySelector("[name=shown]:checked").value;
    $("plots").classList.remove("both", "raw", "denoised", "model");
    $("plots").classList.add(shown);
    const roi = $("roi").options.length ? $("roi").selectedIndex : -1;
    if (event?.target?.name !== "shown" && roi !== choice.data.roi[0]) resetZoom(false);
    choice.data = { roi: [roi], shown: [shown] };
    markRoi();
  }

  function chooseRoi(index) {
    if (index < 0 || index >= $("roi").options.length) return;
    $("roi").selectedIndex = index;
    choose();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !choice) return;
    if (event.target.closest?.("select, input:not([type=radio]), textarea")) return;
    const select = $("roi"), n = select.options.length;
    if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && n) {
      const step = event.key === "ArrowRight" ? 1 : n - 1;
      chooseRoi((select.selectedIndex + step) % n);
    } else if (event.key === "d") {
      const radios = [...document.querySelectorAll("[name=shown]")];
      const next = radios[(radios.findIndex((radio) => radio.checked) + 1) % radios.length];
      next.checked = true;
      choose({ target: next });
    } else if (event.key === "/") {
      $("runs-box").open = true;
      $("filter").focus();
      $("filter").select();
    } else return;
    event.preventDefault();
  }

  // --- what the pointer is at ---------------------------------------------------------------

  const REACH = 24;  // px
  const digits = (value, n = 4) => Number.isFinite(value) ? String(Number(value.toPrecision(n))) : "–";
  const plusMinus = (value, error) =>
    Number.isFinite(error) && error > 0 ? `${digits(value)} ± ${digits(error, 2)}` : digits(value);
  const unit = () => run?.time_unit ?? "s";
  const time = (value) => `${digits(value)} ${unit() === "s" ? "s" : `${unit()}s`}`;
  const rate = (value, error) => `Γ ${plusMinus(value, error)} 1/${unit()}`;
  const TOLD = {
    gamma: (at) => [rate(at("y"), at("error")), `age ${time(at("x"))}`,
      `${at("source")}, ${at("width") === 1 ? "1 frame" : `${at("width")} frames`}, ${at("stage")}`, at("reason")],
    g2: (at) => [`g₂ ${plusMinus(at("y"), at("upper") - at("y"))}`, `delay ${time(at("x"))}`],
    heterogeneity: (at) => [`χ ${plusMinus(at("y"), at("upper") - at("y"))}`, `delay ${time(at("x"))}`],
    power_law: (at) => [`ROI ${at("roi")}`, rate(at("y"), at("error")),
      `q ${digits(Math.sqrt(at("x")))} Å⁻¹`, `from ${at("n")} ages`],
  };

  function hideTip() {
    $("tip").hidden = $("ring").hidden = true;
  }

  // Where along an axis a value lies, px from its start.
  function place(range, value, log, size) {
    const f = log ? Math.log : (v) => v;
    return (f(value) - f(range.start)) / (f(range.end) - f(range.start)) * size;
  }

  function nearest(plot, event) {
    const [logX, logY] = [plot.x_scale, plot.y_scale].map((scale) => scale.type === "LogScale");
    const x = (value) => place(plot.x_range, value, logX, plot.inner_width);
    const y = (value) => place(plot.y_range, value, logY, plot.inner_height);
    const x0 = x(event.x), y0 = y(event.y);
    let found = null, best = REACH;
    for (const drawn of plot.renderers) {
      if (drawn.name !== `${plot.name}_points` || !drawn.visible) continue;
      const data = drawn.data_source.data;
      for (let i = 0; i < data.x.length; i += 1) {
        const dx = x(data.x[i]) - x0, dy = y(data.y[i]) - y0, distance = Math.hypot(dx, dy);
        // Of points in one place the one on top: later kinds lie over earlier ones.
        if (distance <= best) [best, found] = [distance, { dx, dy, at: (name) => data[name][i] }];
      }
    }
    return found;
  }

  function tell(event) {
    const plot = bokeh.get_model_by_name(event.plot);
    const found = event.kind === "mouseleave" ? null : nearest(plot, event);
    if (!found) return hideTip();
    if (event.kind === "tap" && event.plot === "power_law") {
      chooseRoi(run?.labels.indexOf(found.at("roi")) ?? -1);
    }
    const box = Bokeh.index.find_one(plot).el.getBoundingClientRect();
    const left = box.left + event.sx + found.dx, top = box.top + event.sy - found.dy;
    const [head, ...rest] = TOLD[event.plot](found.at).filter(Boolean);
    $("tip").replaceChildren(element("strong", head), ...rest.map((line) => element("span", line)));
    $("tip").hidden = $("ring").hidden = false;
    const { offsetWidth: width, offsetHeight: height } = $("tip");
    const right = left + 14 + width > innerWidth - 8;
    $("tip").style.left = `${Math.max(8, right ? left - 14 - width : left + 14)}px`;
    $("tip").style.top = `${Math.max(8, Math.min(top - height / 2, innerHeight - height - 8))}px`;
    Object.assign($("ring").style, { left: `${left}px`, top: `${top}px` });
  }

  // The ROI at a place of the detector; the nearest one where a ring is thinner than a finger.
  function roiAt(event) {
    const plot = bokeh.get_model_by_name("detector"), { index, dw, dh } = bokeh.get_model_by_name("rois").data;
    if (!index?.length) return -1;
    const [rows, cols] = index[0].shape;
    const reach = Math.ceil(8 * Math.abs(plot.x_range.end - plot.x_range.start) / plot.inner_width / dw[0] * cols);
    const row = Math.floor(event.y / dh[0] * rows), col = Math.floor(event.x / dw[0] * cols);
    let best = Infinity, found = 0;
    for (let r = Math.max(0, row - reach); r <= Math.min(rows - 1, row + reach); r += 1) {
      for (let c = Math.max(0, col - reach); c <= Math.min(cols - 1, col + reach); c += 1) {
        const distance = Math.hypot(r - row, c - col), roi = index[0][r * cols + c];
        if (roi && distance <= reach && distance < best) [best, found] = [distance, roi];
      }
    }
    return found - 1;
  }

  function onPointed({ detail }) {
    if (detail.plot === "detector") chooseRoi(roiAt(detail));
    else tell(detail);
  }

  function connect() {
    bokeh = window.Bokeh?.documents?.[0];
    [texts, list, choice] = ["texts", "runs", "choice"].map((name) => bokeh?.get_model_by_name(name) ?? null);
    if (!texts || !list || !choice) return void setTimeout(connect, 30);
    for (const source of [texts, list]) source.properties.data.change.connect(update);
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
    $("filter").value = sessionStorage.getItem("filter") ?? "";
    $("filter").addEventListener("input", () => {
      filter();
      $("runs-box").scrollTop = 0;
    });
    $("filter").addEventListener("keydown", onFilterKey);
    $("runs").addEventListener("keydown", onListKey);
    document.addEventListener("keydown", onKey);
    document.addEventListener("pointed", onPointed);
    followDark(bokeh);
    if (matchMedia("(max-width: 700px)").matches) $("runs-box").open = false;
    update();
    document.querySelector("#runs [aria-current]")?.scrollIntoView({ block: "nearest" });
  }
  connect();
})();
