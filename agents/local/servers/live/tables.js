// The same facts as on the map, as tables. Cells are changed in place, so that focus, selection and screen readers keep their place.
import { age, format, isNode, loadOf, percent, short, signOf } from "./fleet.js";

const PAGE = 25;
const FRESH_MS = 5_000; // a row that is older shows its age

export const WORKERS = [
    ["name", (w) => short(w.name), (w) => short(w.name), "text"],
    ["site", (w) => w.site, (w) => `${w.site} (${w.region})`, "text"],
    ["state", (w) => w.state, (w) => w.state, "text"],
    ["lanes", (w) => w.lanes, (w) => format(w.lanes)],
    ["events/s", (w) => w.rate, (w) => format(w.rate)],
    ["load", loadOf, (w) => (isNode(w) ? percent(loadOf(w)) : "")],
    ["lag", (w) => w.lag, (w) => format(w.lag)],
    ["p99, ms", (w) => w.p99, (w) => format(w.p99)],
];

/** `roadOf`: the traffic around a lane, or null. */
export const lanesColumns = (roadOf) => [
    ["lane", (l) => l.n, (l) => String(l.n)],
    ["node", (l) => l.node, (l) => l.node || "none", "text"],
    ["state", (l) => l.state, (l) => l.state, "text"],
    ["events from", (l) => l.lat, (l) => `${l.lat.toFixed(1)}, ${l.lon.toFixed(1)}`],
    ["events/s", (l) => l.rate, (l) => format(l.rate)],
    ["lag", (l) => l.lag, (l) => format(l.lag)],
    ["p99, ms", (l) => l.p99, (l) => format(l.p99)],
    ["road time", (l) => roadOf(l)?.index ?? 0, (l) => roadText(roadOf(l)), "text"],
];

function roadText(road) {
    return road ? `${road.index.toFixed(2)} (${road.provider}, ${road.live ? "live" : "typical"})` : "";
}

export const HOTSPOTS = [
    ["place", (h) => h.place, (h) => h.place || "not named", "text"],
    ["events/s", (h) => h.eps, (h) => h.eps.toFixed(1)],
    ["usual", (h) => h.usual, (h) => h.usual.toFixed(1)],
    ["at", (h) => h.lat, (h) => `${h.lat.toFixed(1)}, ${h.lon.toFixed(1)}`],
];

/** Workers in trouble first, then the most loaded. */
export const urgentFirst = (a, b) => URGENCY.indexOf(signOf(a)) - URGENCY.indexOf(signOf(b)) || loadOf(b) - loadOf(a) || (a.name < b.name ? -1 : 1);
const URGENCY = ["gone", "unwell", "heavy", "busy", "away", "ok", "idle"];

export class Table {
    /** `action`: {text, title, run, may}: a button in each row. */
    constructor(root, columns, order, action = null) {
        this.columns = columns;
        this.order = order;
        this.action = action;
        this.page = 0;
        this.sort = null; // [column, direction]
        this.rows = [];
        this.body = root.querySelector("tbody");
        this.count = root.querySelector(".count");
        this.filter = root.querySelector("input");
        [this.before, this.after] = root.querySelectorAll(".pager button");
        const head = document.createElement("tr");
        this.heads = columns.map(([title], i) => {
            const th = document.createElement("th");
            th.scope = "col";
            if (columns[i][3] !== "text") th.className = "number";
            const button = document.createElement("button");
            button.type = "button";
            button.textContent = title;
            button.addEventListener("click", () => this.sortBy(i));
            th.append(button);
            head.append(th);
            return th;
        });
        head.append(headCell("age"));
        if (action) head.append(headCell(action.title));
        root.querySelector("thead").replaceChildren(head);
        this.filter.addEventListener("input", () => this.turn(-this.page));
        this.before.addEventListener("click", () => this.turn(-1));
        this.after.addEventListener("click", () => this.turn(1));
    }

    sortBy(i) {
        const [column, direction] = this.sort ?? [];
        this.sort = column === i ? [i, -direction] : [i, this.columns[i][3] === "text" ? 1 : -1];
        this.heads.forEach((th, n) => (n === i ? th.setAttribute("aria-sort", this.sort[1] > 0 ? "ascending" : "descending") : th.removeAttribute("aria-sort")));
        this.draw();
    }

    turn(pages) {
        this.page += pages;
        this.draw();
    }

    update(rows, now) {
        this.rows = rows;
        this.now = now;
        this.draw();
    }

    draw() {
        const wanted = this.filter.value.trim().toLowerCase();
        const cells = (row) => this.columns.map(([, , text]) => text(row));
        let rows = wanted ? this.rows.filter((row) => cells(row).some((text) => text.toLowerCase().includes(wanted))) : [...this.rows];
        if (this.sort) {
            const [value, direction] = [this.columns[this.sort[0]][1], this.sort[1]];
            rows.sort((a, b) => direction * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0));
        } else rows.sort(this.order);
        const pages = Math.max(1, Math.ceil(rows.length / PAGE));
        this.page = Math.min(Math.max(0, this.page), pages - 1);
        const shown = rows.slice(this.page * PAGE, (this.page + 1) * PAGE);
        write(this.count, `${format(rows.length)} of ${format(this.rows.length)}; page ${this.page + 1} of ${pages}`);
        this.before.disabled = this.page === 0;
        this.after.disabled = this.page === pages - 1;
        while (this.body.rows.length > shown.length) this.body.lastElementChild.remove();
        while (this.body.rows.length < shown.length) this.body.append(this.makeRow());
        shown.forEach((row, i) => this.fill(this.body.rows[i], row, cells(row)));
    }

    makeRow() {
        const tr = document.createElement("tr");
        this.columns.forEach(([, , , kind], i) => {
            const cell = document.createElement(i ? "td" : "th");
            if (!i) cell.scope = "row";
            if (kind !== "text") cell.className = "number";
            tr.append(cell);
        });
        const old = document.createElement("td");
        old.className = "number";
        tr.append(old);
        if (this.action) {
            const cell = document.createElement("td");
            const button = document.createElement("button");
            button.type = "button";
            button.addEventListener("click", () => this.action.run(tr.of));
            cell.append(button);
            tr.append(cell);
        }
        return tr;
    }

    fill(tr, row, texts) {
        tr.of = row;
        texts.forEach((text, i) => write(tr.cells[i], text));
        const ms = this.now - (row.at ?? row.heard);
        write(tr.cells[texts.length], ms > FRESH_MS ? age(ms) : "");
        if (!this.action) return;
        const button = tr.lastElementChild.firstElementChild;
        write(button, this.action.text(row));
        button.setAttribute("aria-label", `${this.action.text(row)} ${texts[0]}`);
        button.hidden = !this.action.may(row);
    }
}

function headCell(text) {
    const th = document.createElement("th");
    th.scope = "col";
    th.textContent = text;
    return th;
}

/** Change a text only if it is another one. */
export function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
}
