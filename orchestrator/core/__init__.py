"""The pure core: events in, commands out. Standard library only; no clock, no dice, no I/O, no logging."""
