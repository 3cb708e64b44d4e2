"""What carries the plan out: rows, chunks, messages, ends, upkeep."""
