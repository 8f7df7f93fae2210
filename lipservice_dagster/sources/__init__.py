"""Where logs come from: one `LogSource` interface, one method a question."""
