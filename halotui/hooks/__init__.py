"""Who is told when a finding begins to fire, and when it is over: a webhook, a command, the desktop."""
