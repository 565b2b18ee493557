"""Viewers on libraries that others wrote: the demo shows that the relay serves them too.

They run under a Python of their own (3.12 or newer, with aiomoqt and moq-rs installed), so
they import nothing from this package but each other.
"""
