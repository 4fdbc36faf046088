// Operator commands by their forms (XEP-0050, XEP-0004): fill in, read the dry run, confirm. The dry run's moves are drawn before it is done.
const CHANGED_MAY = ["drain", "resume"];

export class Commands {
    /** `panel`: the element; `step`: as Session.step; `plan`: called with the moves to draw, [] when it is over. */
    constructor(panel, step, plan) {
        this.panel = panel;
        this.step = step;
        this.plan = plan;
        this.may = new Set();
        this.form = panel.querySelector("form");
        this.title = panel.querySelector("h2");
        this.text = panel.querySelector("pre");
        this.note = panel.querySelector("[role=alert]");
        this.fields = panel.querySelector(".fields");
        this.buttons = panel.querySelector(".buttons");
        this.picker = panel.querySelector("select");
        this.form.addEventListener("submit", (event) => {
            event.preventDefault();
            const first = this.buttons.querySelector("button[data-action]");
            if (first && !first.disabled) this.go(first.dataset.action);
        });
        panel.addEventListener("keydown", (event) => {
            if (event.key === "Escape" && this.open) this.cancel();
        });
        panel.querySelector("#give").addEventListener("click", () => this.picker.value && this.begin(this.picker.value));
    }

    /** Which commands this person may give: [{name, text}]. */
    offer(commands) {
        this.may = new Set(commands.map((c) => c.name));
        this.picker.replaceChildren(...commands.map((c) => new Option(c.text || c.name, c.name)));
    }

    get mayDrain() {
        return CHANGED_MAY.every((name) => this.may.has(name));
    }

    /** Begin a command, with the values that are known. */
    async begin(command, fields = {}) {
        if (this.busy) return;
        if (this.open) await this.cancel();
        this.command = command;
        this.open = null;
        this.show({ title: [command, ...Object.values(fields)].join(" "), text: "Asking ...", fields: [], actions: [], notes: [] });
        await this.send({ action: "execute", fields });
    }

    async go(action) {
        const fields = action === "prev" ? {} : Object.fromEntries([...new FormData(this.form)].filter(([, value]) => value !== ""));
        await this.send({ session: this.open, action, fields });
    }

    async cancel() {
        const session = this.open;
        this.end();
        this.show({ title: `${this.command}: nothing was done`, text: "", fields: [], actions: [], notes: [] });
        if (session) await this.step(this.command, { session, action: "cancel" }).catch(() => {}); // it expires by itself
    }

    /** Forget the dialog, whose answer can no longer come. */
    end() {
        this.open = null;
        this.busy = false;
        this.plan([]);
    }

    async send(what) {
        this.busy = true;
        for (const button of this.buttons.children) button.disabled = true;
        try {
            const reply = await this.step(this.command, what);
            this.busy = false;
            this.open = reply.status === "executing" ? reply.session : null;
            const text = reply.fields.filter((f) => f.kind === "fixed" || (f.name === "text" && !this.open)).map((f) => f.value).join("\n");
            const more = reply.movesTotal > reply.moves.length ? `\nThe map shows ${reply.moves.length} of ${reply.movesTotal} moves.` : "";
            this.show({
                title: reply.title || this.command,
                text: text + more || reply.instructions,
                fields: this.open ? reply.fields.filter((f) => f.kind !== "fixed") : [],
                actions: this.open ? reply.actions : [],
                notes: reply.notes,
                dry: this.open !== null && reply.fields.some((f) => f.kind === "fixed"),
            });
            this.plan(this.open ? reply.moves : []);
        } catch (e) {
            if (!("condition" in e)) throw e;
            this.end();
            this.show({ title: this.command, text: "", fields: [], actions: [], notes: [{ mood: "error", text: sentence(e) }] });
        }
    }

    show({ title, text, fields, actions, notes, dry = false }) {
        this.title.textContent = title;
        this.text.textContent = text;
        this.text.hidden = !text;
        this.note.textContent = notes.map((n) => n.text).join("\n");
        this.fields.replaceChildren(...fields.map(makeField));
        const names = { prev: "Back", next: "Next", complete: dry ? "Do it" : "Ask" };
        const buttons = actions.map((action) => {
            const button = document.createElement("button");
            button.type = "button";
            button.textContent = names[action];
            button.dataset.action = action;
            button.addEventListener("click", () => this.go(action));
            return button;
        });
        if (actions.length) {
            const stop = document.createElement("button");
            stop.type = "button";
            stop.textContent = dry ? "Change nothing" : "Cancel";
            stop.addEventListener("click", () => this.cancel());
            buttons.push(stop);
        }
        this.buttons.replaceChildren(...buttons);
        this.panel.classList.toggle("dry", dry);
        // A dry run is confirmed on purpose: the focus goes to its text, not to the button.
        (fields.length ? this.fields.querySelector("input, select") : this.title).focus({ preventScroll: true });
        this.panel.scrollIntoView({ block: "nearest" }); // with its buttons
    }
}

function makeField(field) {
    const label = document.createElement("label");
    label.textContent = `${field.label || field.name}${field.required ? "" : " (may be left out)"}${field.note ? `: ${field.note}` : ""}`;
    const input = document.createElement(field.kind === "list-single" ? "select" : "input");
    if (field.kind === "list-single") {
        if (!field.required) input.append(new Option("", ""));
        input.append(...field.options.map((o) => new Option(o.label || o.value, o.value)));
    } else input.maxLength = 1_000;
    input.name = field.name;
    input.required = field.required;
    if (field.value) input.value = field.value;
    label.append(input);
    return label;
}

function sentence(error) {
    if (error.detail === "bad-sessionid") return "The leader has changed since, or it took too long: nothing was done. Ask again.";
    return error.message;
}
