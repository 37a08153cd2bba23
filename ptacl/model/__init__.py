"""Encoders, losses and cardiac phase. Shapes: B patients, L tokens, K phase bins, D features."""
