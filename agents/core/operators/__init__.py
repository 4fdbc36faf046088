"""Operator commands: `registry` declares each once, `chat` takes chat messages, `form_dialogs`
takes forms; most other files are one command each."""
