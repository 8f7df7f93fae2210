"""The Dagster graph: a module an asset with its checks beside it; jobs, schedules, sensors. `definitions` assembles.

Dagster reads the annotations of assets, checks and sensors as they stand, so these modules do not postpone theirs.
"""
