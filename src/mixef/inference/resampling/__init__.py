"""What is refitted to draws: bootstrap, tests by simulation, power."""
