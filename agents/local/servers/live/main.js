// The live page: wires session, fleet, map, charts, tables and commands, and says how old what it shows is. Text from elsewhere is only ever
// set as text.
import { Charts } from "./charts.js";
import { Commands } from "./commands.js";
import { Fleet, STALE_MS, age, count, format, isNode, loadOf, percent, short } from "./fleet.js";
import { FleetMap, shape } from "./map.js";
import { Session } from "./session.js";
import { HOTSPOTS, Table, WORKERS, lanesColumns, urgentFirst, write } from "./tables.js";

const { domain, websocket } = document.body.dataset;
const $ = (selector) => document.querySelector(selector);
const [login, live, leave] = ["#login", "#live", "#leave"].map($);
const enter = login.querySelector("button");
const SIGNS = { move: "→", hotspot: "◎", info: "•", warning: "!", critical: "‼", calm: "✓" };
const NEWS_SHOWN = 100;
const DRAW_MS = 250;
const TABLES_MS = 1_000;
const LEGEND = [["ok", "at work"], ["busy", "over 60 %"], ["heavy", "over 85 %"], ["idle", "idle"], ["away", "draining, drained"], ["unwell", "unwell"], ["gone", "gone"]];
const LINES = [["ok", "lane"], ["moving", "moving"], ["behind", "more than 10 s behind"], ["still", "stands still"]];

let session, fleet, map, charts, commands, tables;
const stale = { map: false, tables: false }; // what has to be drawn again
let waiting = null; // what is said while there is no connection
let tablesAt = 0;

// ---- logging in ----

login.addEventListener("submit", (event) => {
    event.preventDefault();
    const jid = login.jid.value.trim();
    write($("#wrong"), "");
    if (!jid.endsWith(`@${domain}`)) return refused(`An address here ends in @${domain}.`);
    enter.disabled = true;
    say("Logging in ...");
    fleet = new Fleet();
    const place = { fleet: `fleet.${domain}`, websocket: new URL(websocket, location.href).href.replace(/^http/, "ws") };
    session = new Session(place, {
        item: take,
        bad: (why) => fleet.noteBad(why),
        online,
        waiting: (why, ms) => (waiting = `The connection was lost (${why}). Connecting again in ${Math.ceil(ms / 1000)} s ...`),
        refused,
        ended: () => location.reload(), // nothing of this session stays
    });
    session.start(jid, login.password.value);
});

leave.addEventListener("click", () => session.close());

function refused(why) {
    session = null;
    live.hidden = leave.hidden = true;
    login.hidden = false;
    say("");
    $("#wrong").textContent = why;
    enter.disabled = false;
    login.password.value = "";
    login.password.focus();
}

function online() {
    waiting = null;
    login.password.value = "";
    if (live.hidden) {
        login.hidden = true;
        live.hidden = leave.hidden = false;
        $("#map").focus({ preventScroll: true });
    }
    offer();
    stale.map = stale.tables = true;
}

async function offer() {
    try {
        commands.offer(await session.commands());
    } catch (e) {
        if (!("condition" in e)) throw e;
        setTimeout(() => session && !waiting && offer(), 5_000); // no coordinator leads yet
    }
    stale.map = stale.tables = true;
}

// ---- what comes in ----

function take(item, ageMs) {
    const told = fleet.take(item, Date.now(), ageMs);
    stale.map = stale.tables = true;
    if (!told) return;
    if (!ageMs && told.moves.length) map.launch(told.moves);
    const list = $("#news ol");
    const entry = document.createElement("li");
    entry.className = told.kind;
    const time = document.createElement("time");
    time.dateTime = new Date(told.at).toISOString();
    time.textContent = new Date(told.at).toLocaleTimeString("en-GB");
    const sign = document.createElement("span");
    sign.textContent = SIGNS[told.kind];
    sign.setAttribute("aria-label", told.kind);
    sign.setAttribute("role", "img");
    entry.append(time, " ", sign, " ", told.text);
    entry.dataset.at = told.at;
    const later = [...list.children].find((li) => Number(li.dataset.at) <= told.at);
    list.insertBefore(entry, later ?? null); // the newest first
    while (list.children.length > NEWS_SHOWN) list.lastElementChild.remove();
}

// ---- what is shown ----

function say(text) {
    write($("#state"), text);
}

function draw() {
    if (!session) return;
    const now = Date.now();
    drawState(now);
    if (live.hidden || document.hidden) return;
    if (stale.map) return drawMap(now);
    if (!stale.tables || now - tablesAt < TABLES_MS) return; // in a turn of their own, so that no turn is long
    stale.tables = false;
    tablesAt = now;
    charts.update(fleet.series);
    tables.workers.update([...fleet.workers.rows.values()], now);
    tables.lanes.update([...fleet.lanes.rows.values()], now);
    tables.hotspots.update(fleet.openHotspots(now), now);
}

function drawMap(now) {
    stale.map = false;
    drawFigures(now);
    drawBindings();
    drawPicked();
    map.update(fleet, now);
}

function drawState(now) {
    if (live.hidden) return;
    const silent = fleet.silentMs(now);
    const heard = silent === null ? "" : `last heard ${age(silent)} ago`;
    live.classList.toggle("stale", waiting !== null || silent === null || silent > STALE_MS);
    if (waiting) say(waiting);
    else if (silent === null) say("Nothing heard yet: does a coordinator lead?");
    else if (silent > STALE_MS) say("Connected, but nothing is heard: does a coordinator lead?");
    else say(`Live as ${session.jid}`);
    write($("#old"), silent !== null && (waiting || silent > STALE_MS) ? `These figures are old: ${heard}.` : "");
}

function drawFigures() {
    const f = fleet.figures;
    if (!f) return;
    const rows = [
        ["Events/s in", format(f.arrival_eps)],
        ["Processed", format(f.rate_eps)],
        ["Lag", format(f.lag_events)],
        ["p50", `${format(f.p50_ms)} ms`],
        ["p99", `${format(f.p99_ms)} ms`],
        ["Nodes", `${format(f.nodes_available)}/${format(f.nodes)}`],
        ["Lanes", `${format(f.lanes_assigned)}/${format(f.lanes)}`],
        ["Moving", format(f.lanes_moving)],
        ["Hotspots", format(fleet.hotspots.size)],
        ...(fleet.bad ? [["Not readable", `${count(fleet.bad, "item")} (${fleet.badWhy})`]] : []),
    ];
    fillList($("#figures dl"), rows, () => {
        const box = document.createElement("div");
        box.append(document.createElement("dt"), document.createElement("dd"));
        return box;
    });
}

function drawBindings() {
    const list = $("#binds ul");
    const bindings = fleet.bindings();
    while (list.children.length > bindings.length) list.lastElementChild.remove();
    while (list.children.length < bindings.length) list.append(document.createElement("li"));
    bindings.forEach((b, i) => {
        list.children[i].className = b.severity;
        write(list.children[i], `${SIGNS[b.severity]} ${b.text}${b.forS ? `, for ${age(b.forS * 1000)}` : ""}`);
    });
}

function fillList(list, rows, make) {
    while (list.children.length > rows.length) list.lastElementChild.remove();
    while (list.children.length < rows.length) list.append(make());
    rows.forEach(([name, value], i) => {
        write(list.children[i].firstElementChild, name);
        write(list.children[i].lastElementChild, value);
    });
}

// ---- one node ----

let picked = "";

function pick(name) {
    picked = name;
    map.pick(name);
    $("#node").hidden = !name;
    if (!name) return;
    drawPicked();
    $("#node-title").focus({ preventScroll: true });
    $("#node").scrollIntoView({ block: "nearest" });
}

function drawPicked() {
    const worker = fleet.workers.rows.get(picked);
    if (!worker) return void ($("#node").hidden = true);
    write($("#node-title"), short(worker.name));
    const load = worker.capacity ? `${percent(loadOf(worker))} of ${format(worker.capacity)} events/s` : "no capacity";
    write($("#node p"), `${worker.state}, at ${worker.site} (${worker.region}); ${count(worker.lanes, "lane")}, ${load}; lag ${format(worker.lag)}, p99 ${format(worker.p99)} ms`);
    const drained = worker.state.startsWith("drain");
    const may = isNode(worker) && commands.mayDrain;
    $("#drain").hidden = drained || !may;
    $("#resume").hidden = !drained || !may;
}

$("#drain").addEventListener("click", () => commands.begin("drain", { node: short(picked) }));
$("#resume").addEventListener("click", () => commands.begin("resume", { node: short(picked) }));
$("#about-node").addEventListener("click", () => commands.begin("node", { node: short(picked) }));

// ---- the beginning ----

function drawLegend() {
    const list = $("#legend");
    for (const [sign, text] of LEGEND) list.append(legendEntry(text, (c, colour) => {
        const path = new Path2D();
        shape(sign, path, [8, 8], 5);
        c.fillStyle = colour(sign);
        c.fill(path);
    }));
    for (const [sign, text] of LINES) list.append(legendEntry(text, (c, colour) => {
        c.strokeStyle = c.fillStyle = colour(sign);
        c.setLineDash(sign === "moving" ? [3, 3] : []);
        c.beginPath();
        c.moveTo(0, 8);
        c.lineTo(16, 8);
        c.stroke();
        if (sign === "still") c.fillRect(5, 5, 6, 6);
    }));
    list.append(legendEntry("hotspot", (c, colour) => {
        c.strokeStyle = colour("hotspot");
        c.lineWidth = 2;
        c.beginPath();
        c.arc(8, 8, 5, 0, 7);
        c.stroke();
    }));
}

function legendEntry(text, paint) {
    const entry = document.createElement("li");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [16, 16];
    canvas.setAttribute("aria-hidden", "true");
    const repaint = () => {
        const c = canvas.getContext("2d");
        c.clearRect(0, 0, 16, 16);
        paint(c, (name) => getComputedStyle($("#map")).getPropertyValue(`--${name}`).trim());
    };
    repaint();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    entry.append(canvas, text);
    return entry;
}

const coast = await fetch("lib/world-atlas/land-50m.json").then((answer) => (answer.ok ? answer.json() : null), () => null); // the map works without
map = new FleetMap($("#map"), $("#flights"), coast, pick);
charts = new Charts($("#charts"));
commands = new Commands($("#command"), (command, what) => session.step(command, what), (moves) => map.showPlan(moves));
const drain = {
    title: "command",
    text: (w) => (w.state.startsWith("drain") ? "Resume" : "Drain"),
    run: (w) => {
        pick(w.name);
        commands.begin(w.state.startsWith("drain") ? "resume" : "drain", { node: short(w.name) });
    },
    may: (w) => isNode(w) && commands.mayDrain,
};
const explain = { title: "command", text: () => "Explain", run: (l) => commands.begin("explain", { lane: String(l.n) }), may: () => commands.may.has("explain") };
tables = {
    workers: new Table($("#workers"), WORKERS, urgentFirst, drain),
    lanes: new Table($("#lanes"), lanesColumns((lane) => fleet.roadOf(lane, Date.now())), (a, b) => b.lag - a.lag || a.n - b.n, explain),
    hotspots: new Table($("#hotspots"), HOTSPOTS, (a, b) => b.eps - a.eps),
};
drawLegend();
$("#fit").addEventListener("click", () => map.fit());
setInterval(draw, DRAW_MS);
document.addEventListener("visibilitychange", draw);
enter.disabled = false;
