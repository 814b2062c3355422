"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const json = (id) => { const at = $(id); return at ? JSON.parse(at.textContent) : null; };
  const data = json("data");
  const layers = new Map(), sprites = new Map();

  // ---------- pieces -------------------------------------------------------------------------
  function el(tag, props = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(props)) {
      if (value === null || value === undefined) continue;
      if (key === "class") node.className = value;
      else if (key === "text") node.textContent = value;
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  function svg(tag, props, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(props)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }
  const few = (v, digits = 3) => (v === null || v === undefined ? "–" : String(Number(Number(v).toPrecision(digits))));
  const percent = (v, digits = 1) => (v === null || v === undefined ? "–" : (100 * v).toFixed(digits) + " %");
  const points = (v) => (v > 0 ? "−" : v < 0 ? "+" : "±") + Math.abs(100 * v).toFixed(1);
  const path = (layer, unit) => "#/" + encodeURIComponent(layer) + (unit === undefined ? "" : "/" + unit);
  const bdi = (text) => el("bdi", { text });

  // ---------- data ---------------------------------------------------------------------------
  function layer(name) {
    if (!layers.has(name)) layers.set(name, name in data.blocks ? json("layer-" + data.blocks[name]) : null);
    return layers.get(name);
  }
  function spriteOf(key) {
    const at = key.lastIndexOf("/");
    if (at < 0) return data.sprites[key];
    const found = layer(key.slice(0, at));
    return found && found.sprites[key.slice(at + 1)];
  }
  function picture(key) {
    if (!sprites.has(key)) {
      const sprite = spriteOf(key), image = new Image();
      image.src = "data:image/webp;base64," + sprite.webp;
      sprites.set(key, image.decode().then(() => ({ sprite, image })));
    }
    return sprites.get(key);
  }
  function place(sprite, t) { return [(t % sprite.columns) * sprite.w, Math.floor(t / sprite.columns) * sprite.h]; }

  // A canvas of one tile; box: part of it that counts, the rest dimmed; scale: whole factor of enlargement.
  function draw(key, t, { box = null, scale = 1 } = {}) {
    const canvas = el("canvas", { "aria-hidden": "true" });
    const shape = spriteOf(key);
    if (shape) { canvas.width = shape.w * scale; canvas.height = shape.h * scale; }
    canvas.ready = picture(key).then(({ sprite, image }) => {
      const pen = canvas.getContext("2d"), [x, y] = place(sprite, t);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(image, x, y, sprite.w, sprite.h, 0, 0, canvas.width, canvas.height);
      if (box) {
        const [top, left, bottom, right] = box.map((v, i) => Math.round(v * (i % 2 ? canvas.width : canvas.height)));
        pen.fillStyle = "rgb(64 64 64 / .65)";
        pen.fillRect(0, 0, canvas.width, top);
        pen.fillRect(0, bottom, canvas.width, canvas.height - bottom);
        pen.fillRect(0, top, left, bottom - top);
        pen.fillRect(right, top, canvas.width - right, bottom - top);
      }
    });
    return canvas;
  }
  function tile(key, t, label, about, options = {}) {
    const button = el("button", { type: "button", class: "tile " + (options.size || ""), "aria-label": label });
    button.append(draw(key, t, options));
    button.addEventListener("click", () => look(key, t, label, about()));
    return button;
  }

  // ---------- the lens: one picture, large, to be saved --------------------------------------
  let saved = [];
  function look(key, t, label, about) {
    saved.forEach((url) => URL.revokeObjectURL(url));
    saved = [];
    const shape = spriteOf(key), scale = Math.max(1, Math.floor(420 / Math.max(shape.w, shape.h)));
    const canvas = draw(key, t, { scale });
    $("lens-title").textContent = label;
    $("lens-picture").replaceChildren(canvas);
    const { text, ...rest } = about;
    $("lens-text").textContent = text || "";
    const words = JSON.stringify({ title: label, report: data.title, ...rest }, null, 1);
    $("lens-json").textContent = words;
    const name = label.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 80) || "picture";
    canvas.ready.then(() => canvas.toBlob((blob) => {
      link("save-png", blob, name + ".png");
      link("save-json", new Blob([words], { type: "application/json" }), name + ".json");
    }));
    $("lens").showModal();
  }
  function link(id, blob, name) {
    const url = URL.createObjectURL(blob);
    saved.push(url);
    $(id).href = url;
    $(id).download = name;
  }
  $("lens-close").addEventListener("click", () => $("lens").close());
  $("lens").addEventListener("click", (event) => { if (event.target === $("lens")) $("lens").close(); });

  const unitName = (l, card) => (card.name ? card.name : "unit " + card.c);
  function told(l, what, card, extra = {}) {
    return { ...(l.about[what] || {}), layer: l.name, ...(card ? { unit: card.c } : {}), ...extra };
  }

  // ---------- a layer ------------------------------------------------------------------------
  const orders = {
    number: ["number", (a, b) => a.c - b.c],
    selectivity: ["selectivity", (a, b) => (b.selectivity ?? -1) - (a.selectivity ?? -1)],
    drop: ["loss without it", (a, b) => (b.drop ?? -2) - (a.drop ?? -2)],
    ratio: ["strength of its picture", (a, b) => top(b) - top(a)],
  };
  const top = (card) => Math.max(-1, ...(card.max || []).map((m) => m.r ?? -1));
  let order = "number";
  const sorted = (l) => [...l.units].sort(orders[order][1]);

  function thumb(l, card) {
    if (card.filter !== undefined) return [l.name + "/filters", card.filter];
    if (card.max && card.max.length) return [l.name + "/max", card.max[0].t];
    if (card.maps) return [l.name + "/maps", card.maps[0]];
    if (card.top && card.top.length) return [l.name + "/photos", card.top[0].p];
    return null;
  }
  function unitGrid(l, chosen) {
    const list = el("ul", { class: "units" });
    for (const card of sorted(l)) {
      const seen = thumb(l, card);
      const label = unitName(l, card) + (card.dead ? ", dead" : "");
      const a = el("a", { href: path(l.name, card.c), "aria-label": label, "aria-current": card.c === chosen ? "true" : null });
      a.append(seen ? draw(seen[0], seen[1]) : el("canvas", { width: 8, height: 8, "aria-hidden": "true" }));
      a.append(el("span", { class: "cap" }, card.name ? bdi(card.name) : String(card.c), card.dead ? el("span", { class: "flag", text: " dead" }) : null));
      list.append(el("li", {}, a));
    }
    return list;
  }
  function chips(l) {
    const facts = [l.kind];
    if (l.shape) facts.push(l.shape.join(" × "));
    if (l.field) facts.push("sees " + Math.max(...l.field) + (l.clipped ? "*" : "") + " px, effectively " + few(l.effective, 2));
    if (l.parameters) facts.push(l.parameters.toLocaleString("en") + " parameters");
    if (l.dead !== null && l.dead !== undefined) facts.push(percent(l.dead, 0) + " dead");
    if (l.duplicates !== null && l.duplicates !== undefined) facts.push(percent(l.duplicates, 0) + " near-duplicates");
    if (l.ablation) facts.push("ablated behind " + l.ablation.site + ", " + l.ablation.pictures.toLocaleString("en") + " pictures, " + percent(l.ablation.accuracy, 2) + " with all");
    return el("ul", { class: "chips" }, ...facts.map((text) => el("li", { text })));
  }
  function reveal(box, item) { // scrolls the box alone, not the page
    const outer = box.getBoundingClientRect(), inner = item.getBoundingClientRect();
    box.scrollLeft += Math.max(0, inner.right - outer.right) + Math.min(0, inner.left - outer.left);
    box.scrollTop += Math.max(0, inner.bottom - outer.bottom) + Math.min(0, inner.top - outer.top);
  }
  function showLayer(name, unit) {
    const l = layer(name), panel = $("panel");
    if (!l) { panel.replaceChildren(el("p", { class: "note", text: "There is no layer " + name + " in this report." })); return; }
    const card = unit === undefined ? null : l.units.find((each) => each.c === unit) || null;
    const head = el("div", { class: "layer-head" }, el("h3", { tabindex: "-1" }, bdi(l.name)));
    const parts = [head, chips(l)];
    if (unit !== undefined) parts.push(card ? unitCard(l, card) : el("p", { class: "says flag", text: "Unit " + unit + " of " + l.name + " is not shown in this report." }));
    const select = el("select", { onchange: (event) => { order = event.target.value; showLayer(name, unit); $("panel").querySelector("select").focus(); } });
    for (const [key, [text]] of Object.entries(orders)) select.append(el("option", { value: key, text, ...(key === order ? { selected: "" } : {}) }));
    const label = el("label", {}, "Order by ", select);
    parts.push(el("div", { class: "tools" }, el("h4", { text: l.units.length + " of " + l.count + " units" }), label));
    parts.push(unitGrid(l, unit));
    if (l.rest) parts.push(el("p", { class: "note", text: l.rest }));
    if (unit === undefined) parts.push(...[inverted(l), walkedBack(l), mapsOf(l)].filter(Boolean));
    panel.replaceChildren(...parts);
    for (const a of $("rail").querySelectorAll("a")) {
      if (a.dataset.layer !== name) { a.removeAttribute("aria-current"); continue; }
      a.setAttribute("aria-current", "true");
      for (const box of [$("rail"), $("rail").parentElement]) reveal(box, a);
    }
  }

  // ---------- what a layer makes of the sample pictures --------------------------------------
  function table(head, rows) {
    return el("div", {}, el("p", { class: "note", text: head }), el("div", { class: "twin-table", tabindex: "0", role: "group", "aria-label": head },
      el("table", {}, el("tbody", {}, ...rows.map(([name, cells]) =>
        el("tr", {}, el("th", { scope: "row", text: name }), ...cells.map((cell) => el("td", {}, ...(Array.isArray(cell) ? cell : [cell])))))))));
  }
  const photos = () => data.samples.map((s, i) => tile("samples", i, s.n, () => ({ picture: s.n }), { size: "photo" }));
  function inverted(l) {
    if (!l.samples.invert) return null;
    const n = data.samples.length, said = (s) => el("span", { class: "cap", text: few(s.psnr) + " dB" });
    const row = (from, name) => data.samples.map((s, i) => [tile(l.name + "/invert", from + i, name + " from " + l.name + ": " + s.n,
      () => told(l, "invert", null, { picture: s.n, random_weights: from > 0, ...l.samples.invert[from + i] })), said(l.samples.invert[from + i])]);
    const box = el("div", {}, el("h4", { text: "What the layer keeps of a picture" }),
      table("Remade by optimisation from all of the layer's features; below: PSNR to the original", [["picture", photos()], ["remade", row(0, "Remade")], ["random weights", row(n, "Remade through random weights")]]));
    if (l.history) box.append(el("div", { class: "cols" }, el("div", {}, el("h4", { text: "What was minimised, median of the pictures" }), chart(l.history))));
    return box;
  }
  function walkRows(l) {
    const n = data.samples.length, rows = [["picture", photos()]];
    for (const rule of ["deconvnet", "guided", "gradient"]) {
      if (!l.sprites[rule]) continue;
      for (const [from, name] of [[0, rule], [n, "random weights"]]) {
        rows.push([name, data.samples.map((s, i) => tile(l.name + "/" + rule, from + i, rule + (from ? " through random weights" : "") + " from " + l.name + ": " + s.n,
          () => told(l, rule, null, { picture: s.n, random_weights: from > 0, correlation: l.about[rule].correlation[i] })))]);
      }
    }
    return rows;
  }
  function walkedBack(l) {
    const rows = walkRows(l);
    if (rows.length < 2) return null;
    return el("div", {}, el("h4", { text: "Walked back from the layer to the picture" }), table("From the strongest tenth of every map; each picture symmetric around mid grey", rows));
  }
  function mapsOf(l) {
    if (!l.sprites.pca) return null;
    const row = data.samples.map((s, i) => tile(l.name + "/pca", i, "PCA of the maps of " + l.name + ": " + s.n, () => told(l, "maps", null, { picture: s.n, shown: "PCA" })));
    return el("div", {}, el("h4", { text: "All maps at once" }), table("The three directions in which the maps vary most, as red, green and blue", [["picture", photos()], ["PCA", row]]));
  }
  function chart(c) {
    const said = c.lines.map((line) => line.label + " ends at " + line.last).join("; ");
    const root = svg("svg", { class: "chart", viewBox: `0 0 ${c.width} ${c.height}`, role: "img", "aria-label": said });
    const text = (x, y, anchor, words) => { const t = svg("text", { class: "tick", x, y, "text-anchor": anchor }); t.textContent = words; return t; };
    for (const [y, words] of c.y_ticks) root.append(svg("line", { class: "grid", x1: c.left, x2: c.width - c.right, y1: y, y2: y }), text(c.left - 6, y + 3.5, "end", words));
    for (const [x, words] of c.x_ticks) root.append(text(x, c.height - c.bottom + 14, "middle", words));
    root.append(text(c.width - c.right, c.height - 1, "end", c.x_label));
    for (const line of c.lines) root.append(svg("path", { class: "line " + line.kind, d: line.path }));
    const legend = el("ul", { class: "legend" }, ...c.lines.map((line) => el("li", { class: line.kind }, line.label + " ", line.last ? el("b", { text: line.last }) : null)));
    return el("div", {}, root, legend);
  }

  // ---------- a unit's card ------------------------------------------------------------------
  function bars(rows, caption, negative = false) {
    const most = Math.max(1e-12, ...rows.map(([, v]) => Math.abs(v ?? 0)));
    const strongest = Math.max(...rows.map(([, v]) => v ?? -Infinity));
    const body = el("tbody");
    for (const [name, v, words] of rows) {
      const kind = v === strongest && v > 0 ? "value best" : v < 0 && negative ? "value neg" : "value";
      const bar = svg("svg", { class: "bar-h", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { class: "track", width: 100, height: 8 }), svg("rect", { class: kind, width: (100 * Math.abs(v ?? 0) / most).toFixed(1), height: 8 }));
      body.append(el("tr", {}, el("th", { scope: "row" }, bdi(name)), el("td", {}, bar), el("td", { class: "num", text: words })));
    }
    return el("table", { class: "bars" }, el("caption", { text: caption }), body);
  }
  function unitCard(l, card) {
    const name = unitName(l, card);
    const box = el("div", { class: "card" });
    const all = sorted(l), at = all.indexOf(card), before = all[(at - 1 + all.length) % all.length], after = all[(at + 1) % all.length];
    const title = el("h4", { id: "unit-title", tabindex: "-1" }, bdi(name), " of ", bdi(l.name));
    box.append(el("div", { class: "card-head" }, title, el("nav", { "aria-label": "Units" },
      el("a", { class: "button", href: path(l.name, before.c), "aria-label": "Previous unit" , text: "←" }), el("a", { class: "button", href: path(l.name, after.c), "aria-label": "Next unit", text: "→" }),
      el("a", { class: "button", href: path(l.name), text: "Close" }))));
    const cols = el("div", { class: "card-cols" });
    cols.append(el("div", {}, ...maximised(l, card, name)), el("div", {}, ...driven(l, card, name)), el("div", {}, ...answers(l, card, name)));
    box.append(cols);
    if (card.maps) {
      const row = card.maps.map((t, i) => el("div", {}, tile("samples", i, data.samples[i].n, () => ({ picture: data.samples[i].n }), { size: "photo" }),
        tile(l.name + "/maps", t, "Map of " + name + ": " + data.samples[i].n, () => told(l, "maps", card, { picture: data.samples[i].n }))));
      box.append(el("h5", { text: "Its maps of the sample pictures, each from its minimum to its maximum" }), el("div", { class: "row many" }, ...row));
    }
    return box;
  }
  function maximised(l, card, name) {
    const parts = [];
    if (card.filter !== undefined) parts.push(el("h5", { text: "Its filter" }), el("div", { class: "row three" }, tile(l.name + "/filters", card.filter, "Filter of " + name, () => told(l, "filters", card))));
    if (card.max) {
      parts.push(el("h5", { text: "What drives it most, from noise" }));
      parts.push(el("div", { class: "row three" }, ...card.max.map((m, i) => m.dead ? el("span", { class: "tile gone", role: "img", "aria-label": "stayed at zero" }) : tile(l.name + "/max", m.t, "Picture that drives " + name + " of " + l.name + ", noise " + (i + 1),
        () => told(l, "max", card, { copy: i, activation: m.a, shifted: m.s, ratio: m.r, spread: card.spread })))));
      const best = card.max.reduce((a, b) => ((b.a ?? -1e9) > (a.a ?? -1e9) ? b : a));
      parts.push(el("p", { class: "says" }, "activation " + card.max.map((m) => few(m.a)).join(", ") + (card.spread !== null ? " (± " + few(card.spread, 2) + " over noises)" : "")));
      if (best.dead) parts.push(el("p", { class: "says flag", text: "dead: no picture was found that moves it" }));
      else if (best.r !== null && best.r !== undefined) parts.push(el("p", { class: "says " + (best.r < 1 ? "flag" : "") }, (best.r > 100 ? "no test picture drives it noticeably" : few(best.r) + " × the strongest test picture" + (best.r < 1 ? ": weaker than the real thing" : ""))));
    }
    return parts;
  }
  function driven(l, card, name) {
    if (!card.top) return [];
    const from = l.about.top.looked_through.toLocaleString("en") + (data.has_data ? " test" : " sample") + " pictures";
    const parts = [el("h5", { text: "What drives it most, of " + from })];
    parts.push(el("div", { class: "row three" }, ...card.top.map((e) => tile(l.name + "/photos", e.p, e.n + ", activation " + few(e.a), () => ({ ...told(l, "top", card), picture: e.n, activation: e.a, box: e.b }), { box: e.b, size: "photo" }))));
    if (card.walk) {
      parts.push(el("h5", { text: "The same walked back (deconvnet), cropped to what it sees" }));
      parts.push(el("div", { class: "row three" }, ...card.walk.map((t, i) => tile(l.name + "/walk", t, "Deconvolution of " + name + ": " + card.top[i].n, () => told(l, "walk", card, { picture: card.top[i].n })))));
    }
    return parts;
  }
  function answers(l, card, name) {
    const parts = [];
    if (card.classes && card.classes.length) {
      const rows = card.classes.map((v, i) => [data.data_classes[i] ?? String(i), v, few(v, 2)]).filter(([, v]) => v !== null);
      rows.sort((a, b) => b[1] - a[1]);
      parts.push(el("h5", { text: "Mean activation by class" }), bars(rows.slice(0, 10), rows.length > 10 ? "the ten strongest of " + rows.length : ""));
      parts.push(el("p", { class: "says", text: "selectivity " + few(card.selectivity, 2) + ": share of its variance that lies between classes" }));
    }
    if (card.live !== undefined) parts.push(el("p", { class: "says " + (card.dead ? "flag" : "") }, (card.dead ? "dead: " : "") + "non-zero on " + percent(card.live) + " of the test pictures"));
    if (card.near) parts.push(el("p", { class: "says" }, "most like ", l.units.some((u) => u.c === card.near[0]) ? el("a", { href: path(l.name, card.near[0]), text: "unit " + card.near[0] }) : "unit " + card.near[0], ", correlation " + few(card.near[1], 2)));
    if (card.drop !== undefined) {
      const rows = card.drops.map((v, i) => [data.classes[i] ?? String(i), v, v === null ? "–" : points(v)]).filter(([, v]) => v !== null);
      rows.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
      parts.push(el("h5", { text: "Without it" }), el("p", { class: "says" }, "accuracy " + points(card.drop) + " points of " + percent(l.ablation.accuracy, 2) + " (" + l.ablation.pictures.toLocaleString("en") + " pictures)"));
      if (rows.some(([, v]) => v)) parts.push(bars(rows.slice(0, 4), "classes that change most, points", true));
    }
    return parts;
  }

  // ---------- twin, film ---------------------------------------------------------------------
  function fillTwin() {
    const at = $("twins"), l = at && layer(at.dataset.layer);
    if (l) at.replaceChildren(table("Layer " + l.name + ": trained, and below it through random weights", walkRows(l)));
  }
  function compose(key, from, n, columns, gap, pen, x0, y0, factor) {
    return picture(key).then(({ sprite, image }) => {
      pen.imageSmoothingEnabled = false;
      for (let i = 0; i < n; i++) {
        const [x, y] = place(sprite, from + i);
        pen.drawImage(image, x, y, sprite.w, sprite.h, x0 + (i % columns) * (sprite.w + gap) * factor, y0 + Math.floor(i / columns) * (sprite.h + gap) * factor, sprite.w * factor, sprite.h * factor);
      }
    });
  }
  function gridCanvas(key, n, columns, factor, label) {
    const s = data.sprites[key], rows = Math.ceil(n / columns);
    const canvas = el("canvas", { role: "img", "aria-label": label });
    canvas.width = (columns * (s.w + 1) - 1) * factor;
    canvas.height = (rows * (s.h + 1) - 1) * factor;
    return canvas;
  }
  function fillFilm() {
    const film = data.learned;
    if (!film) return;
    const kinds = [["learned-filters", film.filters, 8, 4, "First filters"], ["learned-pictures", film.units.length, 4, 2, "What drives " + film.units.length + " units of " + film.layer]].filter(([key]) => data.sprites[key]);
    for (const frame of document.querySelectorAll(".frame")) {
      const moment = Number(frame.dataset.moment);
      for (const [key, n, columns, factor, label] of kinds) {
        const canvas = gridCanvas(key, n, columns, factor, label + " at epoch " + film.epochs[moment]);
        compose(key, moment * n, n, columns, 1, canvas.getContext("2d"), 0, 0, factor);
        frame.append(canvas);
      }
    }
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    for (const [key, n, columns, , label] of kinds) {
      const factor = key === "learned-filters" ? 6 : 3, last = film.epochs.length - 1;
      const canvas = gridCanvas(key, n, columns, factor, label + ", from step 0 to the end"), words = el("p");
      let moment = 0, timer = 0;
      const show = (m) => { moment = m; compose(key, m * n, n, columns, 1, canvas.getContext("2d"), 0, 0, factor); words.textContent = label + ", epoch " + film.epochs[m]; };
      const button = el("button", { type: "button" });
      const play = (on) => {
        clearTimeout(timer); timer = 0;
        button.textContent = on ? "Pause" : "Play";
        button.setAttribute("aria-label", (on ? "Pause: " : "Play: ") + label);
        const next = () => { show(moment === last ? 0 : moment + 1); timer = setTimeout(next, moment === last ? 1600 : 750); };
        if (on) timer = setTimeout(next, 750);
      };
      button.addEventListener("click", () => play(!timer));
      show(still ? last : 0); play(!still);
      const save = el("a", { class: "button", href: "data:image/webp;base64," + film.film[key], download: key + ".webp", text: "Save", "aria-label": "Save the animation: " + label });
      const told = new Blob([JSON.stringify({ title: label, report: data.title, ...film.about[key] }, null, 1)], { type: "application/json" });
      const how = el("a", { class: "button", href: URL.createObjectURL(told), download: key + ".json", text: "JSON", "aria-label": "Save how it was made: " + label });
      $("films").append(el("figure", { class: "film" }, canvas, words, el("p", { class: "actions" }, button, save, how)));
    }
  }

  // ---------- search -------------------------------------------------------------------------
  function search(words) {
    const wanted = words.trim().toLowerCase();
    if (!wanted) { $("found").replaceChildren(); return; }
    const hits = [];
    data.layers.forEach((name, i) => {
      for (const [c, called, strongest, dead] of data.units[i]) {
        const tags = [String(c), called, dead ? "dead" : "", data.data_classes[strongest] || "", name + "/" + c];
        if (tags.some((tag) => tag && (tag.toLowerCase() === wanted || (wanted.length > 1 && tag.toLowerCase().includes(wanted))))) hits.push([name, c]);
      }
    });
    const shown = hits.slice(0, 40);
    $("found").replaceChildren(hits.length + (hits.length === 1 ? " unit" : " units") + (shown.length < hits.length ? ", the first 40: " : hits.length ? ": " : ""),
      ...shown.flatMap(([name, c], i) => [i ? ", " : "", el("a", { href: path(name, c), text: name + "/" + c })]));
  }
  $("search") && $("search").addEventListener("input", (event) => search(event.target.value));

  // ---------- where we are -------------------------------------------------------------------
  function route() {
    const match = /^#\/([^/]+)(?:\/(\d+))?$/.exec(location.hash);
    if (!match) return null;
    let name;
    try { name = decodeURIComponent(match[1]); } catch { return null; }
    return { name, unit: match[2] === undefined ? undefined : Number(match[2]) };
  }
  function go(first) {
    const at = route();
    if (!at) { if (first && data.layers.length) showLayer(data.layers.find((name) => name in data.blocks) || data.layers[0]); return; }
    if (!(at.name in data.blocks) && data.pages[at.name]) { location.href = data.pages[at.name] + location.hash; return; }
    showLayer(at.name, at.unit);
    const focus = $("unit-title") || $("panel").querySelector("h3");
    if (focus) { focus.focus({ preventScroll: true }); $("layers").scrollIntoView({ block: "start" }); }
  }
  addEventListener("hashchange", () => go(false));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("lens").open) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.target.matches(".twin-table, .scroll")) return;
    if (event.key === "/" && $("search")) { event.preventDefault(); $("search").focus(); return; }
    const at = route();
    if (!at || !data.layers.length) return;
    const l = layer(at.name), i = data.layers.indexOf(at.name);
    const units = l ? sorted(l) : [], u = units.findIndex((card) => card.c === at.unit);
    if (event.key === "Escape" && at.unit !== undefined) { location.hash = path(at.name); event.preventDefault(); return; }
    const inside = $("panel").contains(event.target) || $("rail").contains(event.target);
    if (!inside && (event.target !== document.body || event.key === "ArrowUp" || event.key === "ArrowDown")) return;
    if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && units.length) {
      const step = event.key === "ArrowRight" ? 1 : -1;
      location.hash = path(at.name, units[u < 0 ? (step > 0 ? 0 : units.length - 1) : (u + step + units.length) % units.length].c);
      event.preventDefault();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && i >= 0) {
      const next = i + (event.key === "ArrowDown" ? 1 : -1);
      if (next >= 0 && next < data.layers.length) location.hash = path(data.layers[next]);
      event.preventDefault();
    }
  });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // ---------- tiles that stand in the page itself --------------------------------------------
  for (const button of document.querySelectorAll("button.tile[data-sprite]")) {
    const { sprite, tile: t, about } = button.dataset, number = Number(t);
    const owner = sprite.includes("/") ? sprite.slice(0, sprite.lastIndexOf("/")) : null;
    if (owner && !layer(owner)) { button.remove(); continue; }
    button.append(draw(sprite, number));
    button.addEventListener("click", () => {
      const [, what, unit, copy] = about.split(":"), l = owner && layer(owner);
      const card = l && unit !== undefined ? l.units.find((each) => each.c === Number(unit)) : null;
      const m = card && card.max ? card.max[Number(copy)] : null;
      look(sprite, number, button.getAttribute("aria-label"), l ? told(l, what, card, m ? { copy: Number(copy), activation: m.a, ratio: m.r } : {}) : { picture: about });
    });
  }
  fillTwin();
  fillFilm();
  go(true);
  document.documentElement.dataset.ready = "yes";
})();
