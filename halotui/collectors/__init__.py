"""One file per source. A collector reads it through its Host and returns a small frozen struct,
or raises ``Unavailable`` with the reason. No history, no rates, no clock."""
