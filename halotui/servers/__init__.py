"""Launch, stop and relaunch llama-server. Data flows: profile or running server → wish → launch → plan →
transaction; nothing here draws, and nothing acts but ``transaction`` through its hands."""
