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
  const few = (v, digits = 3) => (v === null || v === undefined ? "–" : String(Number(Number(v).toPrecision(digits))));
  const percent = (v, digits = 1) => (v === null || v === undefined ? "–" : (100 * v).toFixed(digits) + " %");
  const points = (v) => (v > 0 ? "−" : v < 0 ? "+" : "") + Math.abs(100 * v).toFixed(1);
  const path = (name, channel) => "#/" + encodeURIComponent(name) + (channel === undefined ? "" : "/" + channel);
  const bdi = (text) => el("bdi", { text });

  // ---------- data ---------------------------------------------------------------------------
  function layerNamed(name) {
    if (!layers.has(name)) layers.set(name, name in data.blocks ? json("layer-" + data.blocks[name]) : null);
    return layers.get(name);
  }
  function spriteOf(key) {
    const at = key.lastIndexOf("/");
    if (at < 0) return data.sprites[key];
    const found = layerNamed(key.slice(0, at));
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

  const unitName = (unit) => unit.name || "unit " + unit.channel;
  // How a picture was made; `again`: what `torchloupe again FILE.json --model MODEL` needs beside that.
  function made(layer, what, unit, extra = {}, again = null) {
    return { ...(layer.about[what] || {}), layer: layer.name, ...(unit ? { unit: unit.channel } : {}), ...extra, ...(again ? { again } : {}) };
  }
  const ofSample = (i, unit) => data.sample_words[i] && { pictures: [data.sample_words[i]], ...(unit ? { channels: [unit.channel] } : {}) };

  const fromExample = (unit, example) => example.word && { pictures: [example.word], channels: { each_image: [unit.channel] }, settings: { position: [example.position] } };

  // ---------- a layer ------------------------------------------------------------------------
  const orders = {
    number: ["number", (a, b) => a.channel - b.channel],
    correlation: ["correlation ratio", (a, b) => (b.correlation_ratio ?? -1) - (a.correlation_ratio ?? -1)],
    drop: ["drop by ablation", (a, b) => (b.drop ?? -2) - (a.drop ?? -2)],
    ratio: ["strength of its visualization", (a, b) => strength(b) - strength(a)],
  };
  const strength = (unit) => Math.max(-1, ...unit.maximizing.map((copy) => copy.ratio ?? -1));
  let order = "number";
  const sorted = (layer) => [...layer.units].sort(orders[order][1]);

  function thumb(layer, unit) {
    if (unit.filter !== undefined) return [layer.name + "/filters", unit.filter];
    if (unit.maximizing.length) return [layer.name + "/maximize", unit.maximizing[0].tile];
    if (unit.maps.length) return [layer.name + "/maps", unit.maps[0]];
    if (unit.examples.length) return [layer.name + "/photos", unit.examples[0].tile];
    return null;
  }
  function unitGrid(layer, chosen) {
    const list = el("ul", { class: "units" });
    for (const unit of sorted(layer)) {
      const seen = thumb(layer, unit);
      const label = unitName(unit) + (unit.dead ? ", dead" : "");
      const a = el("a", { href: path(layer.name, unit.channel), "aria-label": label, "aria-current": unit.channel === chosen ? "true" : null });
      a.append(seen ? draw(seen[0], seen[1]) : el("canvas", { width: 8, height: 8, "aria-hidden": "true" }));
      a.append(el("span", { class: "cap" }, unit.name ? bdi(unit.name) : String(unit.channel), unit.dead ? el("span", { class: "flag", text: " dead" }) : null));
      list.append(el("li", {}, a));
    }
    return list;
  }
  function chips(layer) {
    const facts = [layer.kind];
    if (layer.shape) facts.push(layer.shape.join(" × "));
    if (layer.receptive_field) facts.push("sees " + Math.max(...layer.receptive_field) + (layer.clipped ? "*" : "") + " px, effectively " + few(layer.effective, 2));
    if (layer.parameters) facts.push(layer.parameters.toLocaleString("en") + " parameters");
    if (layer.dead !== undefined) facts.push(percent(layer.dead, 0) + " dead");
    else if (layer.images) facts.push("dead: does not apply, not behind a rectifier");
    if (layer.duplicates !== undefined) facts.push(percent(layer.duplicates, 0) + " near-duplicates");
    if (layer.ablated) facts.push("ablated behind " + layer.ablated.site + ", " + layer.ablated.images.toLocaleString("en") + " pictures, " + percent(layer.ablated.accuracy, 2) + " with all");
    if (layer.ablated && layer.ablated.units) facts.push(layer.ablated.found + " of " + layer.ablated.units + " units with a measurable effect as zero" + (layer.ablated.found_mean !== undefined ? ", " + layer.ablated.found_mean + " as their mean" : ""));
    return el("ul", { class: "chips" }, ...facts.map((text) => el("li", { text })));
  }
  function reveal(box, item) { // scrolls the box alone, not the page
    const outer = box.getBoundingClientRect(), inner = item.getBoundingClientRect();
    box.scrollLeft += Math.max(0, inner.right - outer.right) + Math.min(0, inner.left - outer.left);
    box.scrollTop += Math.max(0, inner.bottom - outer.bottom) + Math.min(0, inner.top - outer.top);
  }
  function showLayer(name, channel) {
    const layer = layerNamed(name), panel = $("panel");
    if (!layer) { panel.replaceChildren(el("p", { class: "note", text: "There is no layer " + name + " in this report." })); return; }
    const unit = channel === undefined ? null : layer.units.find((each) => each.channel === channel) || null;
    const head = el("div", { class: "layer-head" }, el("h3", { tabindex: "-1" }, bdi(layer.name)));
    const parts = [head, chips(layer)];
    if (channel !== undefined) parts.push(unit ? unitCard(layer, unit) : el("p", { class: "says flag", text: "Unit " + channel + " of " + layer.name + " is not shown in this report." }));
    const select = el("select", { onchange: (event) => { order = event.target.value; showLayer(name, channel); $("panel").querySelector("select").focus(); } });
    for (const [key, [text]] of Object.entries(orders)) select.append(el("option", { value: key, text, ...(key === order ? { selected: "" } : {}) }));
    const label = el("label", {}, "Order by ", select);
    parts.push(el("div", { class: "tools" }, el("h4", { text: layer.units.length + " of " + layer.count + " units" }), label));
    parts.push(unitGrid(layer, channel));
    if (layer.rest) parts.push(el("p", { class: "note", text: layer.rest }));
    if (channel === undefined) parts.push(...[inverted(layer), controlled(layer), mapsOf(layer)].filter(Boolean));
    panel.replaceChildren(...parts);
    for (const a of $("rail").querySelectorAll("a")) {
      if (a.dataset.layer !== name) { a.removeAttribute("aria-current"); continue; }
      a.setAttribute("aria-current", "true");
      for (const box of [$("rail"), $("rail").parentElement]) reveal(box, a);
    }
  }

  // ---------- what a layer makes of the sample pictures --------------------------------------
  function table(head, rows) {
    return el("div", {}, el("p", { class: "note", text: head }), el("div", { class: "tile-table", tabindex: "0", role: "group", "aria-label": head },
      el("table", {}, el("tbody", {}, ...rows.map(([name, cells]) =>
        el("tr", {}, el("th", { scope: "row", text: name }), ...cells.map((cell) => el("td", {}, ...(Array.isArray(cell) ? cell : [cell])))))))));
  }
  const sampleTile = (i) => tile("samples", i, data.samples[i], () => ({ picture: data.samples[i] }), { size: "photo" });
  const photos = () => data.samples.map((_, i) => sampleTile(i));
  function inverted(layer) {
    const inversions = layer.inversions;
    if (!inversions) return null;
    const row = (from, name) => data.samples.map((sample, i) => [tile(layer.name + "/invert", from + i, name + " from " + layer.name + ": " + sample,
      () => made(layer, "invert", null, { picture: sample, random_weights: from > 0, ...inversions.scores[from + i] }, ofSample(i))), el("span", { class: "cap", text: few(inversions.scores[from + i].psnr) + " dB" })]);
    const box = el("div", {}, el("h4", { text: "Inversion: what the layer keeps of a picture" }),
      table("Reconstructed by optimisation from all of the layer's features; below: PSNR to the original", [["picture", photos()], ["reconstructed", row(0, "Reconstruction")], ["random weights", row(data.samples.length, "Reconstruction through random weights")]]));
    if (inversions.chart) box.append(el("div", { class: "cols" }, el("div", {}, el("h4", { text: "Relative error, median of the pictures" }), drawn(inversions.chart))));
    return box;
  }
  function drawn(chart) { // a chart comes as the SVG that Python made
    const box = el("template");
    box.innerHTML = chart;
    return el("div", {}, box.content);
  }
  function controlRows(layer) {
    const n = data.samples.length, rows = [["picture", photos()]];
    for (const rule of ["deconvnet", "guided", "gradient"]) {
      if (!layer.sprites[rule]) continue;
      for (const [from, name] of [[0, rule], [n, "random weights"]]) {
        rows.push([name, data.samples.map((sample, i) => tile(layer.name + "/" + rule, from + i, rule + (from ? " through random weights" : "") + " from " + layer.name + ": " + sample,
          () => made(layer, rule, null, { picture: sample, random_weights: from > 0, spearman: layer.correlations[rule][i] }, ofSample(i))))]);
      }
    }
    return rows;
  }
  function controlled(layer) {
    const rows = controlRows(layer);
    if (rows.length < 2) return null;
    return el("div", {}, el("h4", { text: "Backpropagated from the layer to the picture" }), table("From the strongest tenth of every map; each picture symmetric around mid grey", rows));
  }
  function mapsOf(layer) {
    if (!layer.sprites.pca) return null;
    const row = data.samples.map((sample, i) => tile(layer.name + "/pca", i, "PCA of the maps of " + layer.name + ": " + sample, () => made(layer, "maps", null, { picture: sample, shown: "PCA" }, ofSample(i))));
    return el("div", {}, el("h4", { text: "All maps at once" }), table("The three principal components of the maps, as red, green and blue", [["picture", photos()], ["PCA", row]]));
  }

  // ---------- a unit -------------------------------------------------------------------------
  function bars(rows, caption, negative = false) {
    const most = Math.max(1e-12, ...rows.map(([, value]) => Math.abs(value ?? 0)));
    const strongest = Math.max(...rows.map(([, value]) => value ?? -Infinity));
    const body = el("tbody");
    for (const [name, value, words] of rows) {
      const kind = value === strongest && value > 0 ? "best" : value < 0 && negative ? "negative" : null;
      const bar = el("progress", { class: kind, value: (Math.abs(value ?? 0) / most).toFixed(3), "aria-hidden": "true" });
      body.append(el("tr", {}, el("th", { scope: "row" }, bdi(name)), el("td", {}, bar), el("td", { class: "num", text: words })));
    }
    return el("table", { class: "bars" }, el("caption", { text: caption }), body);
  }
  function unitCard(layer, unit) {
    const name = unitName(unit);
    const box = el("div", { class: "card" });
    const all = sorted(layer), at = all.indexOf(unit), before = all[(at - 1 + all.length) % all.length], after = all[(at + 1) % all.length];
    const title = el("h4", { id: "unit-title", tabindex: "-1" }, bdi(name), " of ", bdi(layer.name));
    box.append(el("div", { class: "card-head" }, title, el("nav", { "aria-label": "Units" },
      el("a", { class: "button", href: path(layer.name, before.channel), "aria-label": "Previous unit", text: "←" }), el("a", { class: "button", href: path(layer.name, after.channel), "aria-label": "Next unit", text: "→" }),
      el("a", { class: "button", href: path(layer.name), text: "Close" }))));
    const cols = el("div", { class: "card-cols" });
    cols.append(el("div", {}, ...visualizations(layer, unit, name)), el("div", {}, ...examples(layer, unit, name)), el("div", {}, ...statistics(layer, unit)));
    box.append(cols);
    if (unit.maps.length) {
      const row = unit.maps.map((t, i) => el("div", {}, sampleTile(i),
        tile(layer.name + "/maps", t, "Map of " + name + ": " + data.samples[i], () => made(layer, "maps", unit, { picture: data.samples[i] }, ofSample(i, unit)))));
      box.append(el("h5", { text: "Its maps of the sample pictures, each from its minimum to its maximum" }), el("div", { class: "row many" }, ...row));
    }
    return box;
  }
  function visualizations(layer, unit, name) {
    const parts = [];
    if (unit.filter !== undefined) parts.push(el("h5", { text: "Its filter" }), el("div", { class: "row three" }, tile(layer.name + "/filters", unit.filter, "Filter of " + name, () => made(layer, "filters", unit, {}, { channels: [unit.channel] }))));
    if (!unit.maximizing.length) return parts;
    parts.push(el("h5", { text: "Feature visualization, from noise" }));
    parts.push(el("div", { class: "row three" }, ...unit.maximizing.map((copy, i) => copy.dead ? el("span", { class: "tile gone", role: "img", "aria-label": "stayed at zero" }) : tile(layer.name + "/maximize", copy.tile, "Feature visualization of " + name + " of " + layer.name + ", noise " + (i + 1),
      () => made(layer, "maximize", unit, { copy: i, activation: copy.activation, shifted: copy.shifted, ratio: copy.ratio, spread: unit.spread }, { channels: [unit.channel] })))));
    const best = unit.maximizing.reduce((a, b) => ((b.activation ?? -1e9) > (a.activation ?? -1e9) ? b : a));
    parts.push(el("p", { class: "says" }, "activation " + unit.maximizing.map((copy) => few(copy.activation)).join(", ") + (unit.spread !== undefined ? " (± " + few(unit.spread, 2) + " over noises)" : "")));
    if (best.dead) parts.push(el("p", { class: "says flag", text: "dead: no picture was found that activates it" }));
    else if (best.ratio !== undefined) parts.push(el("p", { class: "says " + (best.ratio < 1 ? "flag" : "") }, (best.ratio > 100 ? "no test picture activates it noticeably" : few(best.ratio) + " × the strongest test picture" + (best.ratio < 1 ? ": weaker than the real thing" : ""))));
    return parts;
  }
  function examples(layer, unit, name) {
    if (!unit.examples.length) return [];
    const from = layer.about.examples.looked_through.toLocaleString("en") + (data.has_data ? " test" : " sample") + " pictures";
    const parts = [el("h5", { text: "Maximally activating, of " + from })];
    parts.push(el("div", { class: "row three" }, ...unit.examples.map((example) => tile(layer.name + "/photos", example.tile, example.name + ", activation " + few(example.activation),
      () => made(layer, "examples", unit, { picture: example.name, activation: example.activation, box: example.box }, layer.about.examples.whole ? { channels: [unit.channel] } : null), { box: example.box, size: "photo" }))));
    if (unit.backpropagated.length) {
      parts.push(el("h5", { text: "Their deconvnet, cropped to the receptive field" }));
      parts.push(el("div", { class: "row three" }, ...unit.backpropagated.map((t, i) => tile(layer.name + "/backpropagated", t, "Deconvnet of " + name + ": " + unit.examples[i].name, () => made(layer, "backpropagated", unit, { picture: unit.examples[i].name }, fromExample(unit, unit.examples[i]))))));
    }
    return parts;
  }
  function statistics(layer, unit) {
    const parts = [];
    if (unit.class_means.length) {
      const rows = unit.class_means.map((value, i) => [data.data_classes[i] ?? String(i), value, few(value, 2)]).filter(([, value]) => value !== null);
      rows.sort((a, b) => b[1] - a[1]);
      parts.push(el("h5", { text: "Mean activation by class" }), bars(rows.slice(0, 10), rows.length > 10 ? "the ten strongest of " + rows.length : ""));
      parts.push(el("p", { class: "says", text: "correlation ratio η² " + few(unit.correlation_ratio, 2) + ", without what chance gives ω² " + few(unit.omega_squared, 2) + ": share of its variance over " + layer.images.toLocaleString("en") + " pictures that lies between classes" }));
      if (unit.class_selectivity !== undefined) parts.push(el("p", { class: "says", text: "class selectivity index " + few(unit.class_selectivity, 2) + " (Morcos et al. 2018), of these means" }));
    }
    if (unit.told) parts.push(tells(unit.told));
    if (unit.live !== undefined) parts.push(el("p", { class: "says " + (unit.dead ? "flag" : "") }, (unit.dead ? "dead: " : "") + "non-zero on " + percent(unit.live) + " of " + layer.images.toLocaleString("en") + " test pictures (95 %: " + percent(unit.live_ends[0]) + " to " + percent(unit.live_ends[1]) + ")"));
    if (unit.near) {
      const [other, correlation] = unit.near, shown = layer.units.some((each) => each.channel === other);
      parts.push(el("p", { class: "says" }, "most like ", shown ? el("a", { href: path(layer.name, other), text: "unit " + other }) : "unit " + other, ", correlation " + few(correlation, 2)));
    }
    if (unit.drop !== undefined) {
      const rows = unit.class_drops.map((value, i) => [data.classes[i] ?? String(i), value, value === null ? "–" : points(value)]).filter(([, value]) => value !== null);
      rows.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
      parts.push(el("h5", { text: "Zero-ablation" }), unit.effect ? lost(layer, unit.effect) : el("p", { class: "says" }, "accuracy " + points(unit.drop) + " points of " + percent(layer.ablated.accuracy, 2) + " (" + layer.ablated.images.toLocaleString("en") + " pictures; of an earlier version, without a test)"));
      if (rows.some(([, value]) => value)) parts.push(bars(rows.slice(0, 4), "classes that change most, points", true));
      if (unit.mean_effect) parts.push(el("h5", { text: "Mean-ablation" }), lost(layer, unit.mean_effect));
    }
    return parts;
  }
  function tells(told) {
    const numbers = "AUC " + few(told.auc, 3) + " (95 % for all " + told.classes + " classes together: " + few(told.low, 3) + " to " + few(told.high, 3) + "; " + told.inside.toLocaleString("en") + " of " + told.images.toLocaleString("en") + " pictures)";
    const name = bdi(data.data_classes[told.label] ?? String(told.label));
    return told.low > 0.5 ? el("p", { class: "says" }, "of all classes it tells ", name, " best from the others, " + numbers) : el("p", { class: "says" }, "no class is told from the others: at best ", name, ", " + numbers);
  }
  function lost(layer, effect) { // what the network loses without a unit, with what says that it could be chance
    const counts = layer.ablated.images.toLocaleString("en") + " pictures: " + effect.lost + " lost, " + effect.gained + " gained";
    const said = "accuracy " + points(effect.drop) + " ± " + (100 * effect.error).toFixed(2) + " points of " + percent(layer.ablated.accuracy, 2) + " (paired standard error, " + counts + "; p = " + few(effect.p, 2) + ")";
    return el("p", { class: "says" }, said + (effect.found ? ": found" : ": no measurable effect") + " at a false discovery rate of 5 % among " + layer.ablated.units + " units");
  }

  // ---------- control, film ------------------------------------------------------------------
  function fillControls() {
    const at = $("controls"), layer = at && layerNamed(at.dataset.layer);
    if (layer) at.replaceChildren(table("Layer " + layer.name + ": trained, and below it through random weights", controlRows(layer)));
  }
  function frame(strip, moment, label) { // the tiles of one moment in one canvas
    const s = data.sprites[strip.sprite], rows = Math.ceil(strip.count / strip.columns);
    const canvas = el("canvas", { role: "img", "aria-label": label });
    canvas.width = strip.columns * (s.w + 1) - 1;
    canvas.height = rows * (s.h + 1) - 1;
    paint(canvas, strip, moment);
    return canvas;
  }
  function paint(canvas, strip, moment) {
    picture(strip.sprite).then(({ sprite, image }) => {
      const pen = canvas.getContext("2d");
      for (let i = 0; i < strip.count; i++) {
        const [x, y] = place(sprite, moment * strip.count + i);
        pen.drawImage(image, x, y, sprite.w, sprite.h, (i % strip.columns) * (sprite.w + 1), Math.floor(i / strip.columns) * (sprite.h + 1), sprite.w, sprite.h);
      }
    });
  }
  function fillFilm() {
    const film = data.film;
    if (!film) return;
    for (const at of document.querySelectorAll(".frame")) {
      const moment = Number(at.dataset.moment);
      for (const strip of film.strips) at.append(frame(strip, moment, strip.title + " at epoch " + film.epochs[moment]));
    }
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches, last = film.epochs.length - 1;
    for (const strip of film.strips) {
      const canvas = frame(strip, 0, strip.title + ", from step 0 to the end"), words = el("p");
      let moment = 0, timer = 0;
      const show = (m) => { moment = m; paint(canvas, strip, m); words.textContent = strip.title + ", epoch " + film.epochs[m]; };
      const button = el("button", { type: "button" });
      const play = (on) => {
        clearTimeout(timer); timer = 0;
        button.textContent = on ? "Pause" : "Play";
        button.setAttribute("aria-label", (on ? "Pause: " : "Play: ") + strip.title);
        const next = () => { show(moment === last ? 0 : moment + 1); timer = setTimeout(next, moment === last ? 1600 : 750); };
        if (on) timer = setTimeout(next, 750);
      };
      button.addEventListener("click", () => play(!timer));
      show(still ? last : 0); play(!still);
      const save = el("a", { class: "button", href: "data:image/webp;base64," + strip.animation, download: strip.sprite + ".webp", text: "Save", "aria-label": "Save the animation: " + strip.title });
      const how = new Blob([JSON.stringify({ title: strip.title, report: data.title, ...strip.about }, null, 1)], { type: "application/json" });
      const json = el("a", { class: "button", href: URL.createObjectURL(how), download: strip.sprite + ".json", text: "JSON", "aria-label": "Save how it was made: " + strip.title });
      $("films").append(el("figure", { class: "film" }, canvas, words, el("p", { class: "actions" }, button, save, json)));
    }
  }

  // ---------- search -------------------------------------------------------------------------
  function search(words) {
    const wanted = words.trim().toLowerCase();
    if (!wanted) { $("found").replaceChildren(); return; }
    const hits = [];
    data.layers.forEach((name, i) => {
      for (const [channel, called, strongest, dead] of data.units[i]) {
        const tags = [String(channel), called, dead ? "dead" : "", data.data_classes[strongest] || "", name + "/" + channel];
        if (tags.some((tag) => tag && (tag.toLowerCase() === wanted || (wanted.length > 1 && tag.toLowerCase().includes(wanted))))) hits.push([name, channel]);
      }
    });
    const shown = hits.slice(0, 40);
    $("found").replaceChildren(hits.length + (hits.length === 1 ? " unit" : " units") + (shown.length < hits.length ? ", the first 40: " : hits.length ? ": " : ""),
      ...shown.flatMap(([name, channel], i) => [i ? ", " : "", el("a", { href: path(name, channel), text: name + "/" + channel })]));
  }
  $("search") && $("search").addEventListener("input", (event) => search(event.target.value));

  // ---------- where we are -------------------------------------------------------------------
  function route() {
    const match = /^#\/([^/]+)(?:\/(\d+))?$/.exec(location.hash);
    if (!match) return null;
    let name;
    try { name = decodeURIComponent(match[1]); } catch { return null; }
    return { name, channel: match[2] === undefined ? undefined : Number(match[2]) };
  }
  function go(first) {
    const at = route();
    if (!at) { if (first && data.layers.length) showLayer(data.layers.find((name) => name in data.blocks) || data.layers[0]); return; }
    if (!(at.name in data.blocks) && data.pages[at.name]) { location.href = data.pages[at.name] + location.hash; return; }
    showLayer(at.name, at.channel);
    const focus = $("unit-title") || $("panel").querySelector("h3");
    if (focus) { focus.focus({ preventScroll: true }); $("layers").scrollIntoView({ block: "start" }); }
  }
  addEventListener("hashchange", () => go(false));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("lens").open) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.target.matches(".tile-table, .scroll")) return;
    if (event.key === "/" && $("search")) { event.preventDefault(); $("search").focus(); return; }
    const at = route();
    if (!at || !data.layers.length) return;
    const layer = layerNamed(at.name), i = data.layers.indexOf(at.name);
    const units = layer ? sorted(layer) : [], u = units.findIndex((unit) => unit.channel === at.channel);
    if (event.key === "Escape" && at.channel !== undefined) { location.hash = path(at.name); event.preventDefault(); return; }
    const inside = $("panel").contains(event.target) || $("rail").contains(event.target);
    if (!inside && (event.target !== document.body || event.key === "ArrowUp" || event.key === "ArrowDown")) return;
    if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && units.length) {
      const step = event.key === "ArrowRight" ? 1 : -1;
      location.hash = path(at.name, units[u < 0 ? (step > 0 ? 0 : units.length - 1) : (u + step + units.length) % units.length].channel);
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
    const { sprite, tile: t, about } = button.dataset;
    const owner = sprite.includes("/") ? sprite.slice(0, sprite.lastIndexOf("/")) : null;
    if (owner && !layerNamed(owner)) { button.remove(); continue; }
    button.append(draw(sprite, Number(t)));
    button.addEventListener("click", () => {
      const [, what, channel, number] = about.split(":"), layer = owner && layerNamed(owner);
      const unit = layer && channel !== undefined ? layer.units.find((each) => each.channel === Number(channel)) : null;
      const copy = unit && unit.maximizing[Number(number)];
      look(sprite, Number(t), button.getAttribute("aria-label"), layer ? made(layer, what, unit, copy ? { copy: Number(number), activation: copy.activation, ratio: copy.ratio } : {}, unit ? { channels: [unit.channel] } : null) : { picture: about });
    });
  }
  fillControls();
  fillFilm();
  go(true);
  document.documentElement.dataset.ready = "yes";
})();
