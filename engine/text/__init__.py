"""What a person types: weights, tokens, styles, wildcards and schedules; pure text, no torch."""
