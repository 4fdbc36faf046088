// Items of the operator feeds and answers to commands: XML in, plain values out, or BadItem (docs/watch.md, plugins/feeds/atom.py).
// Nothing of it is trusted: each number has a range, each text and list a limit.

const ATOM = "http://www.w3.org/2005/Atom";
const FEED = "urn:geolane:feed:1";
const PLACEMENT = "urn:geolane:placement:1";
const GEO = "urn:geolane:geo:1";
export const OPERATOR = "urn:geolane:operator:1#";
export const COMMANDS = "http://jabber.org/protocol/commands";
export const DATA = "jabber:x:data";
const ROWS_LIMIT = 1_000;
const MOVES_LIMIT = 10_000;
const FIELDS_LIMIT = 2_000;
const OPTIONS_LIMIT = 1_000;
const TEXT_LIMIT = 1_000;
const ANSWER_LIMIT = 100_000;
const NUMBER = /^-?\d{1,18}(\.\d{1,18})?([eE][+-]?\d{1,3})?$/;
const WORD = /^[A-Za-z0-9_.:-]{1,128}$/;
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]+/g; // also what turns the direction of text around
const SEVERITIES = ["info", "warning", "critical", "calm"];
const LANES_TOPIC = "main/events.lanes";

export class BadItem extends Error {}

function bad(what) {
    throw new BadItem(what);
}

function number(x, name, low = 0, high = 1e15) {
    const text = x.getAttribute(name);
    if (text === null || !NUMBER.test(text)) bad(`${name}: not a number`);
    const value = Number(text);
    return value >= low && value <= high ? value : bad(`${name}: not between ${low} and ${high}`);
}

function whole(x, name, low = 0, high = 1e15) {
    const value = number(x, name, low, high);
    return Number.isInteger(value) ? value : bad(`${name}: not a whole number`);
}

function word(x, name) {
    const text = x.getAttribute(name) ?? "";
    return WORD.test(text) ? text : bad(`${name}: not a word`);
}

function oneLine(text, limit = TEXT_LIMIT) {
    return (text ?? "").slice(0, limit).replace(CONTROL, " ").trim();
}

function choice(x, name, choices) {
    const text = x.getAttribute(name);
    return choices.includes(text) ? text : bad(`${name}: not a known value`);
}

function children(x, namespace, name, limit) {
    const found = [...x.children].filter((c) => c.localName === name && c.namespaceURI === namespace);
    return found.length <= limit ? found : bad(`${name}: more than ${limit}`);
}

function child(x, namespace, name) {
    const found = children(x, namespace, name, 1);
    return found.length ? found[0] : null;
}

function place(x) {
    return { lat: number(x, "lat", -90, 90), lon: number(x, "lon", -180, 180) };
}

// ---- feeds ----

/** The value of one `<item/>`: {feed, id, title, at (epoch ms), kind, ...}. Throws BadItem. */
export function readItem(feed, item) {
    if (item.children.length !== 1) bad("item: one entry is needed");
    const entry = item.children[0];
    if (entry.localName !== "entry" || entry.namespaceURI !== ATOM) bad("item: not an Atom entry");
    const typed = [...entry.children].filter((c) => c.namespaceURI !== ATOM);
    if (typed.length !== 1) bad("entry: one typed element is needed");
    const at = Date.parse(child(entry, ATOM, "updated")?.textContent ?? "");
    if (!Number.isFinite(at)) bad("updated: not a time");
    const read = READERS[`${typed[0].namespaceURI} ${typed[0].localName}`] ?? bad(`${oneLine(typed[0].localName, 40)}: not a known element`);
    return {
        feed,
        id: oneLine(item.getAttribute("id"), 200),
        title: oneLine(child(entry, ATOM, "title")?.textContent),
        at,
        epoch: whole(typed[0], "leader_epoch"),
        ...read(typed[0]),
    };
}

const READERS = {
    [`${FEED} fleet`]: readFleet,
    [`${FEED} alert`]: (x) => ({ kind: "alert", severity: choice(x, "severity", SEVERITIES), about: oneLine(x.getAttribute("about")) }),
    [`${FEED} hotspot`]: readHotspot,
    [`${PLACEMENT} placement`]: (x) => ({ kind: "plan", by: oneLine(x.getAttribute("by")), moves: readMoves(x) }),
    [`${PLACEMENT} figures`]: (x) => ({ kind: "figures", gap: number(x, "gap"), moves: whole(x, "moves"), waiting: whole(x, "waiting") }),
    [`${GEO} traffic`]: readTraffic,
};

const FIGURES = ["nodes", "nodes_available", "routers", "lanes", "lanes_assigned", "lanes_moving", "lanes_orphaned", "rate_eps", "arrival_eps",
    "lag_events", "p50_ms", "p99_ms"];

function readFleet(x) {
    const figures = Object.fromEntries(FIGURES.map((name) => [name, number(x, name)]));
    figures.paused = x.getAttribute("paused") === "true";
    const troubles = child(x, FEED, "troubles");
    return {
        kind: "fleet",
        figures,
        workers: readShare(child(x, FEED, "workers"), "worker", readWorker),
        lanes: readShare(child(x, FEED, "lanes"), "lane", readLane),
        troubles: troubles ? children(troubles, FEED, "trouble", ROWS_LIMIT).map(readTrouble) : [],
        troublesTotal: troubles ? whole(troubles, "total") : 0,
    };
}

function readShare(x, name, read) {
    if (x === null) return null;
    const turns = whole(x, "turns", 1, ROWS_LIMIT);
    return { turn: whole(x, "turn", 0, turns - 1), turns, rows: children(x, FEED, name, ROWS_LIMIT).map(read) };
}

function readWorker(x) {
    return {
        name: word(x, "name"),
        site: word(x, "site"),
        region: oneLine(x.getAttribute("region"), 100),
        ...place(x),
        state: word(x, "state"),
        lanes: whole(x, "lanes"),
        rate: number(x, "rate_eps"),
        lag: whole(x, "lag_events"),
        p99: number(x, "p99_ms"),
        capacity: number(x, "capacity_eps"),
    };
}

function readLane(x) {
    return {
        n: whole(x, "n"),
        node: x.getAttribute("node") ? word(x, "node") : "",
        state: word(x, "state"),
        ...place(x),
        rate: number(x, "rate_eps"),
        lag: whole(x, "lag_events"),
        p99: number(x, "p99_ms"),
    };
}

function readTrouble(x) {
    return {
        kind: word(x, "kind"),
        about: oneLine(x.getAttribute("about"), 200),
        severity: choice(x, "severity", SEVERITIES),
        forS: number(x, "for_s"),
        text: oneLine(x.textContent),
    };
}

function readHotspot(x) {
    return {
        kind: "hotspot",
        name: word(x, "id"),
        state: choice(x, "state", ["open", "grown", "ended"]),
        place: oneLine(x.getAttribute("place"), 200),
        ...place(x),
        eps: number(x, "eps"),
        usual: number(x, "usual_eps"),
    };
}

function readTraffic(x) {
    const rows = children(x, GEO, "lane", ROWS_LIMIT).map((r) => ({
        n: whole(r, "n"),
        index: number(r, "index"),
        live: r.getAttribute("live") === "1",
        provider: oneLine(r.getAttribute("provider"), 40),
        place: oneLine(r.getAttribute("place"), 100),
        ageS: number(r, "age_s"),
        validS: number(r, "valid_s"),
    }));
    return { kind: "traffic", lanes: whole(x, "lanes"), rows };
}

/** The moves of lanes in a plan or a dry run; those of other partitions are left out. */
function readMoves(x) {
    return children(x, PLACEMENT, "move", MOVES_LIMIT)
        .filter((m) => (m.getAttribute("topic") ?? LANES_TOPIC) === LANES_TOPIC)
        .map((m) => ({
            lane: whole(m, "lane"),
            from: m.getAttribute("from") ? word(m, "from") : "",
            to: word(m, "to"),
            deltaMs: number(m, "delta_ms", -1e15),
        }));
}

// ---- commands (XEP-0050) ----

const STATUSES = ["executing", "completed", "canceled"];
const ACTIONS = ["prev", "next", "complete"];
const KINDS = ["fixed", "list-single", "text-single"];

/** One stage of a dialog: {session, status, actions (the default first), notes, title, instructions, fields, moves}. Throws BadItem. */
export function readReply(command) {
    const form = child(command, DATA, "x");
    const actions = child(command, COMMANDS, "actions");
    const plan = child(command, PLACEMENT, "placement");
    const first = actions?.getAttribute("execute") ?? "next";
    return {
        session: word(command, "sessionid"),
        status: choice(command, "status", STATUSES),
        actions: ACTIONS.filter((name) => actions && child(actions, COMMANDS, name)).sort((a, b) => (b === first) - (a === first)),
        notes: children(command, COMMANDS, "note", FIELDS_LIMIT).map((x) => ({ mood: x.getAttribute("type") ?? "info", text: severalLines(x.textContent) })),
        title: form ? oneLine(child(form, DATA, "title")?.textContent) : "",
        instructions: form ? oneLine(child(form, DATA, "instructions")?.textContent) : "",
        fields: form
            ? joinLines(children(form, DATA, "field", FIELDS_LIMIT).filter((x) => x.getAttribute("type") !== "hidden" && x.getAttribute("var")).map(readField))
            : [],
        moves: plan ? readMoves(plan) : [],
        movesTotal: plan ? whole(plan, "total") : 0,
    };
}

function readField(x) {
    const kind = x.getAttribute("type") ?? "text-single";
    return {
        name: word(x, "var"),
        kind: KINDS.includes(kind) ? kind : bad("field: an unknown type"),
        label: oneLine(x.getAttribute("label")),
        note: oneLine(child(x, DATA, "desc")?.textContent),
        required: child(x, DATA, "required") !== null,
        value: severalLines(children(x, DATA, "value", TEXT_LIMIT).map((v) => v.textContent).join("\n")),
        options: children(x, DATA, "option", OPTIONS_LIMIT).map((o) => ({
            label: oneLine(o.getAttribute("label")),
            value: oneLine(child(o, DATA, "value")?.textContent),
        })),
    };
}

/** A text comes as one fixed field a line: NAME-line-N begins a line, NAME-more-N continues the line before (plugins/commands). */
function joinLines(fields) {
    const whole = [];
    for (const field of fields) {
        const before = whole.at(-1);
        const how = before && before.kind === "fixed" && field.kind === "fixed" && /^(.*)-(line|more)-\d+$/.exec(field.name);
        if (how && how[1] === before.name) before.value = (before.value + (how[2] === "line" ? "\n" : " ") + field.value).slice(0, ANSWER_LIMIT);
        else whole.push(field);
    }
    return whole;
}

function severalLines(text) {
    return text.slice(0, ANSWER_LIMIT).split("\n").map((line) => line.replace(CONTROL, " ")).join("\n");
}

/** The commands in a list of items (XEP-0030): [{name, text}]. */
export function readListing(query) {
    return [...query.children]
        .slice(0, 200)
        .map((x) => ({ name: (x.getAttribute("node") ?? "").replace(OPERATOR, ""), text: oneLine(x.getAttribute("name")) }))
        .filter((c) => WORD.test(c.name));
}
