const data = JSON.parse(document.getElementById("data").textContent);

// Values come compressed; where the browser cannot unpack them, coordinates are shown without.
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function degrees(value, signs, digits) {
  return Math.abs(value).toFixed(digits) + "° " + signs[value < 0 ? 1 : 0];
}

class Sheet {
  constructor(section) {
    this.section = section;
    this.plain = data.sheets[Number(section.dataset.sheet)];
    this.chart = this.plain.chart === null ? null : charts[this.plain.chart];
    this.figure = section.querySelector(".chart");
    this.stage = section.querySelector(".stage");
    this.layers = section.querySelector(".layers");
    this.above = section.querySelector(".above");
    this.divider = section.querySelector(".divider");
    this.swipe = section.querySelector(".swipe");
    this.opacity = section.querySelector(".opacity");
    this.mark = section.querySelector(".probe");
    this.reading = section.querySelector(".reading");
    this.pointers = new Map();
    this.column = Math.floor(this.plain.width / 2);
    this.row = Math.floor(this.plain.height / 2);
    this.values = [];
    if ("DecompressionStream" in window) {
      this.plain.probes.forEach((probe, at) => unpack(probe.values).then((values) => { this.values[at] = values; }));
    }
    for (const image of this.layers.querySelectorAll("img")) {
      image.style.width = this.plain.width + "px";
      image.style.height = this.plain.height + "px";
    }
    this.listen();
    this.fit();
  }

  listen() {
    const stage = this.stage;
    stage.addEventListener("pointermove", (event) => this.moved(event));
    stage.addEventListener("pointerdown", (event) => this.pressed(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.released(event));
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 400), this.within(event).x, this.within(event).y);
    }, { passive: false });
    stage.addEventListener("keydown", (event) => this.typed(event));
    this.opacity.addEventListener("input", () => this.draw());
    if (this.swipe) this.swipe.addEventListener("input", () => this.draw());
    for (const button of this.section.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => this.zoomTo(button.dataset.zoom));
    }
    new ResizeObserver(() => {
      if (this.whole) this.fit(); else this.draw();
      if (!this.mark.hidden) this.plot();
    }).observe(stage);
  }

  within(event) {
    const box = this.stage.getBoundingClientRect();
    return { x: event.clientX - box.left - this.stage.clientLeft, y: event.clientY - box.top - this.stage.clientTop };
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width) return; // not shown
    this.zoom = Math.min(width / this.plain.width, height / this.plain.height);
    this.x = (width - this.plain.width * this.zoom) / 2;
    this.y = (height - this.plain.height * this.zoom) / 2;
    this.whole = true;
    this.draw();
  }

  zoomTo(what) {
    if (what === "all") this.fit();
    else this.zoomBy(what === "in" ? 1.5 : 1 / 1.5, this.stage.clientWidth / 2, this.stage.clientHeight / 2);
  }

  zoomBy(factor, x, y) {
    const zoom = Math.min(Math.max(this.zoom * factor, 0.02), 60);
    this.x = x - (x - this.x) * (zoom / this.zoom);
    this.y = y - (y - this.y) * (zoom / this.zoom);
    this.zoom = zoom;
    this.whole = false;
    this.draw();
  }

  draw() {
    this.layers.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.zoom})`;
    this.layers.style.setProperty("--zoom", this.zoom);
    this.above.style.opacity = this.opacity.value / 100;
    if (!this.swipe) return;
    // The line crosses what is seen of the picture, so that it can be reached at any zoom.
    const left = Math.max(this.x, 0);
    const right = Math.min(this.x + this.plain.width * this.zoom, this.stage.clientWidth);
    const line = left + (right - left) * (this.swipe.value / 100);
    this.divider.style.left = line + "px";
    this.above.style.clipPath = `inset(0 0 0 ${(line - this.x) / this.zoom}px)`;
  }

  pressed(event) {
    const at = this.within(event);
    const line = this.divider ? parseFloat(this.divider.style.left) : NaN;
    this.pointers.set(event.pointerId, { ...at, swipes: Math.abs(at.x - line) < 14 });
    this.stage.setPointerCapture(event.pointerId);
    this.look(at);
  }

  released(event) {
    this.pointers.delete(event.pointerId);
  }

  moved(event) {
    const at = this.within(event), held = this.pointers.get(event.pointerId);
    if (!held) return this.look(at);
    if (held.swipes) {
      const left = Math.max(this.x, 0), right = Math.min(this.x + this.plain.width * this.zoom, this.stage.clientWidth);
      this.swipe.value = (100 * (at.x - left)) / (right - left);
      this.draw();
    } else if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const before = Math.hypot(held.x - other.x, held.y - other.y), now = Math.hypot(at.x - other.x, at.y - other.y);
      if (before > 0) this.zoomBy(now / before, (at.x + other.x) / 2, (at.y + other.y) / 2);
    } else {
      this.x += at.x - held.x;
      this.y += at.y - held.y;
      this.whole = false;
      this.draw();
    }
    Object.assign(held, at);
  }

  look({ x, y }) {
    const column = Math.floor((x - this.x) / this.zoom), row = Math.floor((y - this.y) / this.zoom);
    if (column >= 0 && row >= 0 && column < this.plain.width && row < this.plain.height) this.point(column, row);
  }

  typed(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (steps) {
      const size = event.shiftKey ? 10 : 1;
      this.point(
        Math.min(Math.max(this.column + steps[0] * size, 0), this.plain.width - 1),
        Math.min(Math.max(this.row + steps[1] * size, 0), this.plain.height - 1),
      );
      this.follow();
    } else if (event.key === "+" || event.key === "=") this.zoomTo("in");
    else if (event.key === "-") this.zoomTo("out");
    else if (event.key === "0") this.fit();
    else if (this.chart && event.key === "PageDown") this.show(this.plain.number + 1);
    else if (this.chart && event.key === "PageUp") this.show(this.plain.number - 1);
    else return;
    event.preventDefault();
  }

  follow() { // the probe stays in sight
    const x = this.x + (this.column + 0.5) * this.zoom, y = this.y + (this.row + 0.5) * this.zoom;
    this.x += Math.min(Math.max(x, 20), this.stage.clientWidth - 20) - x;
    this.y += Math.min(Math.max(y, 20), this.stage.clientHeight - 20) - y;
    this.draw();
  }

  point(column, row) {
    this.column = column;
    this.row = row;
    this.mark.hidden = false;
    this.mark.style.left = column + "px";
    this.mark.style.top = row + "px";
    const parts = [];
    this.plain.probes.forEach((probe, at) => {
      if (!this.values[at]) return;
      const value = this.values[at][row * this.plain.width + column];
      const told = value === probe.nodata ? "no data" : probe.names[value] ?? (value * probe.factor).toFixed(2);
      parts.push([probe.label, told]);
    });
    this.reading.textContent = "";
    for (const [label, told] of parts) {
      const strong = document.createElement("b");
      strong.textContent = told;
      this.reading.append(label + " ", strong, "  ");
    }
    const where = document.createElement("span");
    where.textContent = this.where(column + 0.5, row + 0.5);
    this.reading.append(where);
    this.plot();
  }

  plot() {
    if (this.chart) this.chart.draw(this.figure, this.plain.number, this.column, this.row, (date) => this.show(date));
  }

  show(date) { // another date of the series, with the same probe and the same part in sight
    const at = sheets.findIndex((sheet) => sheet.chart === this.chart && sheet.plain.number === date);
    if (at < 0 || sheets[at] === this) return;
    const stepped = document.activeElement === this.stage;
    choose.value = at;
    choose.dispatchEvent(new Event("change"));
    if (stepped) sheets[at].stage.focus();
  }

  follows(other) {
    Object.assign(this, { x: other.x, y: other.y, zoom: other.zoom, whole: other.whole });
    this.opacity.value = other.opacity.value;
    if (this.swipe) this.swipe.value = other.swipe.value;
    this.draw();
    if (!other.mark.hidden) this.point(other.column, other.row);
  }

  where(column, row) {
    const [a, b, c, d, e, f] = this.plain.transform;
    const x = a * column + b * row + c, y = d * column + e * row + f, places = this.plain.places;
    const digits = this.plain.degrees ? 6 : 1;
    const grid = this.plain.crs ? `${x.toFixed(digits)}, ${y.toFixed(digits)} (${this.plain.crs})` : `column ${column - 0.5}, row ${row - 0.5}`;
    if (!places) return grid;
    const latitude = this.between(places.latitude, column, row);
    const longitude = ((this.between(places.longitude, column, row) + 540) % 360 + 360) % 360 - 180;
    const both = degrees(latitude, "NS", 5) + " " + degrees(longitude, "EW", 5);
    return this.plain.degrees ? `${both} (${this.plain.crs})` : `${both}  ${grid}`;
  }

  between(values, column, row) {
    const last = this.plain.places.nodes - 1;
    const u = (column / this.plain.width) * last, v = (row / this.plain.height) * last;
    const left = Math.min(Math.floor(u), last - 1), top = Math.min(Math.floor(v), last - 1);
    const at = (down, along) => values[(top + down) * (last + 1) + left + along];
    const above = at(0, 0) + (at(0, 1) - at(0, 0)) * (u - left), below = at(1, 0) + (at(1, 1) - at(1, 0)) * (u - left);
    return above + (below - above) * (v - top);
  }
}

const charts = data.charts.map((plain) => new Chart(plain));
const sheets = [...document.querySelectorAll(".sheet")].map((section) => new Sheet(section));
const choose = document.getElementById("choose");
let seen = sheets[0];
if (choose) {
  choose.addEventListener("change", () => {
    const before = seen;
    seen = sheets[Number(choose.value)];
    sheets.forEach((sheet) => { sheet.section.hidden = sheet !== seen; });
    if (seen.chart && seen.chart === before.chart && before.zoom) seen.follows(before);
    else if (!seen.zoom) seen.fit();
    else seen.draw();
  });
}
// The middle is charted before anybody points.
for (const chart of charts) chart.ready.then(() => sheets.find((sheet) => sheet.chart === chart).plot());
