// The map: coastlines and view by OpenLayers; the fleet on one canvas, drawn whole at each change, so that nothing flickers. Moves that
// happen fly over it on a canvas of their own, so that the fleet is not drawn again for each frame of them.
import { flatten } from "./coast.js";
import { isNode, laneSign, loadOf, percent, short, signOf } from "./fleet.js";

const ol = window.ol;
const TAU = 2 * Math.PI;
const GOLDEN = Math.PI * (3 - Math.sqrt(5));
const PICK_PX = 14;
const LABELS = 80;
const FLIGHTS = 300;
const FLY_MS = 2_500;
const FADE_MS = 10_000;
const LANE_SIGNS = ["ok", "moving", "behind", "still"];
const COLOURS = ["land", "coast", "text", "halo", "ok", "idle", "busy", "heavy", "gone", "away", "unwell", "moving", "behind", "still", "hotspot", "plan"];

export class FleetMap {
    /** `target`: the element; `overlay`: a canvas over it; `onPick`: called with the name of the worker that was clicked, or "". */
    constructor(target, overlay, coast, onPick) {
        this.target = target;
        this.overlay = overlay;
        this.onPick = onPick;
        this.sites = new Map();
        this.lanes = [];
        this.hotspots = [];
        this.plan = [];
        this.flights = [];
        this.picked = "";
        this.seen = []; // [x, y, name] of the nodes, as drawn
        this.canvas = document.createElement("canvas");
        this.canvas.className = "fleet";
        this.sheet = document.createElement("canvas");
        this.calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
        this.readColours();
        const land = new ol.layer.Vector({
            source: new ol.source.Vector({ wrapX: false, features: coast ? readCoast(coast) : [] }),
            style: () => this.landStyle,
        });
        this.layer = new ol.layer.Layer({ render: (frame) => this.draw(frame) });
        this.map = new ol.Map({
            target,
            layers: [land, this.layer],
            controls: [new ol.control.Zoom()],
            interactions: ol.interaction.defaults.defaults({ onFocusOnly: true, altShiftDragRotate: false, pinchRotate: false }), // the wheel and a finger scroll the page until the map is chosen
            view: new ol.View({ projection: "EPSG:4326", center: [0, 25], zoom: 1, maxZoom: 9, showFullExtent: true }),
        });
        target.nodesDrawn = () => this.seen; // for scripts and tests
        this.map.on("click", (event) => this.onPick(this.nodeAt(event.pixel)));
        this.map.on("pointermove", (event) => {
            const name = event.dragging ? "" : this.nodeAt(event.pixel);
            target.title = name ? this.describe(name) : "";
            target.classList.toggle("over", name !== "");
        });
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
            this.readColours();
            land.changed();
            this.redraw();
        });
    }

    redraw() {
        this.changed = true;
        this.layer.changed();
    }

    readColours() {
        const style = getComputedStyle(this.target);
        this.colours = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
        const { land, coast } = this.colours;
        this.landStyle = new ol.style.Style({ fill: new ol.style.Fill({ color: land }), stroke: new ol.style.Stroke({ color: coast, width: 0.7 }) });
    }

    /** Show this fleet. */
    update(fleet, now) {
        const sites = new Map();
        this.workers = fleet.workers.rows;
        for (const worker of fleet.workers.rows.values()) {
            if (!isNode(worker)) continue;
            const site = sites.get(worker.site) ?? { name: worker.site, at: [worker.lon, worker.lat], nodes: [] };
            site.nodes.push(worker);
            sites.set(worker.site, site);
        }
        this.spots = new Map();
        for (const site of sites.values()) {
            site.nodes.sort((a, b) => (a.name < b.name ? -1 : 1));
            site.nodes.forEach((worker, i) => this.spots.set(short(worker.name), { site, i, worker }));
        }
        this.sites = sites;
        this.byNumber = fleet.lanes.rows;
        this.lanes = [...this.byNumber.values()];
        this.hotspots = fleet.openHotspots(now);
        if (!this.fitted && sites.size && fleet.workers.complete) this.fit();
        this.redraw();
    }

    /** Move the view to the whole fleet. */
    fit() {
        this.fitted = true;
        this.map.updateSize();
        const points = [...[...this.sites.values()].map((s) => s.at), ...this.lanes.map((l) => [l.lon, l.lat])];
        if (points.length) this.map.getView().fit(ol.extent.boundingExtent(points), { padding: [40, 60, 40, 40], maxZoom: 6 });
    }

    pick(name) {
        this.picked = short(name);
        this.redraw();
    }

    /** Draw the moves of a dry run until it is over ([]). */
    showPlan(moves) {
        this.plan = moves;
        this.layer.changed();
    }

    describe(name) {
        const worker = this.workers.get(name);
        return worker ? `${short(name)}: ${worker.state}, ${worker.lanes} lanes, ${percent(loadOf(worker))} of its capacity` : "";
    }

    nodeAt([x, y]) {
        let best = PICK_PX ** 2;
        let name = "";
        for (const [nx, ny, which] of this.seen) {
            const d = (nx - x) ** 2 + (ny - y) ** 2;
            if (d < best) [best, name] = [d, which];
        }
        return name;
    }

    // ---- the fleet's canvas ----

    draw(frame) {
        const [width, height] = frame.size;
        const c = prepare(this.canvas, width, height, frame.pixelRatio);
        const t = frame.coordinateToPixelTransform;
        this.to = (lon, lat) => [t[0] * lon + t[2] * lat + t[4], t[1] * lon + t[3] * lat + t[5]];
        this.dot = this.spots?.size > 200 ? 3 : 5;
        this.inView = ([x, y]) => x > -50 && y > -50 && x < width + 50 && y < height + 50;
        this.drawSheet(c, frame);
        this.drawHotspots(c);
        this.drawPlan(c);
        this.drawNodes(c);
        this.fly();
        return this.canvas;
    }

    spot(name) {
        const found = this.spots?.get(name);
        if (!found) return null;
        const [x, y] = this.to(...found.site.at);
        const far = this.dot * 1.8 * Math.sqrt(found.i);
        return [x + far * Math.cos(found.i * GOLDEN), y + far * Math.sin(found.i * GOLDEN)];
    }

    /** The lanes are thousands of lines: they are painted on a sheet when they or the view have changed; while the view moves, the sheet moves. */
    drawSheet(c, frame) {
        const [width, height] = frame.size;
        const t = frame.coordinateToPixelTransform;
        const moving = frame.viewHints.some((hint) => hint > 0);
        if (!this.sheetAt || (!moving && (this.changed || this.sheetAt.some((v, i) => v !== t[i])))) {
            this.drawLanes(prepare(this.sheet, width, height, frame.pixelRatio));
            this.sheetAt = [...t];
            this.sheetSize = [width, height];
            this.changed = false;
        }
        const scale = t[0] / this.sheetAt[0];
        const [x, y] = [4, 5].map((i) => t[i] - this.sheetAt[i] * scale);
        c.drawImage(this.sheet, x, y, this.sheetSize[0] * scale, this.sheetSize[1] * scale);
    }

    drawLanes(c) {
        const spots = new Map();
        const paths = Object.fromEntries(LANE_SIGNS.map((sign) => [sign, [new Path2D(), new Path2D()]]));
        const chosen = new Path2D();
        const world = this.to(360, 0)[0] - this.to(0, 0)[0];
        for (const lane of this.lanes) {
            const sign = laneSign(lane);
            const [x, y] = this.to(lane.lon, lane.lat);
            if (!spots.has(lane.node)) spots.set(lane.node, this.spot(lane.node));
            const there = spots.get(lane.node);
            const [lines, origins] = paths[sign];
            if (there && (this.inView([x, y]) || this.inView(there))) {
                const line = lane.node === this.picked && this.picked ? chosen : lines;
                // The shorter way round the earth leaves the map at one side and comes back at the other.
                const apart = lane.lon - this.spots.get(lane.node).site.at[0];
                const turn = Math.abs(apart) > 180 ? world * Math.sign(apart) : 0;
                line.moveTo(x, y);
                line.lineTo(there[0] + turn, there[1]);
                if (turn) {
                    line.moveTo(x - turn, y);
                    line.lineTo(there[0], there[1]);
                }
            }
            const r = sign === "still" ? 3 : 1.5;
            origins.rect(x - r, y - r, 2 * r, 2 * r);
        }
        const many = this.lanes.length;
        for (const sign of LANE_SIGNS) {
            c.globalAlpha = sign === "ok" ? (many > 3_000 ? 0.1 : many > 500 ? 0.2 : 0.45) * (this.picked ? 0.5 : 1) : 0.8;
            c.setLineDash(sign === "moving" ? [4, 4] : []);
            stroke(c, paths[sign][0], this.colours[sign], 1);
            c.globalAlpha = 0.9;
            c.fillStyle = this.colours[sign];
            c.fill(paths[sign][1]);
        }
        c.globalAlpha = 1;
        c.setLineDash([]);
        stroke(c, chosen, this.colours.text, 1.5);
    }

    drawHotspots(c) {
        for (const h of this.hotspots.slice(0, 100)) {
            const [x, y] = this.to(h.lon, h.lat);
            for (const r of [6, 11]) {
                const ring = new Path2D();
                ring.arc(x, y, r, 0, TAU);
                stroke(c, ring, this.colours.hotspot, 2);
            }
        }
    }

    drawPlan(c) {
        const lines = new Path2D();
        for (const move of this.plan) {
            const to = this.spot(move.to);
            const from = this.spot(move.from);
            if (!to || !from) continue;
            arrow(lines, from, to);
        }
        stroke(c, lines, this.colours.halo, 5);
        stroke(c, lines, this.colours.plan, 2.5);
    }

    drawNodes(c) {
        this.seen = [];
        const paths = {};
        const taken = [];
        for (const site of this.sites.values()) {
            for (const worker of site.nodes) {
                const at = this.spot(short(worker.name));
                this.seen.push([...at, worker.name]);
                if (!this.inView(at)) continue;
                const sign = signOf(worker);
                shape(sign, (paths[sign] ??= new Path2D()), at, this.dot);
                if (short(worker.name) === this.picked) {
                    const ring = new Path2D();
                    ring.arc(...at, this.dot + 5, 0, TAU);
                    stroke(c, ring, this.colours.text, 2);
                }
            }
        }
        for (const [sign, path] of Object.entries(paths)) {
            stroke(c, path, this.colours.halo, 2.5);
            c.fillStyle = this.colours[sign];
            c.fill(path);
        }
        c.font = "12px system-ui, sans-serif";
        c.textBaseline = "middle";
        for (const site of [...this.sites.values()].sort((a, b) => b.nodes.length - a.nodes.length)) {
            if (taken.length >= LABELS) break;
            this.label(c, site, taken);
        }
    }

    label(c, site, taken) {
        const at = this.to(...site.at);
        if (!this.inView(at)) return;
        const room = site.nodes.reduce((sum, w) => sum + (w.state === "gone" ? 0 : w.capacity), 0);
        const used = site.nodes.reduce((sum, w) => sum + w.rate, 0);
        const text = `${site.name} ${room ? percent(used / room) : "gone"}`;
        const x = at[0] + this.dot * (1.8 * Math.sqrt(site.nodes.length - 1) + 1) + 5;
        const box = [x, at[1] - 8, x + c.measureText(text).width, at[1] + 8];
        if (taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) return;
        taken.push(box);
        c.lineWidth = 3;
        c.lineJoin = "round";
        c.strokeStyle = this.colours.halo;
        c.strokeText(text, x, at[1]);
        c.fillStyle = this.colours.text;
        c.fillText(text, x, at[1]);
    }

    // ---- moves as they happen ----

    /** Let these moves fly from now (performance.now()) on. */
    launch(moves) {
        const now = performance.now();
        this.flights = [...this.flights, ...moves.map((move) => ({ move, at: now }))].slice(-FLIGHTS);
        this.fly();
    }

    fly() {
        if (!this.flying && this.to) this.flying = requestAnimationFrame(() => this.drawFlights());
    }

    drawFlights() {
        this.flying = 0;
        clearTimeout(this.later);
        const now = performance.now();
        this.flights = this.flights.filter((f) => now - f.at < FADE_MS);
        const box = this.target.getBoundingClientRect();
        const c = prepare(this.overlay, box.width, box.height, devicePixelRatio);
        for (const { move, at } of this.flights) {
            const to = this.spot(move.to);
            const lane = this.byNumber?.get(move.lane);
            const from = this.spot(move.from) ?? (lane && this.to(lane.lon, lane.lat));
            if (!to || !from) continue;
            const line = new Path2D();
            arrow(line, from, to);
            c.globalAlpha = 0.8 * (1 - (now - at) / FADE_MS);
            stroke(c, line, this.colours.moving, 1.5);
            const share = Math.min(1, (now - at) / FLY_MS);
            if (this.calm || share === 1) continue;
            const [x, y] = along(from, to, share);
            c.globalAlpha = 1;
            c.beginPath();
            c.arc(x, y, 4, 0, TAU);
            c.fillStyle = this.colours.moving;
            c.fill();
        }
        // While something flies: each frame; while lines fade: a few frames a second.
        if (!this.calm && this.flights.some((f) => now - f.at < FLY_MS)) this.fly();
        else if (this.flights.length) this.later = setTimeout(() => this.fly(), 250);
    }
}

function readCoast(topology) {
    const features = new ol.format.TopoJSON().readFeatures(topology);
    for (const feature of features) feature.setGeometry(new ol.geom.MultiPolygon(flatten(feature.getGeometry().getCoordinates())));
    return features;
}

function prepare(canvas, width, height, ratio) {
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const c = canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    return c;
}

function stroke(c, path, colour, width) {
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.stroke(path);
}

/** A point of the bent line between two points. */
function along([ax, ay], [bx, by], share) {
    const [cx, cy] = bend([ax, ay], [bx, by]);
    const rest = 1 - share;
    return [rest * rest * ax + 2 * rest * share * cx + share * share * bx, rest * rest * ay + 2 * rest * share * cy + share * share * by];
}

function bend([ax, ay], [bx, by]) {
    return [(ax + bx) / 2 + (by - ay) * 0.18, (ay + by) / 2 - (bx - ax) * 0.18];
}

function arrow(path, from, to) {
    const control = bend(from, to);
    path.moveTo(...from);
    path.quadraticCurveTo(...control, ...to);
    const angle = Math.atan2(to[1] - control[1], to[0] - control[0]);
    for (const side of [-0.45, 0.45]) {
        path.moveTo(...to);
        path.lineTo(to[0] - 9 * Math.cos(angle + side), to[1] - 9 * Math.sin(angle + side));
    }
}

/** Each state has a shape, so that colour is not needed to tell them apart. */
export function shape(sign, path, [x, y], r) {
    const corners = (points) => {
        path.moveTo(x + points[0][0] * r, y + points[0][1] * r);
        for (const [dx, dy] of points.slice(1)) path.lineTo(x + dx * r, y + dy * r);
        path.closePath();
    };
    if (sign === "gone") corners([[-1, -0.5], [-0.5, -1], [0, -0.5], [0.5, -1], [1, -0.5], [0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5], [-0.5, 1], [-1, 0.5], [-0.5, 0]]);
    else if (sign === "unwell") corners([[0, -1.2], [1.1, 0.9], [-1.1, 0.9]]);
    else if (sign === "heavy") corners([[-1, -1], [1, -1], [1, 1], [-1, 1]]);
    else if (sign === "busy") corners([[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]);
    else {
        path.moveTo(x + r, y);
        path.arc(x, y, r, 0, TAU);
        if (sign === "idle" || sign === "away") {
            path.moveTo(x + r * 0.5, y);
            path.arc(x, y, r * 0.5, 0, TAU, true); // a ring: the inner circle runs the other way round
        }
    }
}
