"""The control plane's shell: it translates between XMPP and the core's values, and decides
nothing."""
