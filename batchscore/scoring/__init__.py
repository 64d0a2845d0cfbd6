"""From rows to predictions: encode, send, decode, in order. Nothing here knows a file."""
