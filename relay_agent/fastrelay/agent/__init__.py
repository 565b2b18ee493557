"""The node agent: finds relays' interfaces, loads and attaches the programs, keeps the pins."""
