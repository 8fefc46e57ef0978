"""What is usual on this box: gathered from finished requests, and compared with."""
