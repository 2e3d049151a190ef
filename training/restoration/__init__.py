"""Training of the propagating restorer: uploads with known degradations, samples, the loop, validation."""
