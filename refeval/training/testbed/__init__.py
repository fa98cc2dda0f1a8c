"""The sprites world as a testbed: the whole training, with everything small enough to learn something on a CPU."""
