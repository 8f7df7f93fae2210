"""The Dagster graph: a module an asset with its checks beside it; jobs, schedules, sensors. Assembled in `definitions`."""
