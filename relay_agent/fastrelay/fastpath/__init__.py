"""What the relay says to the kernel: maps, connections, members, intents, outcomes, credit."""
