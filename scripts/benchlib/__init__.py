"""The parts of scripts/bench. Reading order: machine, cells, figures; profile and micro stand alone."""
