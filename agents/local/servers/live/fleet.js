// What is known of the fleet: items go in, figures and news come out. It reads no clock and touches no page.

export const STALE_MS = 5_000; // the feed `fleet` has an item every second
const WORKERS_LIMIT = 5_000;
const LANES_LIMIT = 50_000;
const HOTSPOTS_LIMIT = 1_000;
const NEWS_LIMIT = 200;
const POINTS = 3_600; // an hour of the feed `fleet`
const HOT_MS = 86_400_000;
const BEHIND_S = 10; // a lane that is further behind is drawn as lagging
const WELL = new Set(["ok", "full", "draining", "drained"]);
const BUSY = 0.6;
const HEAVY = 0.85;
export const SERIES = ["at", "arrival_eps", "rate_eps", "lag_events", "p50_ms", "p99_ms"];

export const isNode = (worker) => worker.name.startsWith("node-");
export const short = (name) => name.replace(/^node-/, "");
export const loadOf = (worker) => (worker.capacity > 0 ? worker.rate / worker.capacity : 0);
export const isWell = (worker) => WELL.has(worker.state);

/** How a node is drawn: gone, unwell, away (draining, drained), heavy, busy, idle or ok. */
export function signOf(worker) {
    if (worker.state === "gone") return "gone";
    if (!isWell(worker)) return "unwell";
    if (worker.state.startsWith("drain")) return "away";
    const load = loadOf(worker);
    return load > HEAVY ? "heavy" : load > BUSY ? "busy" : worker.lanes ? "ok" : "idle";
}

/** How a lane is drawn: still (nobody works it), moving, behind or ok. */
export function laneSign(lane) {
    if (lane.state === "orphan" || lane.state === "stopped") return "still";
    if (lane.state !== "ok") return "moving";
    return lane.lag > 100 && lane.lag > BEHIND_S * lane.rate ? "behind" : "ok";
}

/** Rows that come in shares: keeps the newest of each share, with the time at which it came. */
class Rows {
    constructor(key, limit) {
        this.key = key;
        this.limit = limit;
        this.rows = new Map();
        this.shares = new Map(); // share -> the keys in it
        this.turns = 1;
    }

    take({ turn, turns, rows }, now) {
        if (turns !== this.turns) {
            this.shares.clear();
            this.rows.clear();
            this.turns = turns;
        }
        const keys = new Set(rows.map((row) => row[this.key]));
        for (const key of this.shares.get(turn) ?? []) if (!keys.has(key)) this.rows.delete(key);
        this.shares.set(turn, keys);
        for (const row of rows) if (this.rows.has(row[this.key]) || this.rows.size < this.limit) this.rows.set(row[this.key], { ...row, at: now });
    }

    get complete() {
        return this.shares.size >= this.turns;
    }
}

export class Fleet {
    constructor() {
        this.workers = new Rows("name", WORKERS_LIMIT);
        this.lanes = new Rows("n", LANES_LIMIT);
        this.hotspots = new Map();
        this.news = []; // the newest last
        this.known = new Set();
        this.series = SERIES.map(() => []);
        this.figures = this.placement = this.heard = null;
        this.roads = new Map(); // the traffic around lanes, by lane
        this.troubles = [];
        this.troublesTotal = 0;
        this.bad = 0;
        this.badWhy = "";
    }

    /** Takes one item. `now`, `ageMs`: of this machine's clock; how old the item was when it came. Returns its news, or null. */
    take(item, now, ageMs = 0) {
        if (item.kind === "fleet") this.takeFleet(item, now - ageMs, ageMs);
        else if (item.kind === "figures") this.placement = item;
        else if (item.kind === "traffic") this.roads = new Map(item.rows.map((row) => [row.n, { ...row, until: now - ageMs + row.validS * 1000 }]));
        else if (item.kind === "plan") return this.tell(item, "move", planText(item), () => this.applyMoves(item, ageMs));
        else if (item.kind === "alert") return this.tell(item, item.severity, item.title);
        else if (item.kind === "hotspot") return this.takeHotspot(item, now - ageMs);
        return null;
    }

    noteBad(why) {
        this.bad += 1;
        this.badWhy = why;
    }

    takeFleet(item, now, ageMs) {
        if (this.heard !== null && ageMs && now <= this.heard) return; // the last item again
        const gap = this.heard !== null && now - this.heard > STALE_MS;
        this.heard = now;
        this.figures = item.figures;
        this.troubles = item.troubles;
        this.troublesTotal = item.troublesTotal;
        if (item.workers) this.workers.take(item.workers, now);
        if (item.lanes) this.lanes.take(item.lanes, now);
        if (gap) this.addPoint(now - 1, null);
        this.addPoint(now, item.figures);
    }

    addPoint(now, figures) {
        this.series.forEach((column, i) => {
            column.push(i === 0 ? now / 1000 : figures && figures[SERIES[i]]);
            if (column.length > POINTS) column.shift();
        });
    }

    takeHotspot(item, now) {
        if (item.state === "ended") this.hotspots.delete(item.name);
        else if (this.hotspots.has(item.name) || this.hotspots.size < HOTSPOTS_LIMIT) this.hotspots.set(item.name, { ...item, heard: now });
        return this.tell(item, "hotspot", item.title);
    }

    applyMoves(plan, ageMs) {
        if (ageMs) return; // an old plan: the lanes have moved on
        for (const move of plan.moves) {
            const lane = this.lanes.rows.get(move.lane);
            if (lane) this.lanes.rows.set(move.lane, { ...lane, node: move.to, state: "moving" });
        }
    }

    tell(item, kind, text, then = () => {}) {
        const key = `${item.feed}/${item.id}/${item.at}`;
        if (this.known.has(key)) return null; // after a reconnect the service sends its newest items again
        const told = { at: item.at, kind, text, key, moves: item.moves ?? [] };
        const before = this.news.findLastIndex((n) => n.at <= told.at);
        this.news.splice(before + 1, 0, told);
        this.known.add(key);
        if (this.news.length > NEWS_LIMIT) this.known.delete(this.news.shift().key);
        then();
        return told;
    }

    openHotspots(now) {
        return [...this.hotspots.values()].filter((h) => now - h.heard <= HOT_MS).sort((a, b) => b.eps - b.usual - (a.eps - a.usual));
    }

    /** The traffic around a lane while its provider's answer holds, else null. */
    roadOf(lane, now) {
        const road = this.roads.get(lane.n);
        return road && road.until > now ? road : null;
    }

    get nodes() {
        return [...this.workers.rows.values()].filter(isNode);
    }

    silentMs(now) {
        return this.heard === null ? null : Math.max(0, now - this.heard);
    }

    /** What limits the fleet now, what stands still first: [{severity, text}]. */
    bindings() {
        const out = this.troubles.map((t) => ({ severity: t.severity, text: t.text, forS: t.forS }));
        const hidden = this.troublesTotal - this.troubles.length;
        if (hidden > 0) out.push({ severity: "warning", text: `${count(hidden, "more trouble")}: the command status lists them` });
        if (!this.figures) return out;
        const lanes = [...this.lanes.rows.values()];
        const nodes = this.nodes;
        const add = (severity, text) => out.push({ severity, text });
        const still = lanes.filter((l) => laneSign(l) === "still");
        if (still.length) add("critical", `${count(still.length, "lane")} ${still.length === 1 ? "stands" : "stand"} still: ${some(still.map((l) => l.n))}`);
        else if (this.figures.lanes_orphaned) add("critical", `${count(this.figures.lanes_orphaned, "lane")} without an owner`);
        const gone = nodes.filter((w) => !isWell(w));
        if (gone.length) add("warning", `${count(gone.length, "node")} not at work: ${some(gone.map((w) => `${short(w.name)} (${w.state})`))}`);
        if (this.placement?.waiting) add("critical", `${count(this.placement.waiting, "lane")} without room: the capacity of the nodes binds`);
        if (this.figures.paused) add("warning", "The planner is paused");
        const behind = lanes.filter((l) => laneSign(l) === "behind").sort((a, b) => b.lag - a.lag);
        if (behind.length)
            add("warning", `${count(behind.length, "lane")} more than ${BEHIND_S} s behind: ${some(behind.map((l) => `${l.n} on ${l.node} (${format(l.lag)})`))}`);
        const busiest = nodes.reduce((a, b) => (a && loadOf(a) >= loadOf(b) ? a : b), null);
        if (busiest) {
            const load = loadOf(busiest);
            add(load > HEAVY ? "warning" : "info", `Busiest node: ${short(busiest.name)}, ${percent(load)} of ${format(busiest.capacity)} events/s`);
        }
        const worst = nodes.reduce((a, b) => (a && a.p99 >= b.p99 ? a : b), null);
        if (worst?.p99) add("info", `Slowest node: ${short(worst.name)}, p99 ${format(worst.p99)} ms`);
        if (this.placement) add("info", `Within ${(this.placement.gap * 100).toFixed(1)} % of the best placement; ${count(this.placement.moves, "lane")} to move`);
        return out;
    }
}

// ---- words ----

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const format = (value) => plain.format(value);
export const percent = (share) => `${Math.round(share * 100)} %`;
export const count = (n, what) => `${format(n)} ${what}${n === 1 ? "" : "s"}`;
export const age = (ms) => (ms < 120_000 ? `${Math.round(ms / 1000)} s` : ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`);

function some(names) {
    return names.slice(0, 5).join(", ") + (names.length > 5 ? " ..." : "");
}

function planText(plan) {
    const ways = new Map();
    for (const m of plan.moves) {
        const way = `${m.from || "orphan"} to ${m.to}`;
        ways.set(way, [...(ways.get(way) ?? []), m.lane]);
    }
    const named = [...ways].slice(0, 3).map(([way, lanes]) => `${way}: ${some(lanes)}`);
    if (ways.size > 3) named.push(`${ways.size - 3} ways more`);
    const by = plan.by ? `, by ${plan.by.split("@")[0]}` : "";
    return [`${plan.title}${by}`, ...named].join("; ");
}
