"""The demo: real video from a publisher through the relay to several viewers, then a verdict."""
