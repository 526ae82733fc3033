"""Sessions that are conversations with a model, over the API of its provider."""
