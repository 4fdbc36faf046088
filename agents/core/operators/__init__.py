"""What people ask and hear: `desk` takes a line of chat, `commands` declares each command once,
`answers` and `news` word it."""
