"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const ROWS = 50;
  const MOST_LABELS_TRIED = 3000;
  const PAPER_WIDTH = 680; // CSS px that fit on a sheet of A4 between its margins
  const PAPER_HEIGHT = 640;
  const NO_BREAK = "\u00a0";

  // ---------------------------------------------------------------- elements and words

  function element(name, attributes = {}, ...children) {
    return fill(document.createElement(name), attributes, children);
  }

  function drawing(name, attributes = {}, ...children) {
    return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
  }

  function fill(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }

  function number(value) {
    const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
    return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }

  const count = (value) => value.toLocaleString("en");
  const quantity = (value, unit) => number(value) + NO_BREAK + unit;
  const several = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

  function share(value) {
    const percent = 100 * value;
    if (percent > 0 && percent < 0.01) return `<${NO_BREAK}0.01${NO_BREAK}%`;
    return (percent > 0 && percent < 1 ? percent.toFixed(2) : String(Number(percent.toPrecision(3)))) + NO_BREAK + "%";
  }

  function announce(text) {
    byId("announcement").textContent = text;
  }

  // ---------------------------------------------------------------- what is known

  const severities = new Map(data.severities.map((known, rank) => [known.name, { ...known, rank }]));
  const photographs = data.photographs.map((known, place) => ({ ...known, number: place + 1 }));
  const cracks = data.cracks.map((row) => {
    const [place, id, severity, length, meanWidth, maxWidth, area, orientation, branches, unit, probability] = row;
    return {
      photograph: photographs[place],
      id,
      severity,
      length,
      meanWidth,
      maxWidth,
      area,
      orientation,
      branches,
      unit,
      probability,
    };
  });

  const rankOf = (name) => (severities.has(name) ? severities.get(name).rank : -1);
  const cracksOf = (photograph) => cracks.slice(photograph.firstCrack, photograph.firstCrack + photograph.cracks);

  function kind(name) {
    const known = severities.get(name);
    const shown = element("span", { class: "kind" });
    if (known) {
      const sample = drawing("svg", { class: "sample", viewBox: "0 0 36 10", width: 36, height: 10, "aria-hidden": "true" });
      sample.append(drawing("path", { class: "casing", d: "M3 5h30" }));
      sample.append(drawing("path", { class: `line ${known.style}`, d: "M3 5h30" }));
      shown.append(sample, " ");
    }
    shown.append(name);
    return shown;
  }

  function linkTo(photograph, text, crack) {
    const shown = element("bdi", {}, text);
    if (!photograph.views) return shown;
    return element("a", { href: fragment({ photo: photograph.number, crack }) }, shown);
  }

  // ---------------------------------------------------------------- the fragment of the address

  function fragment({ photo, view, crack }) {
    const told = new URLSearchParams({ photo });
    if (view && view !== "photograph") told.set("view", view);
    if (crack) told.set("crack", crack);
    return `#${told}`;
  }

  function readFragment() {
    const told = new URLSearchParams(location.hash.slice(1));
    const asked = photographs[Number(told.get("photo")) - 1];
    return { photograph: asked && asked.views ? asked : null, view: told.get("view"), crack: told.get("crack") };
  }

  // ---------------------------------------------------------------- tables: sorted, filtered, in parts

  // A column: label, value (to sort by), cell (what is shown; the value without it), kind ("number", "path", …).
  function makeTable(name, columns, { what, describe = () => {} }) {
    const table = byId(`${name}-table`);
    const pager = byId(`${name}-pager`);
    const collator = new Intl.Collator("en", { numeric: true });
    const state = { all: [], rows: [], sorted: null, descending: false, first: 0, keep: () => true };

    const heads = columns.map((column, place) => {
      const button = element("button", { type: "button" }, column.label);
      button.addEventListener("click", () => sortBy(place));
      // A browser leaves buttons out where it repeats a table's head on the next sheet of paper.
      const printed = element("span", { class: "printed" }, column.label);
      return element("th", { scope: "col", class: column.kind }, button, printed);
    });
    table.tHead.append(element("tr", {}, ...heads));
    for (const button of pager.querySelectorAll("button")) {
      button.addEventListener("click", () => turn(Number(button.dataset.turn)));
    }

    function compare(one, other) {
      const { value } = columns[state.sorted];
      const [a, b] = [value(one), value(other)];
      const order = typeof a === "number" ? a - b : collator.compare(a, b);
      return state.descending ? -order : order;
    }

    function sortBy(place) {
      // What is large is looked for first.
      state.descending = state.sorted === place ? !state.descending : columns[place].largeFirst === true;
      state.sorted = place;
      refresh();
    }

    function refresh() {
      state.rows = state.all.filter(state.keep);
      if (state.sorted !== null) state.rows.sort(compare);
      state.first = 0;
      draw();
    }

    function turn(by) {
      state.first = Math.max(0, Math.min(state.first + by * ROWS, state.rows.length - 1));
      draw();
    }

    function line(row) {
      const cells = columns.map((column) => {
        const cell = element(column.heads ? "th" : "td", { class: column.kind, scope: column.heads && "row" });
        cell.append(column.cell ? column.cell(row) : column.value(row));
        return cell;
      });
      const drawn = element("tr", {}, ...cells);
      describe(row, drawn);
      return drawn;
    }

    function draw(everything = false) {
      const shown = everything ? state.rows : state.rows.slice(state.first, state.first + ROWS);
      const empty = state.all.length ? `No ${what} is left by the filter.` : `There is no ${what}.`;
      const lines = shown.length
        ? shown.map(line)
        : [element("tr", {}, element("td", { colspan: columns.length, class: "empty" }, empty))];
      table.tBodies[0].replaceChildren(...lines);
      heads.forEach((head, place) => {
        if (place === state.sorted) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      const [back, on] = pager.querySelectorAll("button");
      back.disabled = state.first === 0;
      on.disabled = state.first + ROWS >= state.rows.length;
      pager.querySelector(".turn").hidden = state.rows.length <= ROWS;
      pager.querySelector("p").textContent = told(everything ? 0 : state.first, shown.length);
    }

    function told(first, shown) {
      const found = state.rows.length;
      const part = shown < found ? `Rows ${count(first + 1)} to ${count(first + shown)} of ${count(found)}` : several(found, what);
      const left = found < state.all.length ? ` (of ${count(state.all.length)} without the filter)` : "";
      const order = state.sorted === null ? "" : `, sorted by ${columns[state.sorted].label.toLowerCase()}`;
      return part + left + order + (order && state.descending ? ", descending" : "");
    }

    return {
      show(rows) {
        state.all = rows;
        refresh();
      },
      filter(keep) {
        state.keep = keep;
        refresh();
      },
      bring(row) {
        const place = state.rows.indexOf(row);
        if (place >= 0) state.first = place - (place % ROWS);
        draw();
      },
      rows: () => state.rows,
      showEverything: () => draw(true),
      draw: () => draw(),
    };
  }

  function onFilter(name, table, words) {
    const form = byId(`${name}-filters`);
    const apply = () => {
      const text = form.elements.text.value.trim().toLowerCase();
      const severity = form.elements.severity.value;
      table.filter((row) => (!severity || row.severity === severity) && (!text || words(row).toLowerCase().includes(text)));
    };
    form.addEventListener("input", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    apply(); // a browser may have kept what was typed
  }

  // Millimetres and pixels are not compared: what has no scale is below what has one.
  const sortable = (value, unit) => (unit === "mm" ? 1e12 + value : value);

  function measured(label, key, area = false) {
    return {
      label,
      kind: "number",
      largeFirst: true,
      value: (row) => sortable(row[key], row.unit),
      cell: (row) => quantity(row[key], row.unit + (area ? "²" : "")),
    };
  }

  const photographColumns = [
    { label: "No.", kind: "number", value: (row) => row.number },
    { label: "Photograph", kind: "path", heads: true, value: (row) => row.path, cell: (row) => linkTo(row, row.path) },
    { label: "Severity", largeFirst: true, value: (row) => rankOf(row.severity), cell: (row) => kind(row.severity) },
    { label: "Cracks", kind: "number", largeFirst: true, value: (row) => row.cracks, cell: (row) => count(row.cracks) },
    emptyWithoutCracks(measured("Length", "length")),
    emptyWithoutCracks(measured("Max. width", "widest")),
    { label: "Crack area", kind: "number", largeFirst: true, value: (row) => row.crackShare, cell: (row) => share(row.crackShare) },
    { label: "Concrete", kind: "number", value: (row) => row.foreground, cell: (row) => share(row.foreground) },
    { label: "Scale", kind: "number", value: (row) => row.scale ?? 0, cell: scaleOf },
    { label: "Note", kind: "note", value: (row) => row.note, cell: (row) => element("bdi", {}, row.note) },
  ];

  function emptyWithoutCracks(column) {
    return {
      ...column,
      value: (row) => (row.cracks ? column.value(row) : -1),
      cell: (row) => (row.cracks ? column.cell(row) : "–"),
    };
  }

  function scaleOf(photograph) {
    return photograph.scale ? `${Number(photograph.scale.toPrecision(3))}${NO_BREAK}mm/px` : "not known";
  }

  const crackMeasures = [
    { label: "Severity", largeFirst: true, value: (row) => rankOf(row.severity), cell: (row) => kind(row.severity) },
    measured("Max. width", "maxWidth"),
    measured("Mean width", "meanWidth"),
    measured("Length", "length"),
    { label: "Probability", kind: "number", largeFirst: true, value: (row) => row.probability, cell: (row) => row.probability.toFixed(2) },
  ];
  const crackShape = [
    measured("Area", "area", true),
    { label: "Direction", kind: "number", value: (row) => row.orientation, cell: (row) => `${Math.round(row.orientation)}°` },
    { label: "Branches", kind: "number", largeFirst: true, value: (row) => row.branches, cell: (row) => count(row.branches) },
  ];
  const crackColumns = [
    { label: "Crack", heads: true, value: (row) => row.id, cell: (row) => linkTo(row.photograph, row.id, row.id) },
    { label: "No.", kind: "number", value: (row) => row.photograph.number },
    { label: "Photograph", kind: "path", value: (row) => row.photograph.path, cell: (row) => linkTo(row.photograph, row.photograph.path) },
    ...crackMeasures,
    ...crackShape,
  ];
  // Beside a picture there is room for five columns; the table of all cracks has the others.
  const foundColumns = [
    { label: "Crack", heads: true, value: (row) => row.id, cell: crackButton },
    ...crackMeasures.filter((column) => column.label !== "Mean width"),
  ];

  function crackButton(crack) {
    const button = element("button", { type: "button", "aria-pressed": String(crack === now.crack) }, crack.id);
    button.setAttribute("aria-label", `Crack ${crack.id}, show in the photograph`);
    return button;
  }

  const photographTable = makeTable("photographs", photographColumns, { what: "photograph" });
  const crackTable = makeTable("cracks", crackColumns, { what: "crack" });
  const foundTable = makeTable("found", foundColumns, {
    what: "crack",
    describe(crack, line) {
      line.dataset.crack = crack.id;
      if (crack === now.crack) line.className = "chosen";
      line.addEventListener("click", () => choose(crack === now.crack ? null : crack));
    },
  });

  // ---------------------------------------------------------------- a photograph

  const now = { photograph: null, view: "photograph", crack: null, lines: [], drawn: new Map(), wanted: "photograph" };
  const withoutLines = new Set(["repaired"]); // views; each remembers what its checkbox said
  const [viewport, stage, picture, under, lines] = ["viewport", "stage", "picture", "under", "lines"].map(byId);

  const textOf = (id) => byId(id)?.textContent ?? null;
  const linesOf = (photograph) => JSON.parse(textOf(`lines-${photograph.number}`) ?? "[]");

  function addressOf(photograph, view) {
    const content = textOf(`picture-${photograph.number}-${view}`);
    return content === null ? "" : `data:${photograph.views[view]};base64,${content}`;
  }

  function describe(photograph, view) {
    const found = photograph.cracks
      ? `${several(photograph.cracks, "crack")}, the worst ${photograph.severity}`
      : "no crack found";
    return {
      photograph: `Photograph ${photograph.path}: ${found}`,
      probability: `How probable a crack is at each place of ${photograph.path}: ${found}`,
      mask: `What was taken for crack in ${photograph.path}: ${share(photograph.crackShare)} of the photograph`,
      foreground: `What was taken for concrete in ${photograph.path}: ${share(photograph.foreground)} of the photograph`,
      repaired: `${photograph.path} as it would look repaired`,
    }[view];
  }

  function viewOf(photograph, wanted) {
    return wanted in photograph.views ? wanted : Object.keys(photograph.views)[0];
  }

  function openPhotograph(photograph) {
    now.photograph = photograph;
    now.crack = null;
    now.lines = linesOf(photograph);
    const heading = byId("photo-heading");
    heading.replaceChildren(`Photograph ${photograph.number}: `, element("bdi", {}, photograph.path));
    document.title = `${photograph.number}: ${photograph.path}`;
    viewport.setAttribute("aria-label", `Photograph ${photograph.number}, ${photograph.path}`);
    byId("photo-note").textContent = photograph.note;
    byId("photo-note").hidden = !photograph.note;
    byId("photo-facts").replaceChildren(...factsOf(photograph).flatMap(([term, told]) => [element("dt", {}, term), element("dd", {}, told)]));
    for (const radio of document.getElementsByName("view")) radio.disabled = !(radio.value in photograph.views);
    stage.style.aspectRatio = `${photograph.width} / ${photograph.height}`;
    now.drawn = drawLines(lines, photograph, now.lines);
    foundTable.show(cracksOf(photograph));
    const { place, order } = neighbours();
    byId("place").textContent = `${count(place + 1)} of ${count(order.length)}`;
    byId("previous").disabled = place <= 0;
    byId("next").disabled = place >= order.length - 1;
    look.fit();
  }

  function factsOf(photograph) {
    const facts = [
      ["Severity", kind(photograph.severity)],
      ["Cracks", photograph.cracks ? count(photograph.cracks) : "none found"],
      ["Size", `${count(photograph.width)} × ${count(photograph.height)}${NO_BREAK}px`],
      ["Scale", photograph.scale ? scaleOf(photograph) : "not known: measures are in px"],
      ["Concrete", `${share(photograph.foreground)} of the photograph`],
      ["Crack area", `${share(photograph.crackShare)} of the photograph`],
    ];
    if (photograph.cracks) facts.splice(2, 0, ["Total length", quantity(photograph.length, photograph.unit)], ["Widest", quantity(photograph.widest, photograph.unit)]);
    return facts;
  }

  // Next and previous follow the table of photographs as it is filtered and sorted.
  function neighbours() {
    const seen = photographTable.rows().filter((row) => row.views);
    const order = seen.includes(now.photograph) ? seen : photographs.filter((row) => row.views);
    return { order, place: order.indexOf(now.photograph) };
  }

  function step(by) {
    const { order, place } = neighbours();
    const other = order[place + by];
    if (other) location.hash = fragment({ photo: other.number, view: now.wanted });
    else announce(by > 0 ? "This is the last photograph." : "This is the first photograph.");
  }

  function showView(view) {
    const { photograph } = now;
    now.view = view;
    for (const radio of document.getElementsByName("view")) radio.checked = radio.value === view;
    byId("overlay").checked = !withoutLines.has(view);
    lines.toggleAttribute("hidden", withoutLines.has(view));
    viewport.setAttribute("aria-busy", "true");
    picture.alt = describe(photograph, view);
    picture.src = addressOf(photograph, view);
    const comparable = view === "repaired" && "photograph" in photograph.views;
    byId("compare").hidden = !comparable;
    under.hidden = !comparable;
    if (comparable) {
      under.src = addressOf(photograph, "photograph");
    } else {
      under.removeAttribute("src");
    }
    compareAt(0);
  }

  function compareAt(percent) {
    byId("compare").querySelector("input").value = percent;
    picture.style.clipPath = percent > 0 ? `inset(0 0 0 ${percent}%)` : "";
  }

  picture.addEventListener("load", () => viewport.setAttribute("aria-busy", "false"));
  picture.addEventListener("error", () => {
    viewport.setAttribute("aria-busy", "false");
    announce("This picture cannot be shown.");
  });

  // ---------------------------------------------------------------- cracks as lines

  function drawLines(svg, photograph, shapes) {
    const found = cracksOf(photograph);
    svg.setAttribute("viewBox", `0 0 ${photograph.width} ${photograph.height}`);
    svg.setAttribute("class", "overlay");
    const casing = drawing("path", { class: "casing", d: shapes.map(([path]) => path).join("") });
    const groups = found.map((crack, place) => {
      const [path] = shapes[place];
      const style = severities.get(crack.severity).style;
      return drawing("g", { "data-crack": crack.id }, drawing("path", { class: `line ${style}`, d: path }), drawing("path", { class: "hit", d: path }));
    });
    svg.replaceChildren(casing, ...groups, drawing("g", { class: "labels" }));
    return new Map(found.map((crack, place) => [crack, groups[place]]));
  }

  // As many names of cracks as there is room for, in the order of the list; the chosen one first.
  function labelCracks(svg, photograph, shapes, unit, chosen) {
    const found = cracksOf(photograph).slice(0, MOST_LABELS_TRIED);
    const order = chosen && !found.includes(chosen) ? [chosen, ...found] : [...found].sort((one, other) => (other === chosen) - (one === chosen));
    const first = photograph.firstCrack;
    const taken = new Set();
    const labels = [];
    for (const crack of order) {
      const [, , [x, y]] = shapes[cracks.indexOf(crack, first) - first];
      const wide = unit * 9 * (crack.id.length + 1);
      const at = { x: Math.max(0, Math.min(x + 6 * unit, photograph.width - wide)), y: Math.max(14 * unit, y - 7 * unit) };
      const cells = cellsOf(at, wide, 18 * unit, unit);
      if (cells.some((cell) => taken.has(cell))) continue;
      for (const cell of cells) taken.add(cell);
      labels.push(drawing("text", { x: at.x.toFixed(1), y: at.y.toFixed(1) }, crack.id));
    }
    svg.querySelector(".labels").replaceChildren(...labels);
  }

  function cellsOf({ x, y }, width, height, unit) {
    const size = 20 * unit;
    const cells = [];
    for (let column = Math.floor(x / size); column <= Math.floor((x + width) / size); column += 1) {
      for (let row = Math.floor((y - height) / size); row <= Math.floor(y / size); row += 1) cells.push(`${column} ${row}`);
    }
    return cells;
  }

  function markChosen(crack) {
    now.drawn.get(now.crack)?.classList.remove("chosen");
    lines.querySelector(".frame")?.remove();
    now.crack = crack;
    if (!crack) return;
    const group = now.drawn.get(crack);
    group.classList.add("chosen");
    const [, [x, y, width, height]] = now.lines[cracks.indexOf(crack) - now.photograph.firstCrack];
    const room = 8 * look.unit();
    lines.insertBefore(
      drawing("rect", { class: "frame", x: x - room, y: y - room, width: width + 2 * room, height: height + 2 * room }),
      lines.querySelector(".labels"),
    );
  }

  function choose(crack, { bring = true } = {}) {
    const stood = document.activeElement?.closest?.("#found-table tbody tr")?.dataset.crack;
    if (crack && bring) look.towards(now.lines[cracks.indexOf(crack) - now.photograph.firstCrack][1]);
    markChosen(crack);
    foundTable.bring(crack);
    look.label();
    // Rows have been drawn anew: whoever stood on the button of one still does.
    const rows = [...byId("found-table").tBodies[0].rows];
    rows.find((row) => stood && row.dataset.crack === stood)?.querySelector("button").focus({ preventScroll: true });
    replaceFragment();
    announce(
      crack
        ? `Crack ${crack.id} chosen: ${crack.severity}, ${quantity(crack.maxWidth, crack.unit)} at its widest, ${quantity(crack.length, crack.unit)} long.`
        : "No crack chosen.",
    );
  }

  function stepCrack(by) {
    const order = foundTable.rows();
    if (!order.length) return;
    const place = order.indexOf(now.crack);
    choose(order[place < 0 ? (by > 0 ? 0 : order.length - 1) : (place + by + order.length) % order.length]);
  }

  function replaceFragment() {
    history.replaceState(null, "", fragment({ photo: now.photograph.number, view: now.wanted, crack: now.crack?.id }));
  }

  // ---------------------------------------------------------------- zoom and pan

  // A round length in mm, or in px where the scale is not known, and a bar as long as it is.
  function scaleBar({ scale }, unit) {
    const longest = 150 * unit * (scale ?? 1);
    const power = 10 ** Math.floor(Math.log10(longest));
    const value = [5, 2, 1].find((factor) => factor * power <= longest) * power;
    const [shown, name] = !scale ? [value, "px, scale not known"] : value >= 1000 ? [value / 1000, "m"] : [value, "mm"];
    const bar = element("div");
    bar.style.width = `${value / (scale ?? 1) / unit}px`;
    return [element("span", {}, Number(shown.toPrecision(3)) + NO_BREAK + name), bar];
  }

  const look = (() => {
    const at = { zoom: 1, x: 0, y: 0, width: 1, height: 1 };
    let asked = 0;

    function measure() {
      const { clientWidth, clientHeight } = viewport;
      const { width, height } = now.photograph;
      const scale = Math.min(clientWidth / width, clientHeight / height);
      at.width = Math.max(1, width * scale);
      at.height = Math.max(1, height * scale);
      stage.style.width = `${at.width}px`;
      stage.style.height = `${at.height}px`;
    }

    // Up to 24 px of the screen for one of the photograph.
    const most = () => Math.max(8, 24 * unit(1));
    const unit = (zoom = at.zoom) => now.photograph.width / (at.width * zoom);

    function place() {
      at.x = held(at.x, at.width * at.zoom, viewport.clientWidth);
      at.y = held(at.y, at.height * at.zoom, viewport.clientHeight);
      stage.style.transform = `translate(${at.x}px, ${at.y}px) scale(${at.zoom})`;
      lines.style.setProperty("--unit", unit());
      viewport.classList.toggle("zoomed", at.zoom > 1);
      byId("zoom").textContent = `×${at.zoom.toFixed(at.zoom < 10 ? 1 : 0)}`;
      byId("zoom-out").disabled = at.zoom <= 1;
      byId("zoom-in").disabled = at.zoom >= most();
      drawScaleBar();
      cancelAnimationFrame(asked);
      asked = requestAnimationFrame(label);
    }

    // In the middle where it is smaller than the viewport, and else without a gap beside it.
    const held = (offset, size, room) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, offset)));

    function zoomTo(zoom, x = viewport.clientWidth / 2, y = viewport.clientHeight / 2) {
      const next = Math.min(most(), Math.max(1, zoom));
      at.x = x - ((x - at.x) * next) / at.zoom;
      at.y = y - ((y - at.y) * next) / at.zoom;
      at.zoom = next;
      place();
    }

    function label() {
      if (now.photograph) labelCracks(lines, now.photograph, now.lines, unit(), now.crack);
    }

    function drawScaleBar() {
      byId("scale-bar").replaceChildren(...scaleBar(now.photograph, unit()));
    }

    return {
      unit,
      label,
      zoom: () => at.zoom,
      zoomBy: (factor, x, y) => zoomTo(at.zoom * factor, x, y),
      fit() {
        measure();
        zoomTo(1);
      },
      resize() {
        const middle = { x: (viewport.clientWidth / 2 - at.x) / (at.width * at.zoom), y: (viewport.clientHeight / 2 - at.y) / (at.height * at.zoom) };
        measure();
        at.x = viewport.clientWidth / 2 - middle.x * at.width * at.zoom;
        at.y = viewport.clientHeight / 2 - middle.y * at.height * at.zoom;
        place();
      },
      moveBy(x, y) {
        const before = [at.x, at.y];
        at.x += x;
        at.y += y;
        place();
        return at.x !== before[0] || at.y !== before[1];
      },
      // So that a crack fills about half of what is seen, but the photograph is not more than four times enlarged.
      towards([x, y, width, height]) {
        const scale = 1 / unit(1);
        const wanted = Math.min(viewport.clientWidth / (2 * width * scale), viewport.clientHeight / (2 * height * scale), Math.max(1, 4 * unit(1)));
        at.zoom = Math.min(most(), Math.max(1, wanted));
        at.x = viewport.clientWidth / 2 - (x + width / 2) * scale * at.zoom;
        at.y = viewport.clientHeight / 2 - (y + height / 2) * scale * at.zoom;
        place();
      },
    };
  })();

  function onViewport() {
    const touches = new Map();
    let dragged = false;
    let apart = 0;

    const placeOf = (event) => {
      const box = viewport.getBoundingClientRect();
      return [event.clientX - box.left - viewport.clientLeft, event.clientY - box.top - viewport.clientTop];
    };
    const distance = () => {
      const [one, other] = [...touches.values()];
      return Math.hypot(one[0] - other[0], one[1] - other[1]);
    };

    viewport.addEventListener("wheel", (event) => {
      const steps = event.deltaMode ? event.deltaY * 33 : event.deltaY;
      const factor = Math.exp(-steps / 480);
      if (factor < 1 && look.zoom() <= 1) return; // the page scrolls on
      event.preventDefault();
      look.zoomBy(factor, ...placeOf(event));
    }, { passive: false });

    viewport.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      touches.set(event.pointerId, placeOf(event));
      if (touches.size === 1) dragged = false;
      if (touches.size === 2) apart = distance();
    });
    viewport.addEventListener("pointermove", (event) => {
      const before = touches.get(event.pointerId);
      if (!before) return;
      const after = placeOf(event);
      if (touches.size === 2) {
        touches.set(event.pointerId, after);
        const [one, other] = [...touches.values()];
        look.zoomBy(distance() / (apart || 1), (one[0] + other[0]) / 2, (one[1] + other[1]) / 2);
        look.moveBy((after[0] - before[0]) / 2, (after[1] - before[1]) / 2);
        apart = distance();
        dragged = true;
      } else if (dragged || Math.hypot(after[0] - before[0], after[1] - before[1]) > 4) {
        if (!dragged) viewport.setPointerCapture(event.pointerId);
        dragged = true;
        viewport.classList.add("dragged");
        touches.set(event.pointerId, after);
        look.moveBy(after[0] - before[0], after[1] - before[1]);
      }
    });
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
      viewport.addEventListener(end, (event) => {
        if (end === "pointerleave" && viewport.hasPointerCapture(event.pointerId)) return;
        touches.delete(event.pointerId);
        viewport.classList.remove("dragged");
      });
    }
    viewport.addEventListener("click", (event) => {
      if (dragged) return;
      const id = event.target.closest("[data-crack]")?.dataset.crack;
      const crack = cracksOf(now.photograph).find((known) => known.id === id) ?? null;
      if (crack !== now.crack) choose(crack, { bring: false });
    });
    viewport.addEventListener("dblclick", (event) => look.zoomBy(2, ...placeOf(event)));
    viewport.addEventListener("keydown", onKey);
    new ResizeObserver(() => now.photograph && look.resize()).observe(viewport);
  }

  const MOVES = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };
  const KEYS = {
    "+": () => look.zoomBy(1.5),
    "=": () => look.zoomBy(1.5),
    "-": () => look.zoomBy(1 / 1.5),
    0: () => look.fit(),
    n: () => step(1),
    p: () => step(-1),
    c: () => stepCrack(1),
    C: () => stepCrack(-1),
    Escape: () => choose(null),
  };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase() === "c" ? event.key : event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key in MOVES) {
      if (look.moveBy(...MOVES[key])) event.preventDefault();
    } else if (Object.hasOwn(KEYS, key)) {
      event.preventDefault();
      KEYS[key]();
    }
  }

  function onTools() {
    byId("views").addEventListener("change", (event) => {
      now.wanted = event.target.value;
      showView(now.wanted);
      replaceFragment();
    });
    byId("overlay").addEventListener("change", (event) => {
      withoutLines[event.target.checked ? "delete" : "add"](now.view);
      lines.toggleAttribute("hidden", !event.target.checked);
    });
    byId("zoom-in").addEventListener("click", () => look.zoomBy(1.5));
    byId("zoom-out").addEventListener("click", () => look.zoomBy(1 / 1.5));
    byId("fit").addEventListener("click", () => look.fit());
    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
    byId("compare").addEventListener("input", (event) => compareAt(Number(event.target.value)));
  }

  // ---------------------------------------------------------------- from page to page

  const overview = { title: document.title, scrolled: 0, link: null };

  function route() {
    const { photograph, view, crack } = readFragment();
    // Pictures come after this script, so that tables can be read while they are still being loaded.
    if (photograph && document.readyState === "loading") {
      byId("loading").hidden = false;
      return;
    }
    if (!photograph) {
      leavePhotograph();
      return;
    }
    const arrives = now.photograph === null;
    if (arrives) {
      overview.link = document.activeElement?.closest?.("#overview a") ?? null;
      byId("overview").hidden = true;
      byId("photo").hidden = false;
      scrollTo(0, 0);
    }
    const changes = photograph !== now.photograph;
    if (changes) openPhotograph(photograph);
    now.wanted = view ?? "photograph";
    const shown = viewOf(photograph, now.wanted);
    if (changes || shown !== now.view) showView(shown);
    const wanted = cracksOf(photograph).find((known) => known.id === crack) ?? null;
    if (wanted !== now.crack) choose(wanted);
    if (arrives) viewport.focus({ preventScroll: true });
    if (changes && !arrives) announce(`Photograph ${photograph.number}, ${describe(photograph, "photograph")}.`);
  }

  function leavePhotograph() {
    const section = byId(location.hash.slice(1));
    const known = section?.closest("#overview") ? section : null;
    if (now.photograph === null) return;
    now.photograph = null;
    now.crack = null;
    picture.removeAttribute("src");
    under.removeAttribute("src");
    lines.replaceChildren();
    byId("photo").hidden = true;
    byId("overview").hidden = false;
    document.title = overview.title;
    scrollTo(0, overview.scrolled);
    if (overview.link?.isConnected) overview.link.focus({ preventScroll: true });
    else known?.querySelector("h2")?.focus({ preventScroll: true });
    if (known && !overview.link?.isConnected) known.scrollIntoView();
  }

  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the fragment says which photograph is open
    byId("content").focus();
  });

  addEventListener("scroll", () => {
    if (now.photograph === null) overview.scrolled = scrollY;
  }, { passive: true });

  // ---------------------------------------------------------------- paper

  function printedPhotographs() {
    if (now.photograph) return [now.photograph];
    const all = photographs.filter((row) => row.views);
    return {
      all,
      none: [],
      cracked: all.filter((row) => row.cracks),
      filtered: photographTable.rows().filter((row) => row.views),
    }[byId("print-form").elements.sheets.value];
  }

  function sheet(photograph) {
    const view = viewOf(photograph, now.photograph ? now.view : "photograph");
    const shapes = linesOf(photograph);
    const shrink = Math.min(PAPER_WIDTH / photograph.width, PAPER_HEIGHT / photograph.height);
    const frame = element("div", { class: "frame-of-picture" }, element("img", { alt: describe(photograph, view), src: addressOf(photograph, view) }));
    frame.style.width = `${photograph.width * shrink}px`;
    frame.style.aspectRatio = `${photograph.width} / ${photograph.height}`;
    if (!withoutLines.has(view)) {
      const svg = drawing("svg", { "aria-hidden": "true" });
      drawLines(svg, photograph, shapes);
      svg.style.setProperty("--unit", 1 / shrink);
      labelCracks(svg, photograph, shapes, 1 / shrink, null);
      frame.append(svg);
    }
    frame.append(element("div", { class: "scale-bar" }, ...scaleBar(photograph, 1 / shrink)));
    const told = factsOf(photograph).map(([term, fact]) => element("div", {}, element("dt", {}, term), element("dd", {}, fact)));
    const made = element("section", { class: "sheet" }, element("h2", {}, `Photograph ${photograph.number}: `, element("bdi", {}, photograph.path)));
    if (photograph.note) made.append(element("p", { class: "notice" }, photograph.note));
    made.append(element("figure", {}, frame, element("figcaption", {}, element("dl", {}, ...told))));
    if (photograph.cracks) made.append(printedCracks(photograph));
    return made;
  }

  function printedCracks(photograph) {
    const columns = [{ label: "Crack", value: (row) => row.id }, ...crackMeasures, ...crackShape];
    const head = element("tr", {}, ...columns.map((column) => element("th", { scope: "col", class: column.kind }, column.label)));
    const rows = cracksOf(photograph).map((crack) =>
      element("tr", {}, ...columns.map((column) => element("td", { class: column.kind }, (column.cell && column.label !== "Crack" ? column.cell : column.value)(crack)))),
    );
    return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  }

  const paper = { ready: false };

  function preparePaper() {
    if (paper.ready) return;
    document.body.classList.toggle("one-photograph", now.photograph !== null);
    document.body.classList.toggle("without-cracks", !byId("print-form").elements.cracks.checked);
    photographTable.showEverything();
    if (byId("print-form").elements.cracks.checked) crackTable.showEverything();
    byId("sheets").replaceChildren(...printedPhotographs().map(sheet));
    paper.ready = true;
  }

  function clearPaper() {
    paper.ready = false;
    byId("sheets").replaceChildren();
    photographTable.draw();
    crackTable.draw();
  }

  async function print() {
    announce("The pages are being prepared.");
    preparePaper();
    await Promise.allSettled([...byId("sheets").querySelectorAll("img")].map((image) => image.decode()));
    window.print();
  }

  // ---------------------------------------------------------------- start

  photographTable.show(photographs);
  crackTable.show(cracks);
  onFilter("photographs", photographTable, (row) => `${row.number} ${row.path} ${row.note}`);
  onFilter("cracks", crackTable, (row) => `${row.id} ${row.photograph.path}`);
  onViewport();
  onTools();
  byId("print-form").addEventListener("submit", (event) => {
    event.preventDefault();
    print();
  });
  addEventListener("beforeprint", preparePaper);
  addEventListener("afterprint", clearPaper);
  addEventListener("hashchange", route);
  document.addEventListener("DOMContentLoaded", () => {
    byId("loading").hidden = true;
    route();
  });
})();
