"""The HTTP API: policies for samplers and collectors, statistics back from them, and what people ask of a team."""
