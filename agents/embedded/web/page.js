// The ops room in a browser. One logs in as oneself; the password is in no page, and no longer than the page is open in its memory,
// so that a connection that was lost is made again.
import "./converse.min.js";

const { domain, room } = document.body.dataset;
const [login, chat, leave] = ["login", "chat", "leave"].map((id) => document.getElementById(id));
const AGAIN_MS = 2000;
let account = null; // { jid, password } once they were right
let api;

function say(text) {
    document.getElementById("state").textContent = text;
}

function show(inside) {
    login.hidden = inside;
    chat.hidden = leave.hidden = !inside;
}

function refused(why) {
    account = null;
    show(false);
    say("");
    document.getElementById("wrong").textContent = why;
    login.password.value = "";
    login.password.focus();
}

// The server that serves this page is the one that we talk to: when it answers again, so will the WebSocket.
async function again() {
    say("The server does not answer. Trying again …");
    for (;;) {
        await new Promise((done) => setTimeout(done, AGAIN_MS * (0.5 + Math.random())));
        const answer = await fetch("./", { method: "HEAD", cache: "no-store" }).catch(() => null);
        if (answer?.ok) break;
    }
    await api.user.login(account.jid, account.password);
}

login.addEventListener("submit", async (event) => {
    event.preventDefault();
    const jid = login.jid.value.trim();
    document.getElementById("wrong").textContent = "";
    if (!jid.endsWith(`@${domain}`)) return refused(`An address here ends in @${domain}.`);
    say("Logging in …");
    account = { jid, password: login.password.value };
    await api.user.login(jid, account.password);
});

leave.addEventListener("click", () => {
    sessionStorage.clear();
    location.reload();
});

window.converse.plugins.add("geolane", {
    initialize() {
        const { _converse } = this;
        api = _converse.api;

        api.listen.on("connectionInitialized", () => _converse.state.config.save({ trusted: false }));
        api.listen.on("connected", inside);
        api.listen.on("reconnected", inside);
        api.listen.on("will-reconnect", () => say("The connection was lost. Connecting again …"));
        api.listen.on("disconnected", () => {
            const { message } = _converse.state.connfeedback.attributes;
            if (account && !/incorrect/.test(message ?? "")) again();
            else refused(message || "The server closed the connection.");
        });
        // Nobody destroys or reconfigures the room from here by a slip: provisioning made it.
        api.listen.on("getHeadingButtons", (_view, buttons) => buttons.filter((b) => b.a_class === "hide-topic" || b.i18n_text?.includes("participants")));
        function inside() {
            login.password.value = "";
            show(true);
            say(`${account.jid}: connected`);
        }
    },
});

// What converse.js leaves without a name for a screen reader gets one.
const NAMES = { ".chat-textarea": `Message to ${room}`, ".send-button": "Send", ".hide-occupants": "Hide participants" };
new MutationObserver(() => {
    for (const [what, name] of Object.entries(NAMES))
        for (const element of chat.querySelectorAll(`${what}:not([aria-label])`)) element.setAttribute("aria-label", name);
}).observe(chat, { childList: true, subtree: true });

sessionStorage.clear();
await window.converse.initialize({
    // where: this very server, and no other
    websocket_url: `ws://${location.host}/ws`,
    assets_path: "./",
    discover_connection_methods: false,
    authentication: "login",
    auto_login: false,
    allow_registration: false,

    // nothing is kept beyond this tab
    reuse_scram_keys: false,
    persistent_store: "sessionStorage",
    clear_cache_on_logout: true,

    // one room, under one's own name
    singleton: true,
    auto_join_rooms: [room],
    muc_nickname_from_jid: true,
    muc_show_logs_before_join: true,
    muc_disable_slash_commands: true,
    allow_adhoc_commands: false,
    allow_message_retraction: "none",

    // how it looks
    view_mode: "embedded",
    auto_insert: false,
    theme: "classic",
    dark_theme: "classic", // page.css has both
    i18n: "en",
    loglevel: "warn",
    time_format: "HH:mm:ss",
    play_sounds: false,
    show_desktop_notifications: false,
    render_media: false,
    embed_3rd_party_media_players: false,
    visible_toolbar_buttons: { call: false, emoji: false, spoiler: false, location: false, toggle_occupants: true },
    whitelisted_plugins: ["geolane"],
    blacklisted_plugins: ["converse-omemo", "converse-omemo-views", "converse-register", "converse-bosh", "converse-push"],
});
