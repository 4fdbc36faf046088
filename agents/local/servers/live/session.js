// One person's session with the XMPP server: log in, subscribe to the operator feeds, give commands; reconnect when the connection is lost.
// The password stays in this object, for reconnecting, and is forgotten with it.
import { COMMANDS, DATA, OPERATOR, BadItem, readItem, readListing, readReply } from "./feeds.js";
import { $build, $iq, $pres, Strophe } from "./lib/strophe.js/strophe.esm.js";

const PUBSUB = "http://jabber.org/protocol/pubsub";
const ITEMS = "http://jabber.org/protocol/disco#items";
const FEEDS = { fleet: 1, placement: 20, alerts: 20, hotspots: 100, geo: 1 }; // with the number of newest items to read first
const CONNECT_MS = 15_000;
const ANSWER_MS = 15_000;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 15_000;
const SILENT_MS = 10_000; // then the feeds are subscribed to again; without an answer the connection is lost
const NOBODY = ["service-unavailable", "recipient-unavailable", "gone", "remote-server-not-found", "remote-server-timeout"];

/** A request that was refused or not answered. `condition`: of RFC 6120, or `timeout`; `detail`: XEP-0050's own. */
export class Refused extends Error {
    constructor(condition, text = "", detail = "") {
        super(text || condition);
        this.condition = condition;
        this.detail = detail;
    }
}

export class Session {
    /**
     * `place`: {fleet, websocket}. `on`: {item(value, ageMs), bad(why), online(), waiting(why, ms), refused(why), ended()}.
     */
    constructor(place, on) {
        this.place = place;
        this.on = on;
        this.leader = `geolane@${place.fleet}/leader`;
        this.service = `pubsub.${place.fleet}`;
        this.closed = false;
        this.failures = 0;
        this.wasOnline = false;
        this.heard = 0;
        this.asked = new Set(); // how to fail each request that waits
    }

    /** Log in, and stay in until `close`. */
    start(jid, password) {
        this.jid = jid;
        this.password = password;
        this.connect();
    }

    close() {
        this.closed = true;
        this.password = "";
        clearTimeout(this.timer);
        this.connection?.disconnect("closed");
        this.on.ended();
    }

    // ---- the connection ----

    connect() {
        const connection = new Strophe.Connection(this.place.websocket, { mechanisms: [Strophe.SASLSHA256] });
        this.connection = connection;
        this.over = false;
        this.timer = setTimeout(() => this.lose(connection, "the server does not answer"), CONNECT_MS);
        connection.connect(this.jid, this.password, (status, why) => this.handleStatus(connection, status, why));
    }

    handleStatus(connection, status, why) {
        const { Status } = Strophe;
        if (connection !== this.connection || this.over || this.closed) return;
        if (status === Status.CONNECTED) this.begin(connection).catch((e) => this.giveUp(connection, e));
        else if (status === Status.AUTHFAIL) this.refuse("That address or password is wrong.");
        else if (status === Status.CONNFAIL || status === Status.CONNTIMEOUT) this.lose(connection, why || "the server cannot be reached");
        else if (status === Status.DISCONNECTED) this.lose(connection, why || "the server closed the connection");
    }

    async begin(connection) {
        clearTimeout(this.timer);
        connection.addHandler((message) => this.handleMessage(message), null, "message", null, null, this.service);
        connection.send($pres().c("priority").t("-1")); // chats go to the person's other clients
        for (const [feed, newest] of Object.entries(FEEDS)) await this.subscribe(feed, newest);
        if (connection !== this.connection || this.over || this.closed) return;
        this.failures = 0;
        this.wasOnline = true;
        this.heard = Date.now();
        this.watch(connection);
        this.on.online();
    }

    giveUp(connection, error) {
        if (error instanceof Refused && ["forbidden", "not-allowed", "closed-node", "not-authorized"].includes(error.condition))
            this.refuse("You may not read this fleet's feeds: an owner of the ops room has to invite you.");
        else this.lose(connection, error.message);
    }

    refuse(why) {
        this.closed = true;
        this.password = "";
        clearTimeout(this.timer);
        this.connection.disconnect("refused");
        this.on.refused(why);
    }

    /** Connect again after a random time, up to 15 s. */
    lose(connection, why) {
        if (connection !== this.connection || this.over || this.closed) return;
        this.over = true;
        clearTimeout(this.timer);
        for (const fail of this.asked) fail(new Refused("offline", "The connection was lost: whether it was done is not known."));
        connection.disconnect("lost");
        why = why.replace(/\.$/, "");
        if (!this.wasOnline) return this.refuse(`No connection to ${this.place.websocket}: ${why}. Is the server there, and does its websocket_origin name ${location.origin}?`);
        const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(this.failures++, 10));
        const wait = 200 + Math.random() * (longest - 200);
        this.on.waiting(why, wait);
        this.timer = setTimeout(() => this.connect(), wait);
    }

    watch(connection) {
        this.timer = setTimeout(async () => {
            if (connection !== this.connection || this.over || this.closed) return;
            try {
                if (Date.now() - this.heard > SILENT_MS) for (const feed of Object.keys(FEEDS)) await this.subscribe(feed, 0);
                this.watch(connection);
            } catch (e) {
                this.giveUp(connection, e);
            }
        }, SILENT_MS);
    }

    /** Send the request and return its result. Throws Refused. An answer from somebody else is none. */
    ask(iq, to) {
        const connection = this.connection;
        return new Promise((resolve, reject) => {
            const id = connection.getUniqueId("live");
            const fail = (why) => {
                clearTimeout(timer);
                this.asked.delete(fail);
                connection.deleteHandler(handler);
                reject(why);
            };
            this.asked.add(fail);
            const handler = connection.addHandler(
                (answer) => {
                    if (answer.getAttribute("type") === "error") fail(refusal(answer));
                    clearTimeout(timer);
                    this.asked.delete(fail);
                    resolve(answer);
                    return false;
                },
                null,
                "iq",
                ["result", "error"],
                id,
                to,
            );
            const timer = setTimeout(() => fail(new Refused("timeout", "No answer came: whether it was done is not known.")), ANSWER_MS);
            iq.tree().setAttribute("id", id);
            iq.tree().setAttribute("to", to);
            try {
                connection.send(iq);
            } catch {
                fail(new Refused("offline", "There is no connection."));
            }
        });
    }

    // ---- feeds ----

    async subscribe(feed, newest) {
        await this.ask($iq({ type: "set" }).c("pubsub", { xmlns: PUBSUB }).c("subscribe", { node: feed, jid: this.connection.jid }), this.service);
        if (!newest) return;
        const answer = await this.ask($iq({ type: "get" }).c("pubsub", { xmlns: PUBSUB }).c("items", { node: feed, max_items: newest }), this.service);
        const items = [...answer.getElementsByTagNameNS(PUBSUB, "item")].slice(0, newest);
        for (const item of items.reverse()) this.readItem(feed, item, true); // the service lists the newest first
    }

    handleMessage(message) {
        const items = message.getElementsByTagNameNS(`${PUBSUB}#event`, "items")[0];
        if (message.getAttribute("type") === "error" || !items) return true;
        this.heard = Date.now();
        const kept = message.getElementsByTagNameNS("urn:xmpp:delay", "delay").length > 0;
        const feed = items.getAttribute("node");
        if (Object.hasOwn(FEEDS, feed)) for (const item of [...items.children].slice(0, 100)) if (item.localName === "item") this.readItem(feed, item, kept);
        return true;
    }

    readItem(feed, item, kept) {
        try {
            const value = readItem(feed, item);
            this.on.item(value, kept ? Math.max(1, Date.now() - value.at) : 0);
        } catch (e) {
            if (!(e instanceof BadItem)) throw e;
            this.on.bad(`${feed}: ${e.message}`);
        }
    }

    // ---- commands ----

    /** The commands that this person may give: [{name, text}]. Throws Refused. */
    async commands() {
        const answer = await this.askLeader($iq({ type: "get" }).c("query", { xmlns: ITEMS, node: COMMANDS }));
        return readListing(answer.getElementsByTagNameNS(ITEMS, "query")[0] ?? answer);
    }

    /** One step of a command: readReply's value. Throws Refused. */
    async step(command, { session, action = "execute", fields = {} } = {}) {
        const iq = $iq({ type: "set" }).c("command", { xmlns: COMMANDS, node: OPERATOR + command, action, ...(session && { sessionid: session }) });
        if (Object.keys(fields).length) {
            iq.c("x", { xmlns: DATA, type: "submit" });
            for (const [name, value] of Object.entries({ FORM_TYPE: OPERATOR + command, ...fields }))
                iq.cnode($build("field", { var: name }).c("value").t(value).tree()).up();
        }
        const answer = await this.askLeader(iq);
        const root = answer.getElementsByTagNameNS(COMMANDS, "command")[0];
        try {
            if (!root) throw new BadItem("command: missing");
            return readReply(root);
        } catch (e) {
            if (!(e instanceof BadItem)) throw e;
            throw new Refused("unreadable", `The answer cannot be read (${e.message}).`);
        }
    }

    async askLeader(iq) {
        try {
            return await this.ask(iq, this.leader);
        } catch (e) {
            if (NOBODY.includes(e.condition)) throw new Refused(e.condition, "No coordinator leads now: nothing was done.");
            throw e;
        }
    }
}

function refusal(answer) {
    const error = [...answer.children].find((x) => x.localName === "error");
    const inside = [...(error?.children ?? [])];
    const condition = inside.find((x) => x.namespaceURI === "urn:ietf:params:xml:ns:xmpp-stanzas" && x.localName !== "text");
    const text = inside.find((x) => x.localName === "text");
    const detail = inside.find((x) => x.namespaceURI === COMMANDS);
    return new Refused(condition?.localName ?? "undefined-condition", (text?.textContent ?? "").slice(0, 1_000), detail?.localName ?? "");
}
