"""Real video in and out: ffmpeg, CMAF and LOC, catalogs, latency reports.

The containers, catalogs and the mapping of samples to groups and objects are pure;
:mod:`~fastrelay.media.ffmpeg`, :mod:`~fastrelay.media.publisher` and
:mod:`~fastrelay.media.subscriber` are the shell around them.
"""
