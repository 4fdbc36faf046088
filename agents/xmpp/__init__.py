"""The control plane's shell: XMPP on one side, the core's values on the other. It decides
nothing."""
