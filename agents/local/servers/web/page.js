// The ops room in a browser. Each person logs in with their own account. The page keeps the password only in its memory, so that it
// can reconnect.
import "./converse.min.js";

const { domain, room } = document.body.dataset;
const [login, chat, leave] = ["login", "chat", "leave"].map((id) => document.getElementById(id));
const enter = login.querySelector("button");
const LEAVE_MS = 2000;
let api;

function say(text) {
    document.getElementById("state").textContent = text;
}

function show(inside) {
    login.hidden = inside;
    chat.hidden = leave.hidden = !inside;
}

function refused(why) {
    show(false);
    say("");
    document.getElementById("wrong").textContent = why;
    enter.disabled = false;
    login.password.value = "";
    login.password.focus();
}

login.addEventListener("submit", async (event) => {
    event.preventDefault();
    const jid = login.jid.value.trim();
    document.getElementById("wrong").textContent = "";
    if (!jid.endsWith(`@${domain}`)) return refused(`An address here ends in @${domain}.`);
    enter.disabled = true;
    say("Logging in …");
    await api.user.login(jid, login.password.value);
});

leave.addEventListener("click", async () => {
    await Promise.race([api.user.logout(), new Promise((done) => setTimeout(done, LEAVE_MS))]);
    sessionStorage.clear();
    location.reload();
});

window.converse.plugins.add("geolane", {
    dependencies: ["converse-muc"],
    initialize() {
        const { _converse } = this;
        const { Strophe } = window.converse.env;
        api = _converse.api;
        let wrong = false;
        api.listen.on("pluginsInitialized", () => {
            _converse.state.config.save({ trusted: false });
        });
        api.listen.on("connfeedback", (feedback) => {
            wrong ||= feedback.get("connection_status") === Strophe.Status.AUTHFAIL;
        });
        api.listen.on("connected", inside);
        api.listen.on("reconnected", inside);
        api.listen.on("will-reconnect", () => say("The connection was lost. Connecting again …"));
        api.listen.on("disconnected", () => {
            const { message } = _converse.state.connfeedback.attributes;
            // converse.js reports a refusal twice
            if (enter.disabled) refused(wrong ? "That address or password is wrong." : message || "The server closed the connection.");
            wrong = false;
        });
        // The room cannot be destroyed or reconfigured here by mistake: provisioning made it.
        api.listen.on("getHeadingButtons", (_view, buttons) => buttons.filter((b) => b.a_class === "hide-topic" || b.i18n_text?.includes("participants")));
        // Each message shows its own time, to find the minute in which something broke.
        _converse.exports.MUCMessage.prototype.isFollowup = () => false;
        function inside() {
            login.password.value = "";
            show(true);
            say(`${_converse.session.get("bare_jid")}: connected`);
        }
    },
});

// Give a name or role, for screen readers, to elements that converse.js leaves without one.
const NAMES = { ".chat-textarea": `Message to ${room}`, ".send-button": "Send" };
const PICTURES = { ".chat-image": "Picture; the words beside it say the same" };
const ROLES = { ".occupant-list": "list", ".occupant-list li": "listitem" };
new MutationObserver(() => {
    for (const [attribute, wanted] of [["aria-label", NAMES], ["role", ROLES], ["alt", PICTURES]])
        for (const [what, value] of Object.entries(wanted))
            for (const element of chat.querySelectorAll(what)) if (!element.hasAttribute(attribute)) element.setAttribute(attribute, value);
}).observe(chat, { childList: true, subtree: true });

sessionStorage.clear();
await window.converse.initialize({
    // only this server
    websocket_url: `ws://${location.host}/ws`,
    assets_path: "./",
    discover_connection_methods: false,
    authentication: "login",
    auto_login: false,
    allow_registration: false,

    // nothing is kept after this tab is closed
    reuse_scram_keys: false,
    persistent_store: "sessionStorage",
    clear_cache_on_logout: true,
    enable_smacks: false, // a tab that is closed has left the room at once

    // one room, under one's own name
    singleton: true,
    auto_join_rooms: [room],
    muc_nickname_from_jid: true,
    muc_show_logs_before_join: true,
    muc_show_info_messages: [], // the list beside the room shows who is present
    muc_disable_slash_commands: true,
    allow_adhoc_commands: false,
    allow_message_retraction: "none",

    // appearance
    view_mode: "embedded",
    auto_insert: false,
    theme: "classic",
    dark_theme: "classic", // page.css has both
    i18n: "en",
    loglevel: "warn",
    time_format: "HH:mm:ss",
    show_message_avatar: false,
    play_sounds: false,
    show_desktop_notifications: false,
    render_media: true, // the bot's pictures (map, plot): images of this server only
    allowed_image_domains: [location.hostname],
    allowed_audio_domains: [],
    allowed_video_domains: [],
    embed_3rd_party_media_players: false,
    visible_toolbar_buttons: { call: false, emoji: false, spoiler: false, location: false, toggle_occupants: true },
    whitelisted_plugins: ["geolane"],
    blacklisted_plugins: ["converse-omemo", "converse-omemo-views", "converse-register", "converse-bosh", "converse-push"],
});
enter.disabled = false;
