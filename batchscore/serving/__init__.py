"""The local deployment: a model behind the Deployment API, and the demo models."""
