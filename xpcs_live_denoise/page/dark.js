"use strict";
// Light and dark, of both screens: followDark(bokeh) paints as chosen before, or as the system is.
const followDark = (() => {
  // Data that would be lost on a dark ground, and what is drawn instead.
  const BRIGHTER = { "#404040": "#d5dbe1", "#8A4A83": "#d08fc8", "#0072B2": "#56b4e9", "#16202a": "#ffffff" };

  function paint(bokeh, dark) {
    document.documentElement.classList.toggle("dark", dark);
    document.getElementById("dark").setAttribute("aria-pressed", String(dark));
    const style = getComputedStyle(document.documentElement);
    const [paper, ink, soft, line, grid, unknown] = ["paper", "ink", "soft", "line", "grid", "unknown"]
      .map((name) => style.getPropertyValue(`--${name}`).trim());
    const colour = (was) => {
      const [light, bright] = Object.entries(BRIGHTER).find((pair) => pair.includes(was)) ?? [was, was];
      return dark ? bright : light;
    };
    const axis = { axis_label_text_color: soft, major_label_text_color: soft, axis_line_color: soft,
      major_tick_line_color: soft, minor_tick_line_color: soft };
    const styles = {
      Figure: { background_fill_color: paper, border_fill_color: paper, outline_line_color: line },
      Title: { text_color: ink },
      Grid: { grid_line_color: grid },
      Legend: { background_fill_color: paper, label_text_color: ink },
      ColorBar: { background_fill_color: paper, major_label_text_color: soft, title_text_color: soft },
      LinearAxis: axis, LogAxis: axis,
    };
    for (const model of bokeh._all_models.values()) {
      const wanted = { ...styles[model.type] };
      if (model.type.endsWith("ColorMapper") && model.palette.length === 256) wanted.nan_color = unknown;
      if (["Scatter", "Line", "Segment"].includes(model.type)) {
        for (const name of ["line_color", "fill_color"]) {
          const was = model[name]?.value;
          if (typeof was === "string") wanted[name] = { value: colour(was) };
        }
      }
      model.setv(wanted, { sync: false });  // of this browser alone
      if (model.type === "Figure") wipe(Bokeh.index.find_one(model)?.canvas_view.primary.canvas);
    }
  }

  // Bokeh clears and fills half a pixel too little: at two edges the old colours would stay.
  function wipe(canvas) {
    const context = canvas?.getContext("2d");
    context?.save();
    context?.resetTransform();
    context?.clearRect(0, 0, canvas.width, canvas.height);
    context?.restore();
  }

  return (bokeh) => {
    const stored = localStorage.getItem("dark");
    const dark = stored === null ? matchMedia("(prefers-color-scheme: dark)").matches : stored === "true";
    if (dark) paint(bokeh, true);
    document.getElementById("dark").addEventListener("click", () => {
      const wanted = !document.documentElement.classList.contains("dark");
      localStorage.setItem("dark", String(wanted));
      paint(bokeh, wanted);
    });
  };
})();
