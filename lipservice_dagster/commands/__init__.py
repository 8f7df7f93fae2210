"""What the commands of `lipservice` do; `cli` says which there are and what they take."""
