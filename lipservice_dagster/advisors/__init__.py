"""Who says what a pattern is worth: rules, or a language model. Arithmetic turns worth into rates."""
