"use strict";
/* Curves of a run, drawn by uPlot from /api/v1/.../series: each chart when it comes into view, again when a round is done. */
(() => {
  const COLOURS = ["blue", "alarm", "warn", "ink", "soft"], DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3]];
  const HEIGHT = 230, LEAST_MS = 5000, PER_LINE_MS = 250; // Rounds that follow each other quickly share a drawing.
  const drawn = new Map();
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const figure = (value) => value === null || value === undefined ? "\u2013" : Number(value.toPrecision(4)).toString().replace("-", "\u2212");
  const width = (place) => Math.max(160, place.clientWidth);

  async function curve(line) {
    const answer = await fetch(line.url, { headers: { Accept: "application/json" }, credentials: "same-origin" });
    if (!answer.ok) throw new Error(`${answer.status}`);
    const found = await answer.json();
    return { label: line.label, numbers: found.numbers, values: found.values };
  }
  function bridged(one) { // Not every round measures: what lies as far apart as usual is joined, and only more is a gap.
    const known = one.numbers.filter((_, i) => one.values[i] !== null);
    const apart = known.slice(1).map((number, i) => number - known[i]).sort((a, b) => a - b);
    const most = 4 * (apart[apart.length >> 1] || 1), by = new Map(one.numbers.map((number, i) => [number, one.values[i]]));
    let next = 0;
    for (const number of one.numbers) {
      while (next < known.length && known[next] < number) next++;
      if (by.get(number) !== null) continue;
      const inside = next > 0 && next < known.length;
      by.set(number, inside && known[next] - known[next - 1] > most ? null : undefined); // undefined: uPlot joins
    }
    return by;
  }
  function joined(curves) { // One axis of rounds for all.
    const numbers = [...new Set(curves.flatMap((one) => one.numbers))].sort((a, b) => a - b);
    return [numbers, ...curves.map(bridged).map((by) => numbers.map((number) => by.get(number)))];
  }
  function series(curves) {
    return curves.map((one, i) => ({
      label: one.label, stroke: () => colour(COLOURS[i % COLOURS.length]), width: i ? 1.4 : 2.2,
      dash: DASHES[Math.floor(i / COLOURS.length) % DASHES.length], spanGaps: false,
      points: { show: one.values.filter((value) => value !== null).length < 40 ? true : undefined, size: 5 },
      value: (_, value) => figure(value),
    }));
  }
  function axis(label, size) {
    const grid = { stroke: () => colour("line"), width: 1 };
    return { label, labelSize: 18, size, stroke: () => colour("soft"), grid, ticks: grid, font: "11px system-ui", labelFont: "11px system-ui" };
  }
  function draw(place, curves) {
    const data = joined(curves);
    if (!data[0].length) { place.dataset.empty = "No figures yet."; return; }
    const options = {
      width: width(place), height: HEIGHT, series: [{ label: "Round" }, ...series(curves)],
      scales: { x: { time: false, range: (_, low, high) => low === high ? [low - 1, high + 1] : [low, high] } },
      axes: [{ ...axis("round", 28), incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] },
        { ...axis(place.dataset.unit, 58), values: (_, splits) => splits.map(figure) }],
      legend: { live: true }, cursor: { drag: { x: false, y: false }, focus: { prox: 24 } },
    };
    const old = drawn.get(place);
    if (old) old.destroy();
    place.replaceChildren();
    drawn.set(place, new uPlot(options, data, place));
  }
  async function load(place) {
    try {
      draw(place, await Promise.all(JSON.parse(place.dataset.lines).map(curve)));
    } catch (error) {
      if (!drawn.has(place)) place.dataset.empty = `The curve could not be loaded (${error.message}); its figures are below.`;
    }
  }
  const places = [...document.querySelectorAll(".plot")], stale = new Set(places), near = new Set();
  const refresh = () => {
    for (const place of near) { if (stale.delete(place)) load(place); }
  };
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) { if (entry.isIntersecting) near.add(entry.target); else near.delete(entry.target); }
    refresh();
  }, { rootMargin: "200px" });
  const size = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const plot = drawn.get(target);
      if (plot && Math.abs(plot.width - width(target)) > 1) plot.setSize({ width: width(target), height: HEIGHT });
    }
  });
  for (const place of places) { watch.observe(place); size.observe(place); }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((plot) => plot.redraw(false, true)));
  let due = 0, last = 0;
  document.body.addEventListener("htmx:afterSwap", () => {
    const lines = [...near].reduce((sum, place) => sum + JSON.parse(place.dataset.lines).length, 0);
    if (due) return;
    due = setTimeout(() => {
      due = 0;
      last = Date.now();
      for (const place of places) stale.add(place);
      refresh();
    }, Math.max(400, last + Math.max(LEAST_MS, lines * PER_LINE_MS) - Date.now()));
  });
})();
