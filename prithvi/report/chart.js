"use strict";
// The chart of a series: reflectance of the pixel under the pointer, a line a band, through all dates.
const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, text) {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  if (text !== undefined) found.textContent = text;
  return found;
}

class Chart {
  constructor(plain) {
    this.plain = plain;
    this.hidden = new Set(); // bands that are not drawn, on all sheets of the series
    this.ready = Promise.resolve();
    if ("DecompressionStream" in window) {
      this.ready = Promise.all([unpack(plain.values), unpack(plain.states)]).then(([values, states]) => {
        this.values = new Int16Array(values.buffer);
        this.states = states;
      });
    }
  }

  // Reflectance of a band on a date, null where there is none.
  at(date, band, column, row) {
    const { bands, width, height, nodata, scale } = this.plain;
    const value = this.values[((date * bands.length + band) * height + row) * width + column];
    return value === nodata ? null : value * scale;
  }

  // Draws the pixel of a sheet into its figure; `choose` is called with the number of a date that is clicked.
  draw(figure, shown, column, row, choose) {
    if (!this.values) return;
    const { dates, days, bands, colors, step, width: columns, height: rows } = this.plain;
    const x = Math.min(Math.floor(column / step), columns - 1), y = Math.min(Math.floor(row / step), rows - 1);
    const lines = bands.map((_, band) => dates.map((_, date) => this.at(date, band, x, y)));
    const states = dates.map((_, date) => this.states[(date * rows + y) * columns + x]);
    figure.hidden = false;
    this.legend(figure, lines, shown, () => this.draw(figure, shown, column, row, choose));

    const svg = figure.querySelector("svg"), wide = Math.max(svg.clientWidth, 200), high = 190;
    const drawn = lines.filter((_, band) => !this.hidden.has(band)).flat().filter((value) => value !== null);
    const low = Math.min(0, ...drawn), top = Math.max(0.05, ...drawn), high_value = top + (top - low) * 0.06;
    const left = 44, right = wide - 10, up = 8, down = high - 24, first = days[0], last = days[days.length - 1];
    const across = (day) => left + ((day - first) / (last - first || 1)) * (right - left);
    const upward = (value) => down - ((value - low) / (high_value - low)) * (down - up);
    svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    svg.setAttribute("height", high);
    svg.replaceChildren();
    for (const value of [low, (low + top) / 2, top]) {
      svg.append(shape("line", { x1: left, x2: right, y1: upward(value), y2: upward(value), class: "grid" }));
      svg.append(shape("text", { x: left - 6, y: upward(value) + 4, "text-anchor": "end" }, value.toFixed(2)));
    }
    svg.append(shape("line", { x1: across(days[shown]), x2: across(days[shown]), y1: up, y2: down, class: "shown" }));
    // Labels of dates as far apart as they need, the first and the last always.
    const half = 40;
    let free = -Infinity;
    days.forEach((day, date) => {
      const place = across(day), end = date === days.length - 1;
      const from = date === 0 ? place : end ? place - 2 * half : place - half;
      if (date > 0 && !end && (from < free || place + half > right - 2 * half)) return;
      free = from + 2 * half;
      const anchor = date === 0 ? "start" : end ? "end" : "middle";
      svg.append(shape("text", { x: place, y: high - 6, "text-anchor": anchor }, dates[date]));
    });
    lines.forEach((line, band) => {
      if (this.hidden.has(band)) return;
      let path = "", gap = true;
      line.forEach((value, date) => {
        if (value !== null) path += `${gap ? "M" : "L"}${across(days[date]).toFixed(1)} ${upward(value).toFixed(1)}`;
        gap = value === null;
      });
      svg.append(shape("path", { d: path, stroke: colors[band], class: "line" }));
      line.forEach((value, date) => {
        if (value === null) return;
        const kind = states[date] === 0 ? { fill: colors[band] } : { fill: "var(--panel)" };
        svg.append(shape("circle", { cx: across(days[date]), cy: upward(value), r: 3.5, stroke: colors[band], ...kind }));
      });
    });
    svg.onclick = (event) => {
      const box = svg.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * wide;
      const near = days.map((day) => Math.abs(across(day) - at));
      choose(near.indexOf(Math.min(...near)));
    };
    const named = bands.map((band, at) => `${band} ${lines[at][shown] === null ? "no data" : lines[at][shown].toFixed(3)}`);
    svg.setAttribute("aria-label", `Reflectance on ${dates.length} dates; on ${dates[shown]} ${named.join(", ")}.`);
  }

  // A box for each band that shows or hides its line, with the value on the date that is shown.
  legend(figure, lines, shown, redraw) {
    const list = figure.querySelector(".bands");
    if (!list.children.length) {
      this.plain.bands.forEach((band, at) => {
        const label = document.createElement("label"), box = document.createElement("input");
        const mark = document.createElement("i"), value = document.createElement("b");
        box.type = "checkbox";
        mark.style.background = this.plain.colors[at];
        label.append(box, mark, band + " ", value);
        list.append(label);
      });
    }
    [...list.children].forEach((label, at) => {
      const box = label.querySelector("input"), value = lines[at][shown];
      box.checked = !this.hidden.has(at);
      box.onchange = () => { this.hidden[box.checked ? "delete" : "add"](at); redraw(); };
      label.querySelector("b").textContent = value === null ? "no data" : value.toFixed(3);
    });
  }
}
