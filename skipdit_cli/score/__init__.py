"""Samples and a metric -> a result: scoring what is there, without generating anything."""
