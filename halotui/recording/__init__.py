"""Frames on disk: the flight recorder, recordings to replay, and the past that the history view shows."""
