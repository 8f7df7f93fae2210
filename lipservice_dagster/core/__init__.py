"""Pure ideas: text and numbers in, text and numbers out. Nothing here imports Dagster, a database or the network."""
