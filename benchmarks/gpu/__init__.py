"""What only a GPU can answer: questions of a few minutes each, restartable, with JSON answers. README.md."""
