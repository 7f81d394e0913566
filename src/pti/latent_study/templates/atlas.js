"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const shape = ["circle", "circle-open", "diamond", "square", "triangle-up", "triangle-down"];
const members = data.groups.map((group) => indices((i) => data.group[i] === group));
const state = { method: Object.keys(data.methods)[0], color: data.color_by, chosen: -1, selected: null };

function indices(condition) {
  return data.names.flatMap((_, i) => (condition(i) ? [i] : []));
}

function format(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 1000 ? String(Math.round(value)) : value.toPrecision(3);
}

function element(tag, content, attributes = {}) {
  const node = document.createElement(tag);
  Object.assign(node, attributes);
  node.append(...[].concat(content));
  return node;
}

// Colours

function onScale(value, [low, high]) {
  if (value === null) return data.unknown;
  const position = Math.min(1, Math.max(0, (value - low) / (high - low))) * (data.scale.length - 1);
  const step = Math.min(data.scale.length - 2, Math.floor(position));
  const channel = (color, n) => parseInt(color.slice(1 + 2 * n, 3 + 2 * n), 16);
  const rgb = [0, 1, 2].map((n) => {
    const [a, b] = [channel(data.scale[step], n), channel(data.scale[step + 1], n)];
    return Math.round(a + (b - a) * (position - step));
  });
  return `rgb(${rgb})`;
}

function colorOf(i) {
  const attribute = data.attributes[state.color];
  if (attribute) return onScale(attribute.values[i], attribute.limits);
  return data.colors[state.color][data[state.color][i]] ?? data.unknown;
}

// The map

function hoverText(i) {
  const attributes = Object.values(data.attributes).map(({ label, values }) => `${label}: ${format(values[i])}`);
  const patient = data.patient[i] ? `patient ${data.patient[i]}` : "";
  const labels = [patient, data.group[i], data.split[i]].filter(Boolean).join(", ");
  return [`<b>${escape(data.names[i])}</b>`, escape(labels), ...attributes].join("<br>");
}

function escape(text) {
  return text.replace(/[&<>]/g, (character) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[character]);
}

function linesBetween(pairs) {
  const { x, y } = data.methods[state.method];
  const ends = (axis) => pairs.flatMap(([a, b]) => [axis[a], axis[b], null]);
  return { x: ends(x), y: ends(y) };
}

function traces() {
  const { x, y } = data.methods[state.method];
  const pairs = members[0].filter((i) => data.partner[i] >= 0).map((i) => [i, data.partner[i]]);
  const lines = $("join").checked ? linesBetween(pairs) : { x: [], y: [] };
  const quiet = { hoverinfo: "skip", showlegend: false };
  const points = members.map((own, n) => ({
    type: "scatter", mode: "markers", name: data.groups[n], showlegend: false,
    x: own.map((i) => x[i]), y: own.map((i) => y[i]), customdata: own, text: own.map(hoverText),
    hovertemplate: "%{text}<extra></extra>",
    selectedpoints: state.selected && own.flatMap((i, at) => (state.selected.has(i) ? [at] : [])),
    marker: {
      symbol: shape[n % shape.length], color: own.map(colorOf), size: n === 1 ? 9 : 8,
      line: { width: n === 1 ? 1.8 : 0.5, ...(n === 1 ? {} : { color: css("--card") }) },
    },
    unselected: { marker: { opacity: 0.13 } },
  }));
  const chosen = [state.chosen, data.partner[state.chosen]].filter((i) => i >= 0);
  const ring = {
    ...quiet, type: "scatter", mode: "lines+markers", x: chosen.map((i) => x[i]), y: chosen.map((i) => y[i]),
    line: { color: css("--ink"), width: 1.2, dash: "dot" },
    marker: { symbol: "circle-open", size: 18, color: css("--ink"), line: { width: 2 } },
  };
  return [{ ...quiet, type: "scatter", mode: "lines", ...lines, line: { color: css("--soft"), width: 0.5 }, opacity: 0.3 }, ring, ...points];
}

function layout() {
  const [first, second] = data.methods[state.method].axes;
  const axis = (text) => ({
    title: { text, standoff: 6 }, gridcolor: css("--line"), zeroline: false, linecolor: css("--line"),
    tickfont: { color: css("--soft"), size: 11 }, automargin: true,
  });
  return {
    margin: { l: 48, r: 12, t: 30, b: 42 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: css("--soft"), size: 12 },
    xaxis: axis(first), yaxis: axis(second), dragmode: "lasso", hovermode: "closest",
    uirevision: state.method, selectionrevision: Math.random(), selections: [],
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink"), size: 12 }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--accent") },
    newselection: { line: { color: css("--accent"), width: 1.5 } },
  };
}

const settings = {
  displaylogo: false, responsive: true, scrollZoom: true,
  modeBarButtons: [["lasso2d", "select2d", "pan2d", "zoom2d"], ["resetScale2d", "toImage"]],
  toImageButtonOptions: { filename: "projection", scale: 3 },
};

function draw() {
  $("note").textContent = data.methods[state.method].note && `Settings: ${data.methods[state.method].note}.`;
  legend();
  return Plotly.react("map", traces(), layout(), settings);
}

function legend() {
  const grouped = state.color === "group";
  const marks = data.groups.map((group, n) => {
    const dot = element("i", "", { className: n === 1 ? "dot" : "dot full" });
    dot.style.color = grouped ? data.colors.group[group] : css("--soft");
    return element("span", [dot, `${group} (${members[n].length})`]);
  });
  const attribute = data.attributes[state.color];
  if (attribute) {
    const ramp = element("i", "", { className: "ramp" });
    ramp.style.background = `linear-gradient(to right, ${data.scale})`;
    const [low, high] = attribute.limits.map(format);
    marks.push(element("span", [low, ramp, `${high} ${attribute.label}`]));
  } else if (!grouped) {
    for (const [label, color] of Object.entries(data.colors[state.color])) {
      const dot = element("i", "", { className: "dot full" });
      dot.style.color = color;
      const selectLabel = () => select(indices((i) => data[state.color][i] === label));
      marks.push(element("button", [dot, label], { type: "button", onclick: selectLabel, title: `Select ${label}` }));
    }
  }
  $("legend").replaceChildren(...marks);
}

// The clicked and the selected points

function choose(i) {
  state.chosen = i;
  const shown = [i, data.partner[i]].filter((n) => n >= 0).sort((a, b) => a - b);
  $("chosen").textContent = data.names[i];
  $("labels").textContent = [data.patient[i] && `patient ${data.patient[i]}`, data.split[i]].filter(Boolean).join(", ");
  $("pair").replaceChildren(...shown.map((n) => {
    const source = `data:${data.mime};base64,${data.thumbnails[n]}`;
    const picture = element("img", "", { src: source, alt: data.names[n], title: data.names[n] });
    return element("figure", [picture, element("figcaption", data.group[n])], { className: n === i ? "chosen" : "" });
  }));
  const rows = Object.values(data.attributes).map(({ label, values }) => ({
    "": label, ...Object.fromEntries(shown.map((n) => [data.group[n], values[n]])),
  }));
  fill("bone", rows);
  draw();
}

function select(selected) {
  state.selected = selected === null ? null : new Set(selected);
  const names = (selected ?? []).map((i) => data.names[i]).sort();
  $("count").textContent = selected === null ? "Nothing selected" : `${names.length} selected`;
  $("names").value = names.join("\n");
  $("names").hidden = names.length === 0;
  $("copy").disabled = $("save").disabled = names.length === 0;
  $("clear").disabled = selected === null;
  draw();
}

function search() {
  const text = $("search").value.trim().toLowerCase();
  if (!text) return select(null);
  const exact = indices((i) => data.patient[i].toLowerCase() === text);
  select(exact.length ? exact : indices((i) => data.names[i].toLowerCase().includes(text)));
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("names").value);
  } catch {
    $("names").select(); // fallback where the browser denies the clipboard to a page on disk
    document.execCommand("copy");
  }
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy names"), 1500);
}

function save() {
  const file = new Blob([`${$("names").value}\n`], { type: "text/plain" });
  const link = element("a", "", { href: URL.createObjectURL(file), download: "names.txt" });
  link.click();
  URL.revokeObjectURL(link.href);
}

// Tables

function fill(id, rows, onRow) {
  const table = $(id);
  table.hidden = rows.length === 0;
  if (!rows.length) return;
  const columns = Object.keys(rows[0]);
  const number = (column) => (rows.some((row) => typeof row[column] === "number") ? "number" : "");
  const head = columns.map((column) => element("th", column.replaceAll("_", " "), { className: number(column) }));
  const body = rows.map((row) => {
    const cells = columns.map((column) => element("td", format(row[column]), { className: number(column) }));
    return element("tr", cells, onRow ? { className: "link", onclick: () => onRow(row) } : {});
  });
  table.replaceChildren(element("thead", element("tr", head)), element("tbody", body));
}

function fillTables() {
  const { measures, patients, probes, channels, fits, walks } = data.tables;
  fill("measures", measures.map(({ measure, of, value, meaning }) => ({ measure: `${measure}, ${of}`, value, meaning })));
  fill("patient-table", patients.map(({ smallest, largest, ...row }) => row), ({ patient }) => { $("search").value = patient; search(); });
  fill("probes", probes.map(({ group, attribute, r2, mean_error, component, rank_correlation }) => ({
    group, attribute: data.attributes[attribute].label, "R²": r2, error: mean_error, component: `PC ${component}`, correlation: rank_correlation,
  })));
  fill("channels", channels);
  if (fits.length) fill("fits", fits);
  if (walks.length) fill("walks", walks);
}

// Start

$("color").value = state.color;
$("patients").append(...Object.keys(data.colors.patient).map((value) => element("option", "", { value })));
$("method").onchange = () => { state.method = $("method").value; draw(); };
$("color").onchange = () => { state.color = $("color").value; draw(); };
$("join").onchange = draw;
$("search").oninput = search;
$("copy").onclick = copy;
$("save").onclick = save;
$("clear").onclick = () => { $("search").value = ""; select(null); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
fillTables();
draw().then(() => {
  $("map").on("plotly_click", ({ points }) => choose(points[0].customdata));
  $("map").on("plotly_selected", (event) => {
    const selected = event?.points.map((point) => point.customdata).filter((i) => i !== undefined) ?? [];
    if (!selected.length) return; // redrawing without the lasso sends an empty selection
    $("search").value = "";
    select(selected);
  });
  $("map").on("plotly_deselect", () => select(null));
});
