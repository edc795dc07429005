"use strict";
(() => {
  const names = ["gammas", "g2s", "trend"];
  function connect() {
    const bokeh = window.Bokeh?.documents?.[0];
    const plots = names.map((name) => bokeh?.get_model_by_name(name));
    if (plots.includes(undefined) || plots.includes(null)) return void setTimeout(connect, 30);
    followDark(bokeh);
    // A finger on a plot scrolls the page; the tools are one tap away.
    if (matchMedia("(pointer: coarse)").matches) {
      for (const model of bokeh._all_models.values()) {
        if (model.type === "BoxZoomTool") model.active = false;
      }
    }
    bokeh.on_event?.("connection_lost", () => {
      const notice = document.getElementById("notice");
      notice.textContent = "No connection to this page's server. Reload the page when it is back.";
      notice.hidden = false;
    });
  }
  connect();
})();
