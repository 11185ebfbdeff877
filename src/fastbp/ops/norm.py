"""Floor 0: normalisation: batch, group, instance, layer, RMS."""
