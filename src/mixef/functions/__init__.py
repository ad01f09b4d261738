"""What is called by name besides `lmer` and `glmer`: functions of fits, or of data."""
